//! The one who sees everything, and what it insists on.
//!
//! Each step of the world leaves observations; each is checked against what has been seen so far, on
//! all disks. The rules (with the numbers of the project's list of invariants):
//! - I1, I2: what was committed once is the same wherever it is committed or read again.
//! - I3: a producer's sequences are dense in the order of offsets, nothing twice.
//! - I4: what is sent after an acknowledgement lies behind it.
//! - I6: log start ≤ high watermark ≤ log end, and neither start nor high watermark goes back.
//! - I7: one leader an epoch, and none of an epoch from before its registration; epochs in a log grow.
//! - I8: a new leader has everything committed, and so has whoever may become one.
//! - I9: logs agree below what is committed; at the end they agree whole.
//! - I10: no committed record is cut.
//! - I11: the controller's sets are disjoint, and nobody is kept eligible once enough are in sync.
//! - I12: what is acknowledged is on the platter of every member of the in-sync set.
//! - I14: the metadata never loses or changes what was decided.

use std::collections::BTreeMap;

use conveyor_controller::PartitionImage;
use conveyor_record::{LeaderEpoch, NodeId, Offset};
use conveyor_replication::{Durability, LogState};

use crate::broker::BrokerNode;
use crate::broker::shadow::Entry;
use crate::controller::{Image, Placed, view};
use crate::message::PartitionId;
use crate::scenario::Scenario;

mod partition;

use partition::Partition;

/// All brokers, up or down.
pub type Brokers = BTreeMap<NodeId, BrokerNode>;

/// Something that has happened and has to be checked.
#[derive(Debug, Clone)]
pub enum Observation {
    /// A leadership began.
    Led {
        /// Whose.
        node: NodeId,
        /// In which start of it.
        start: u64,
        /// Of which partition.
        partition: PartitionId,
        /// The epoch.
        epoch: LeaderEpoch,
        /// Place of its registration in the metadata.
        registered_at: i64,
        /// Place up to which it has applied the metadata.
        epoch_given_at: i64,
    },
    /// A leader appended.
    Appended {
        /// Who.
        node: NodeId,
        /// Where.
        partition: PartitionId,
        /// In which epoch.
        epoch: LeaderEpoch,
    },
    /// A leader's high watermark moved.
    Committed {
        /// Whose.
        node: NodeId,
        /// Of which partition.
        partition: PartitionId,
        /// In which epoch.
        epoch: LeaderEpoch,
        /// From where.
        from: Offset,
        /// To where.
        to: Offset,
        /// Whom it takes to be in sync.
        in_sync: Vec<NodeId>,
    },
    /// A leader acknowledged a batch.
    Acknowledged {
        /// Who.
        node: NodeId,
        /// Of which partition.
        partition: PartitionId,
        /// In which epoch.
        epoch: LeaderEpoch,
        /// First offset of the batch.
        base: Offset,
        /// Offset behind it.
        end: Offset,
        /// Whom it takes to be in sync.
        in_sync: Vec<NodeId>,
    },
    /// A follower cuts its log.
    Truncated {
        /// Who.
        node: NodeId,
        /// Of which partition.
        partition: PartitionId,
        /// In which leadership it follows.
        epoch: LeaderEpoch,
        /// What it cuts.
        cut: Vec<Entry>,
    },
    /// Where a log stands.
    Positions {
        /// Whose.
        node: NodeId,
        /// In which start of it.
        start: u64,
        /// Of which partition.
        partition: PartitionId,
        /// Where.
        state: LogState,
    },
    /// The controller's decision is durable.
    Decided {
        /// The decision.
        entry: Placed,
    },
    /// The controller has come back with these decisions.
    Recovered {
        /// All of them.
        entries: Vec<Placed>,
    },
    /// Records below an offset may go.
    Deleted {
        /// Of which partition.
        partition: PartitionId,
        /// Up to where.
        to: Offset,
    },
}

/// The checker.
#[derive(Debug)]
pub struct Oracle {
    partitions: BTreeMap<PartitionId, Partition>,
    image: Image,
    decisions: Vec<Placed>,
    min_in_sync: usize,
    durability: Durability,
}

type Verdict = Result<(), String>;

