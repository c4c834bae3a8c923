//! Following the controller: registration, metadata in order, and the roles that follow from it.

use conveyor_record::{BrokerEpoch, NodeId};
use conveyor_replication::{Incarnation, Replica, RoleChange};

use super::BrokerNode;
use crate::context::Context;
use crate::controller::{Placed, Record};
use crate::message::{Address, Message, PartitionId, Produced};
use crate::oracle::Observation;

impl BrokerNode {
    /// The controller has taken the registration of this start.
    pub(super) fn registered(&mut self, start: u64, epoch: BrokerEpoch, at: i64) {
        if start != self.start {
            return;
        }
        let node = self.node;
        if let Some(running) = self.running.as_mut().filter(|running| running.me.is_none()) {
            running.me = Some(Incarnation { node, epoch });
            running.registered_at = at;
        }
    }

    /// News from the controller.
    pub(super) fn metadata(
        &mut self,
        records: Vec<Placed>,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let mut news = false;
        for placed in records {
            if !self.take_record(&placed) {
                continue;
            }
            if let Record::Partition(partition) = &placed.record
                && partition.replicas.contains(&self.node)
            {
                self.ensure_copy(partition.partition, &ctx.scenario)?;
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
            let from = running.next_metadata;
            ctx.send(
                address,
                Address::Controller,
                Message::FetchMetadata { from },
            );
        }
        Ok(())
    }

    /// Takes a record if it is the next one.
    fn take_record(&mut self, placed: &Placed) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        if placed.at != running.next_metadata {
            return false;
        }
        running.image.apply(&placed.record);
        running.next_metadata += 1;
        true
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
        let (Some(me), at) = (running.me, running.next_metadata - 1) else {
            return Ok(());
        };
        let Some(record) = running.image.partitions.get(&partition) else {
            return Ok(());
        };
        let (state, brokers) = (record.state(), running.image.broker_states());
        let Some(copy) = running.copies.get_mut(&partition) else {
            return Ok(());
        };
        let log = copy.state();
        let registered_at = running.registered_at;
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
