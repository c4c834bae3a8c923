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

use conveyor_record::{LeaderEpoch, NodeId, Offset};
use conveyor_replication::{Durability, LogState};

use crate::broker::BrokerNode;
use crate::broker::shadow::Entry;
use crate::controller::{Image, PartitionRecord, Record};
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
        /// Its place.
        at: i64,
        /// The decision.
        record: Record,
    },
    /// The controller has come back with these decisions.
    Recovered {
        /// All of them.
        records: Vec<Record>,
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
    decisions: Vec<Record>,
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
            Observation::Decided { at, record } => self.decided(at, &record, brokers),
            Observation::Recovered { records } => self.recovered(&records, brokers),
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
        let present = self.image.partitions.get(&partition);
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
        let record = self.image.partitions.get(&partition);
        let decided = record
            .into_iter()
            .flat_map(|record| record.in_sync.iter().chain(&record.eligible));
        let is_back = |node: &NodeId| {
            let registered = self.image.brokers.get(node).map(|broker| broker.disk);
            !brokers[node].was_wiped
                || (registered == Some(brokers[node].disk_id)
                    && record.is_some_and(|record| record.in_sync.contains(node)))
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
        let record = self.image.partitions.get(&partition);
        let counts = record.is_some_and(|record| {
            record.in_sync.contains(&node) || record.eligible.contains(&node)
        });
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

    /// Nothing decided is gone or different. What was on its way to the disk when the controller went
    /// down may be there or not; if it is, it is decided.
    fn recovered(&mut self, records: &[Record], brokers: &Brokers) -> Verdict {
        let known = self.decisions.len();
        expect(records.get(..known) == Some(&self.decisions[..]), || {
            format!(
                "I14: the controller came back with {} decisions, {known} were made",
                records.len()
            )
        })?;
        for (at, record) in (0..).zip(records).skip(known) {
            self.decided(at, record, brokers)?;
        }
        Ok(())
    }

    fn decided(&mut self, at: i64, record: &Record, brokers: &Brokers) -> Verdict {
        let next = self.decisions.len() as i64;
        expect(at == next, || {
            format!("I14: decision {at} does not follow decision {}", next - 1)
        })?;
        self.decisions.push(record.clone());
        let old = match record {
            Record::Partition(partition) => {
                self.image.partitions.get(&partition.partition).cloned()
            }
            Record::Broker(_) => None,
        };
        self.image.apply(record);
        match record {
            Record::Partition(partition) => self.partition_decided(at, old, partition, brokers),
            Record::Broker(_) => Ok(()),
        }
    }

    fn partition_decided(
        &mut self,
        at: i64,
        old: Option<PartitionRecord>,
        record: &PartitionRecord,
        brokers: &Brokers,
    ) -> Verdict {
        let min_in_sync = self.min_in_sync;
        let durability = self.durability;
        expect(record.in_sync.is_disjoint(&record.eligible), || {
            format!("I11: in sync and eligible at once: {record:?}")
        })?;
        let enough = record.in_sync.len() >= min_in_sync;
        expect(!enough || record.eligible.is_empty(), || {
            format!("I11: enough are in sync, others are still eligible: {record:?}")
        })?;
        if let Some(old) = old {
            expect(record.partition_epoch > old.partition_epoch, || {
                format!("I14: the partition epoch did not grow: {record:?}")
            })?;
            expect(
                record.leader == old.leader || record.leader_epoch > old.leader_epoch,
                || format!("I7: a new leader in the same epoch: {record:?}"),
            )?;
        }
        let image = &self.image;
        let candidates: Vec<NodeId> = record
            .in_sync
            .iter()
            .chain(&record.eligible)
            .copied()
            // A disk that was lost since its broker registered: nobody can know yet.
            .filter(|node| {
                let registered = image.brokers.get(node).map(|broker| broker.disk);
                registered == Some(brokers[node].disk_id)
            })
            .collect();
        let known = self.partitions.entry(record.partition).or_default();
        known.epochs_given.entry(record.leader_epoch).or_insert(at);
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
                    .compare(broker, record.partition)
                    .map_err(|what| format!("I8: broker {node} may lead by {record:?}: {what}"))?;
            }
            holds(broker, record.partition, &last, durability)
                .map_err(|what| format!("I8: broker {node} may lead by {record:?}: {what}"))?;
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
