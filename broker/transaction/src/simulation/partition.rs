//! A partition as a broker keeps it, as far as transactions go: a log of records and markers, part
//! of which a crash can still take away, and what follows from it about producers.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{ProducerEpoch, ProducerId};

use crate::Producer;

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A producer's record.
    Data {
        producer: Producer,
        sequence: i32,
        value: u64,
    },
    /// The end of a producer's transaction.
    Marker { producer: Producer, commit: bool },
}

/// Why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    InvalidProducerEpoch,
    OutOfOrderSequence,
    InvalidTxnState,
}

#[derive(Clone, Debug)]
struct State {
    epoch: ProducerEpoch,
    last_sequence: i32,
    is_open: bool,
}

/// Proof that no marker came since a transaction was asked for (KIP-890).
pub(super) type Guard = u64;

#[derive(Debug)]
pub(super) struct Partition {
    log: Vec<Entry>,
    durable: usize,
    producers: BTreeMap<ProducerId, State>,
    guards: BTreeMap<ProducerId, Guard>,
    next_guard: Guard,
    /// Switched off to see that the checks of the simulation would find it.
    is_guarded: bool,
}

impl Partition {
    pub(super) fn new(is_guarded: bool) -> Self {
        Self {
            log: Vec::new(),
            durable: 0,
            producers: BTreeMap::new(),
            guards: BTreeMap::new(),
            next_guard: 0,
            is_guarded,
        }
    }

    pub(super) fn end(&self) -> usize {
        self.log.len()
    }

    pub(super) fn durable(&self) -> usize {
        self.durable
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.log.len();
    }

    /// Loses all that is kept in memory, and the log from `end` on.
    pub(super) fn crash(&mut self, end: usize) {
        assert!(end >= self.durable);
        self.log.truncate(end);
        self.durable = end;
        self.producers.clear();
        self.guards.clear();
        for entry in std::mem::take(&mut self.log) {
            self.push(entry);
        }
    }

    /// Whether the producer's own transaction is open here, so that no question is needed.
    pub(super) fn is_open_for(&self, producer: Producer) -> bool {
        self.producers
            .get(&producer.id)
            .is_some_and(|state| state.is_open && state.epoch == producer.epoch)
    }

    /// Before the coordinator is asked.
    pub(super) fn guard(&mut self, producer: Producer) -> Guard {
        self.next_guard += 1;
        *self.guards.entry(producer.id).or_insert(self.next_guard)
    }

    pub(super) fn append(
        &mut self,
        producer: Producer,
        sequence: i32,
        value: u64,
        guard: Option<Guard>,
    ) -> Result<(), Refused> {
        let mut expected = None;
        if let Some(state) = self.producers.get(&producer.id) {
            if producer.epoch < state.epoch {
                return Err(Refused::InvalidProducerEpoch);
            }
            if producer.epoch == state.epoch {
                if sequence <= state.last_sequence {
                    return Ok(());
                }
                expected = Some(state.last_sequence + 1);
            } else {
                expected = Some(0);
            }
        }
        if expected.is_some_and(|expected| sequence != expected) {
            return Err(Refused::OutOfOrderSequence);
        }
        let is_verified = guard.is_some() && guard == self.guards.get(&producer.id).copied();
        if self.is_guarded && !self.is_open_for(producer) && !is_verified {
            return Err(Refused::InvalidTxnState);
        }
        self.push(Entry::Data {
            producer,
            sequence,
            value,
        });
        Ok(())
    }

    pub(super) fn append_marker(&mut self, producer: Producer, commit: bool) {
        if let Some(state) = self.producers.get(&producer.id) {
            assert!(
                producer.epoch >= state.epoch,
                "a marker of {producer} comes after epoch {}",
                state.epoch
            );
        }
        self.push(Entry::Marker { producer, commit });
    }

    fn push(&mut self, entry: Entry) {
        let (Entry::Data { producer, .. } | Entry::Marker { producer, .. }) = entry;
        let state = self.producers.entry(producer.id).or_insert(State {
            epoch: producer.epoch,
            last_sequence: -1,
            is_open: false,
        });
        if state.epoch != producer.epoch {
            state.epoch = producer.epoch;
            state.last_sequence = -1;
        }
        match entry {
            Entry::Data { sequence, .. } => {
                state.last_sequence = sequence;
                state.is_open = true;
            }
            Entry::Marker { .. } => state.is_open = false,
        }
        self.guards.remove(&producer.id);
        self.log.push(entry);
    }

    pub(super) fn has_open_transactions(&self) -> bool {
        self.producers.values().any(|state| state.is_open)
    }

    /// The values that readers of committed data see.
    pub(super) fn committed(&self) -> BTreeSet<u64> {
        let mut open: BTreeMap<ProducerId, Vec<u64>> = BTreeMap::new();
        let mut committed = BTreeSet::new();
        for entry in &self.log {
            match *entry {
                Entry::Data {
                    producer, value, ..
                } => open.entry(producer.id).or_default().push(value),
                Entry::Marker { producer, commit } => {
                    let values = open.remove(&producer.id).unwrap_or_default();
                    if commit {
                        for value in values {
                            assert!(committed.insert(value), "value {value} lies there twice");
                        }
                    }
                }
            }
        }
        committed
    }
}
