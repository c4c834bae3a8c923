//! Following the controller: registration, metadata in order, and the roles that follow from it.

use std::path::Path;

use conveyor_log::disk::write_atomically;
use conveyor_record::{BrokerEpoch, NodeId};
use conveyor_replication::{Incarnation, Replica, RoleChange};

use super::lifecycle::EPOCH_FILE;
use super::{BrokerNode, DIRECTORY};
use crate::context::Context;
use crate::controller::{Placed, view};
use crate::message::{Address, Message, PartitionId, Produced};
use crate::oracle::Observation;

impl BrokerNode {
    /// The controller has taken the registration of this start.
    pub(super) fn registered(&mut self, start: u64, epoch: BrokerEpoch) {
        let node = self.node;
        let is_mine = start == self.start;
        let Some(running) = self.running.as_mut().filter(|running| running.me.is_none()) else {
            return;
        };
        if !is_mine {
            return;
        }
        // On disk before it is used: by it the controller knows the disk again.
        let path = Path::new(DIRECTORY).join(EPOCH_FILE);
        let text = epoch.to_string();
        match write_atomically(&self.disk, &path, text.as_bytes()) {
            Ok(()) => running.me = Some(Incarnation { node, epoch }),
            Err(_) => running.failed = true,
        }
    }

    /// The controller knows another incarnation of this broker: a registration of an earlier start
    /// that came late, since two processes cannot hold one disk. The process ends, and the next start
    /// registers anew.
    pub(super) fn replaced(&mut self, epoch: BrokerEpoch) {
        if let Some(running) = &mut self.running
            && running.me.is_some_and(|me| me.epoch == epoch)
        {
            running.failed = true;
        }
    }

    /// News from the controller: whole decisions, of which nobody sees a part.
    pub(super) fn metadata(
        &mut self,
        entries: Vec<Placed>,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let mut news = false;
        for entry in entries {
            let Some(running) = &mut self.running else {
                return Ok(());
            };
            if entry.at != running.image.offset() {
                continue;
            }
            running.image.replay_all(&entry.records);
            let mine: Vec<PartitionId> = view::partitions(&running.image)
                .filter(|(_, partition)| partition.replicas.contains(&self.node))
                .map(|(id, _)| id)
                .collect();
            for partition in mine {
                self.ensure_copy(partition, &ctx.scenario)?;
            }
            news = true;
            // The rules see some of the states in between.
            if ctx.rng.one_in(2) {
                self.apply_image(ctx)?;
            }
        }
        if news {
            self.apply_image(ctx)?;
        }
        let address = self.address();
        if let Some(running) = &mut self.running {
            running.metadata_asked = Some(ctx.now);
            let from = running.image.offset();
            ctx.send(
                address,
                Address::Controller,
                Message::FetchMetadata { from },
            );
        }
        Ok(())
    }

    fn apply_image(&mut self, ctx: &mut Context) -> Result<(), String> {
        for partition in self.partitions() {
            self.apply_partition(partition, ctx)?;
        }
        Ok(())
    }

    fn apply_partition(&mut self, partition: PartitionId, ctx: &mut Context) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let (node, start, address) = (self.node, self.start, self.address());
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let (Some(me), at) = (running.me, running.image.offset() - 1) else {
            return Ok(());
        };
        let Some(decided) = view::partition(&running.image, partition) else {
            return Ok(());
        };
        let (state, brokers) = (view::state(decided), view::broker_states(&running.image));
        let Some(copy) = running.copies.get_mut(&partition) else {
            return Ok(());
        };
        let log = copy.state();
        let registered_at = me.epoch.value();
        let config = ctx.scenario.replication;
        let replica = copy
            .replica
            .get_or_insert_with(|| Replica::new(me, registered_at, config));
        let mut out = Vec::new();
        let change = replica.metadata_changed(at, &state, &brokers, &log, now_ms, &mut out);
        if matches!(
            change,
            RoleChange::Leads | RoleChange::Follows | RoleChange::Idles
        ) {
            // Whoever waits here waits for a leadership that is over.
            let leader = (state.leader != node).then_some(state.leader);
            for waiting in copy.waiting.drain(..) {
                let result = Produced::Retry(leader.filter(|leader| *leader != NodeId::NONE));
                let batch = waiting.batch;
                ctx.send(address, waiting.from, Message::Produced { batch, result });
            }
            copy.parked.clear();
        }
        if change == RoleChange::Leads {
            ctx.coverage.elections += 1;
            ctx.observe(Observation::Led {
                node,
                start,
                partition,
                epoch: state.leader_epoch,
                registered_at,
                epoch_given_at: at,
            });
        }
        self.carry_out(partition, out, ctx)?;
        if change == RoleChange::Follows {
            self.fetch_if_due(partition, ctx);
        }
        Ok(())
    }
}