impl Oracle {
    /// Has seen nothing.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            partitions: BTreeMap::new(),
            image: Image::default(),
            decisions: Vec::new(),
            min_in_sync: scenario
                .replication
                .min_insync_replicas
                .min(scenario.replication_factor),
            durability: scenario.replication.durability,
        }
    }

    /// The metadata as it has been decided.
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// End of what producers have been told is committed.
    pub fn acknowledged(&self, partition: PartitionId) -> i64 {
        self.partitions
            .get(&partition)
            .map_or(0, |partition| partition.acknowledged)
    }

    /// End of what is committed.
    pub fn committed_end(&self, partition: PartitionId) -> i64 {
        self.partitions
            .get(&partition)
            .map_or(0, Partition::committed_end)
    }

    /// Checks one observation.
    pub fn check(&mut self, observation: Observation, brokers: &Brokers) -> Verdict {
        match observation {
            Observation::Led {
                node,
                partition,
                epoch,
                registered_at,
                ..
            } => self.led(node, partition, epoch, registered_at, brokers),
            Observation::Appended {
                node,
                partition,
                epoch,
            } => {
                let leader = self.partition(partition).leaders.get(&epoch).copied();
                expect(leader == Some(node), || {
                    format!("I7: broker {node} appended in epoch {epoch} of {leader:?}")
                })
            }
            Observation::Committed {
                node,
                partition,
                epoch,
                from,
                to,
                in_sync,
            } => self.committed(node, partition, epoch, (from, to), &in_sync, brokers),
            Observation::Acknowledged {
                node,
                partition,
                base,
                end,
                in_sync,
                ..
            } => self.acknowledged_batch(node, partition, (base, end), &in_sync, brokers),
            Observation::Truncated {
                node,
                partition,
                epoch,
                cut,
            } => self.truncated(node, partition, epoch, &cut),
            Observation::Positions {
                node,
                start,
                partition,
                state,
            } => self.positions(node, start, partition, state),
            Observation::Decided { entry } => self.decided(&entry, brokers),
            Observation::Recovered { entries } => self.recovered(&entries, brokers),
            Observation::Deleted { partition, to } => {
                let known = self.partition(partition);
                known.deleted_to = known.deleted_to.max(to.value());
                Ok(())
            }
        }
    }

    /// A consumer was given these.
    pub fn read(&mut self, partition: PartitionId, entries: &[Entry]) -> Verdict {
        let known = self.partition(partition);
        for entry in entries {
            let committed = known.at(entry.base);
            expect(committed == Some(entry), || {
                format!("I2: a consumer read {entry:?}, committed is {committed:?}")
            })?;
        }
        Ok(())
    }

    /// A producer was told that its batch lies at `offset`; what it sent it after ends at `after`.
    pub fn told(
        &mut self,
        partition: PartitionId,
        producer: i64,
        offset: i64,
        after: i64,
    ) -> Verdict {
        let known = self.partition(partition);
        let found = known.at(offset).copied();
        expect(
            found.is_some_and(|entry| entry.producer == producer),
            || format!("I1: producer {producer} was told offset {offset}, where {found:?} lies"),
        )?;
        expect(offset >= after, || {
            format!("I4: offset {offset} was given after {after} had been acknowledged")
        })?;
        let end = found.map_or(0, |entry| entry.next);
        known.acknowledged = known.acknowledged.max(end);
        Ok(())
    }

    fn partition(&mut self, partition: PartitionId) -> &mut Partition {
        self.partitions.entry(partition).or_default()
    }

    fn led(
        &mut self,
        node: NodeId,
        partition: PartitionId,
        epoch: LeaderEpoch,
        registered_at: i64,
        brokers: &Brokers,
    ) -> Verdict {
        let present = view::partition(&self.image, partition);
        let is_present = present.is_some_and(|record| record.leader_epoch == epoch);
        let known = self.partition(partition);
        let other = known.leaders.insert(epoch, node);
        expect(other.is_none_or(|other| other == node), || {
            format!("I7: brokers {node} and {other:?} lead epoch {epoch}")
        })?;
        let given_at = known.epochs_given.get(&epoch).copied();
        expect(given_at.is_some_and(|at| at >= registered_at), || {
            format!(
                "I7: broker {node}, registered at {registered_at}, leads epoch {epoch} given at \
                 {given_at:?}"
            )
        })?;
        if !is_present {
            // It hears late of an epoch that is over; what it had then was looked at then.
            return Ok(());
        }
        known
            .compare(&brokers[&node], partition)
            .map_err(|what| format!("I8: new leader {node} of epoch {epoch}: {what}"))
    }

    fn committed(
        &mut self,
        node: NodeId,
        partition: PartitionId,
        epoch: LeaderEpoch,
        (from, to): (Offset, Offset),
        in_sync: &[NodeId],
        brokers: &Brokers,
    ) -> Verdict {
        let durability = self.durability;
        let members = self.members(partition, in_sync, brokers);
        let known = self.partition(partition);
        let entries = brokers[&node]
            .shadows
            .get(&partition)
            .map_or_else(Vec::new, |shadow| {
                shadow.between(from.value(), to.value()).to_vec()
            });
        for entry in &entries {
            known.commit(entry, to.value(), epoch)?;
        }
        let entries: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| entry.base >= known.deleted_to)
            .collect();
        for member in members {
            holds(&brokers[&member], partition, &entries, durability).map_err(|what| {
                format!("I12: {to} is committed by {node}, in-sync broker {member}: {what}")
            })?;
        }
        Ok(())
    }

    /// Who must have what is committed: who is in sync or eligible by the controller, and who is in
    /// sync by the leader; but for those whose disk was lost and who are not back.
    fn members(
        &self,
        partition: PartitionId,
        in_sync: &[NodeId],
        brokers: &Brokers,
    ) -> Vec<NodeId> {
        let record = view::partition(&self.image, partition);
        let decided = record
            .into_iter()
            .flat_map(|record| record.isr.iter().chain(&record.elr));
        let is_back = |node: &NodeId| {
            !brokers[node].was_wiped()
                || (self.has_told(&brokers[node])
                    && record.is_some_and(|record| record.isr.contains(node)))
        };
        let members = decided.chain(in_sync).copied().filter(is_back);
        let mut members: Vec<NodeId> = members.collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    fn acknowledged_batch(
        &mut self,
        node: NodeId,
        partition: PartitionId,
        (base, end): (Offset, Offset),
        in_sync: &[NodeId],
        brokers: &Brokers,
    ) -> Verdict {
        let durability = self.durability;
        let members = self.members(partition, in_sync, brokers);
        let known = self.partition(partition);
        let shadow = brokers[&node].shadows.get(&partition);
        let entry = shadow.and_then(|shadow| shadow.at(base.value())).copied();
        if base.value() >= known.deleted_to {
            let entry = entry.ok_or_else(|| format!("I1: {base} is acknowledged and not there"))?;
            for member in members {
                holds(&brokers[&member], partition, &[entry], durability).map_err(|what| {
                    format!("I12: {base} is acknowledged, in-sync broker {member}: {what}")
                })?;
            }
        }
        expect(known.committed_end() >= end.value(), || {
            format!("I1: {base} is acknowledged by {node} and not committed")
        })
    }

    /// Cutting what a later leadership has committed is no loss if the broker has no part in it: it
    /// follows an epoch that is over, and will fetch the records again.
    fn truncated(
        &mut self,
        node: NodeId,
        partition: PartitionId,
        epoch: LeaderEpoch,
        cut: &[Entry],
    ) -> Verdict {
        let record = view::partition(&self.image, partition);
        let counts =
            record.is_some_and(|record| record.isr.contains(&node) || record.elr.contains(&node));
        let known = self.partition(partition);
        known.compared.remove(&node);
        for entry in cut {
            let is_committed = known.at(entry.base) == Some(entry);
            let since = known.committed_in(entry.base);
            let was_known = since.is_some_and(|since| since <= epoch);
            expect(!is_committed || !(counts || was_known), || {
                format!(
                    "I10: broker {node} in epoch {epoch} cuts {entry:?}, committed in {since:?}"
                )
            })?;
        }
        Ok(())
    }

    fn positions(
        &mut self,
        node: NodeId,
        start: u64,
        partition: PartitionId,
        state: LogState,
    ) -> Verdict {
        let known = self.partition(partition);
        expect(
            state.start <= state.high_watermark && state.high_watermark <= state.end,
            || format!("I6: broker {node} stands at {state:?}"),
        )?;
        let before = known.positions.insert((node, start), state);
        let Some(before) = before else { return Ok(()) };
        expect(
            before.start <= state.start && before.high_watermark <= state.high_watermark,
            || format!("I6: broker {node} went from {before:?} to {state:?}"),
        )
    }

    /// Whether the controller knows of the disk that a broker has now.
    pub fn has_told(&self, broker: &BrokerNode) -> bool {
        let registered = self.image.broker(broker.node);
        registered.is_some_and(|known| view::registered_start(known) >= broker.first_start)
    }

    /// Nothing decided is gone or different. What was on its way to the disk when the controller went
    /// down may be there or not; if it is, it is decided.
    fn recovered(&mut self, entries: &[Placed], brokers: &Brokers) -> Verdict {
        let known = self.decisions.len();
        expect(entries.get(..known) == Some(&self.decisions[..]), || {
            format!(
                "I14: the controller came back with {} decisions, {known} were made",
                entries.len()
            )
        })?;
        for entry in &entries[known..] {
            self.decided(entry, brokers)?;
        }
        Ok(())
    }

    fn decided(&mut self, entry: &Placed, brokers: &Brokers) -> Verdict {
        expect(entry.at == self.image.offset(), || {
            format!(
                "I14: decision {} does not follow {}",
                entry.at,
                self.image.offset()
            )
        })?;
        self.decisions.push(entry.clone());
        let before = self.image.clone();
        self.image.replay_all(&entry.records);
        let after = self.image.clone();
        for (partition, state) in view::partitions(&after) {
            let old = view::partition(&before, partition);
            if old != Some(state) {
                self.partition_decided(partition, entry.at, old, state, brokers)?;
            }
        }
        Ok(())
    }

    fn partition_decided(
        &mut self,
        partition: PartitionId,
        at: i64,
        old: Option<&PartitionImage>,
        state: &PartitionImage,
        brokers: &Brokers,
    ) -> Verdict {
        let durability = self.durability;
        let disjoint = state.isr.iter().all(|node| !state.elr.contains(node));
        expect(disjoint, || {
            format!("I11: in sync and eligible at once: {state:?}")
        })?;
        let enough = state.isr.len() >= self.min_in_sync;
        expect(!enough || state.elr.is_empty(), || {
            format!("I11: enough are in sync, others are still eligible: {state:?}")
        })?;
        if let Some(old) = old {
            expect(state.partition_epoch > old.partition_epoch, || {
                format!("I14: the partition epoch did not grow: {state:?}")
            })?;
            expect(
                state.leader == old.leader || state.leader_epoch > old.leader_epoch,
                || format!("I7: a new leader in the same epoch: {state:?}"),
            )?;
        }
        let candidates: Vec<NodeId> = state
            .isr
            .iter()
            .chain(&state.elr)
            .copied()
            // A disk that was lost since its broker registered: nobody can know yet.
            .filter(|node| self.has_told(&brokers[node]))
            .collect();
        let known = self.partition(partition);
        known.epochs_given.entry(state.leader_epoch).or_insert(at);
        let last: Vec<Entry> = known
            .committed
            .last()
            .copied()
            .into_iter()
            .filter(|entry| entry.base >= known.deleted_to)
            .collect();
        for node in candidates {
            let broker = &brokers[&node];
            if broker.is_running() {
                known
                    .compare(broker, partition)
                    .map_err(|what| format!("I8: broker {node} may lead by {state:?}: {what}"))?;
            }
            holds(broker, partition, &last, durability)
                .map_err(|what| format!("I8: broker {node} may lead by {state:?}: {what}"))?;
        }
        Ok(())
    }
}

/// A broker's log has these batches, and its disk too where that is promised.
fn holds(
    broker: &BrokerNode,
    partition: PartitionId,
    entries: &[Entry],
    durability: Durability,
) -> Verdict {
    if entries.is_empty() {
        return Ok(());
    }
    let Some(shadow) = broker.shadows.get(&partition) else {
        return Err("it has no log".to_owned());
    };
    for entry in entries {
        let found = shadow.at(entry.base);
        expect(found == Some(entry), || {
            format!("it has {found:?} for {entry:?}")
        })?;
    }
    if durability == Durability::Fsync {
        shadow.is_durable(&broker.disk, partition, entries)?;
    }
    Ok(())
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}
