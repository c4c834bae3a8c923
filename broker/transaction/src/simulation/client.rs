//! A transactional producer as its client sees it: one call at a time, repeated until it is answered.

use std::collections::BTreeMap;

use crate::{Producer, TransactionError, TransactionVersion};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init,
    /// First version only: the broker adds partitions by itself in the second.
    Add {
        partition: usize,
    },
    Produce {
        partition: usize,
        sequence: i32,
        value: u64,
    },
    End {
        commit: bool,
    },
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Initialised(Producer),
    Done,
    Ended(Producer),
    TryAgain,
    /// This transaction is lost, the next may go well.
    Abortable,
    /// Somebody else has taken over, or nothing is certain any more.
    Fatal,
}

impl From<TransactionError> for Answer {
    fn from(error: TransactionError) -> Self {
        if error.is_retriable() {
            return Self::TryAgain;
        }
        match error {
            TransactionError::TransactionAbortable { .. } => Self::Abortable,
            _ => Self::Fatal,
        }
    }
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No end was asked for.
    Open,
    /// A commit was asked for and not answered.
    Committing,
    Committed,
    /// An abort was asked for.
    Aborted,
}

/// One transaction of one client.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    /// Acknowledged values.
    pub(super) acknowledged: Vec<u64>,
    /// All values, those without an answer included.
    pub(super) sent: Vec<u64>,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) transactional_id: String,
    pub(super) version: TransactionVersion,
    pub(super) producer: Option<Producer>,
    pub(super) is_dead: bool,
    /// The call without an answer, and the number of its latest copy.
    pub(super) waiting: Option<(Call, u64)>,
    pub(super) transactions: Vec<Transaction>,
    is_open: bool,
    /// By the first version nobody knows the next sequence after a record was given up.
    is_lost: bool,
    added: Vec<usize>,
    sequences: BTreeMap<usize, i32>,
}

impl Client {
    pub(super) fn new(transactional_id: String, version: TransactionVersion) -> Self {
        Self {
            transactional_id,
            version,
            producer: None,
            is_dead: false,
            waiting: None,
            transactions: Vec::new(),
            is_open: false,
            is_lost: false,
            added: Vec::new(),
            sequences: BTreeMap::new(),
        }
    }

    /// The next call: initialise, then some records, then the end.
    pub(super) fn next_call(&mut self, partition: usize, value: u64, end: Option<bool>) -> Call {
        if self.producer.is_none() {
            return Call::Init;
        }
        if !self.is_open {
            self.is_open = true;
            self.added.clear();
            self.transactions.push(Transaction {
                acknowledged: Vec::new(),
                sent: Vec::new(),
                outcome: Outcome::Open,
            });
        }
        let has_records = self.last().is_some_and(|last| !last.sent.is_empty());
        if let Some(commit) = end.filter(|_| has_records) {
            return self.end(commit);
        }
        if !self.version.bumps_epoch() && !self.added.contains(&partition) {
            return Call::Add { partition };
        }
        let sequence = self.sequences.get(&partition).map_or(0, |last| last + 1);
        if let Some(last) = self.transactions.last_mut() {
            last.sent.push(value);
        }
        Call::Produce {
            partition,
            sequence,
            value,
        }
    }

    fn end(&mut self, commit: bool) -> Call {
        if let Some(last) = self.transactions.last_mut() {
            last.outcome = if commit {
                Outcome::Committing
            } else {
                Outcome::Aborted
            };
        }
        Call::End { commit }
    }

    /// A record is not answered for too long: the transaction is aborted with it on its way.
    pub(super) fn give_up(&mut self) -> Call {
        self.is_lost = !self.version.bumps_epoch();
        self.end(false)
    }

    fn last(&self) -> Option<&Transaction> {
        self.transactions.last()
    }

    /// Takes an answer; returns a call that has to follow at once.
    pub(super) fn take(&mut self, call: Call, answer: Answer) -> Option<Call> {
        match (call, answer) {
            (_, Answer::TryAgain) => return Some(call),
            (Call::Init, Answer::Initialised(producer)) => self.become_producer(producer),
            (Call::Add { partition }, Answer::Done) => self.added.push(partition),
            (
                Call::Produce {
                    partition,
                    sequence,
                    value,
                },
                Answer::Done,
            ) => {
                self.sequences.insert(partition, sequence);
                if let Some(last) = self.transactions.last_mut() {
                    last.acknowledged.push(value);
                }
            }
            (Call::End { commit }, Answer::Ended(producer)) => {
                self.is_open = false;
                self.is_dead = self.is_lost;
                self.become_producer(producer);
                if let Some(last) = self.transactions.last_mut().filter(|_| commit) {
                    last.outcome = Outcome::Committed;
                }
            }
            (Call::Produce { .. }, Answer::Abortable) if self.version.bumps_epoch() => {
                return Some(self.end(false));
            }
            _ => self.is_dead = true,
        }
        None
    }

    fn become_producer(&mut self, producer: Producer) {
        if self.producer != Some(producer) {
            self.sequences.clear();
        }
        self.producer = Some(producer);
    }
}
