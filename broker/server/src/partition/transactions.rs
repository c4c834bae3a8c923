//! Which producers' transactions a partition takes records of (KIP-890).
//!
//! The first record of a transaction here is only taken after the transaction coordinator was asked
//! whether the partition is part of it. Between that answer and the append the transaction may end,
//! and its marker be written: a record behind its marker would hang in the log, or join the next
//! transaction. So the question is remembered here ([`Admission`]), a marker forgets it, and a record
//! whose question is forgotten is refused. What is compared and what is queued happens under one
//! lock, and a partition appends in the order in which it is queued.
//!
//! Nothing here is durable: after a restart each open transaction is asked about once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use conveyor_log::{AppendBatch, AppendError};
use conveyor_record::{ProducerEpoch, ProducerId};
use parking_lot::Mutex;

use super::{Acks, AppendFailure, Partition, Permits, Reply};
use crate::coordinator::TransactionalProducer;

/// The transactions that a partition knows of.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_question: u64,
    producers: BTreeMap<ProducerId, Entry>,
}

#[derive(Debug)]
struct Entry {
    epoch: ProducerEpoch,
    /// The number of the questions that are good; those asked at one time share it.
    question: u64,
    /// Questions that are not dropped yet.
    asking: usize,
    /// Whether a record of the transaction has been queued.
    is_open: bool,
}

/// Leave to append a record of a transaction, good until that transaction's marker is queued.
#[derive(Debug)]
pub(crate) struct Admission {
    partition: Arc<Partition>,
    producer: TransactionalProducer,
    /// The question that the leave rests on.
    number: u64,
    /// Whether the coordinator has to agree first.
    pub(crate) must_ask: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let transactions = &self.partition.transactions;
        transactions.forget(self.producer.id, self.number);
    }
}

impl OpenTransactions {
    /// The question that a record's admission rests on, and whether it has to be asked.
    fn ask(&self, producer: TransactionalProducer) -> (u64, bool) {
        let mut state = self.state.lock();
        let next = state.last_question + 1;
        let entry = state
            .producers
            .entry(producer.id)
            .and_modify(|entry| {
                // A newer incarnation has other transactions.
                if entry.epoch < producer.epoch {
                    *entry = Entry::new(producer.epoch, next);
                }
            })
            .or_insert_with(|| Entry::new(producer.epoch, next));
        if entry.epoch > producer.epoch {
            // A late record of an older one must not disturb the newer: this number is nobody's.
            state.last_question = next;
            return (next, true);
        }
        entry.asking += 1;
        let (number, must_ask) = (entry.question, !entry.is_open);
        state.last_question = state.last_question.max(number);
        (number, must_ask)
    }

    fn forget(&self, producer_id: ProducerId, number: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.producers.get_mut(&producer_id)
            && entry.question == number
        {
            entry.asking -= 1;
            if entry.asking == 0 && !entry.is_open {
                state.producers.remove(&producer_id);
            }
        }
    }

    /// Runs `queue`, telling it whether a record may be queued now; nothing else is queued for the
    /// partition's transactions meanwhile.
    fn admit(&self, producer: TransactionalProducer, number: u64, queue: impl FnOnce(bool)) {
        let mut state = self.state.lock();
        let entry = state.producers.get_mut(&producer.id);
        let entry = entry.filter(|entry| entry.epoch == producer.epoch && entry.question == number);
        let admitted = entry.map(|entry| entry.is_open = true).is_some();
        queue(admitted);
    }

    fn is_remembered(&self, producer: TransactionalProducer, number: u64) -> bool {
        let state = self.state.lock();
        let entry = state.producers.get(&producer.id);
        entry.is_some_and(|entry| entry.epoch == producer.epoch && entry.question == number)
    }

    /// Forgets the producer's transaction and everything asked about it, and runs `queue`.
    fn end(&self, producer_id: ProducerId, queue: impl FnOnce()) {
        let mut state = self.state.lock();
        state.producers.remove(&producer_id);
        queue();
    }
}

impl Entry {
    fn new(epoch: ProducerEpoch, question: u64) -> Self {
        Self {
            epoch,
            question,
            asking: 0,
            is_open: false,
        }
    }
}

impl Partition {
    /// What the next record of a producer's transaction needs.
    pub(crate) fn admission(self: &Arc<Self>, producer: TransactionalProducer) -> Admission {
        let (number, must_ask) = self.transactions.ask(producer);
        Admission {
            partition: Arc::clone(self),
            producer,
            number,
            must_ask,
        }
    }

    /// Queues the marker that ends a producer's transaction; records of it that come later are
    /// refused.
    pub(crate) fn append_marker(
        self: &Arc<Self>,
        producer_id: ProducerId,
        batch: AppendBatch,
        reply: Reply,
        permits: Permits,
    ) {
        self.transactions.end(producer_id, || {
            self.append(batch, Acks::All, reply, permits);
        });
    }

    /// Forgets the producer's transaction, before its marker is queued by other means: offsets of
    /// groups go through the task that owns them.
    pub(crate) fn end_transaction(&self, producer_id: ProducerId) {
        self.transactions.end(producer_id, || {});
    }
}

impl Admission {
    /// Queues a batch of the transaction. It is refused (`INVALID_TXN_STATE`) if the transaction has
    /// ended meanwhile.
    pub(crate) fn append(self, batch: AppendBatch, acks: Acks, reply: Reply, permits: Permits) {
        let partition = &self.partition;
        let mut refused = None;
        partition
            .transactions
            .admit(self.producer, self.number, |admitted| {
                if admitted {
                    partition.append(batch, acks, reply, permits);
                } else {
                    refused = Some(reply);
                }
            });
        if let Some(reply) = refused {
            reply.send(Err(AppendFailure::Refused(
                AppendError::InvalidTransactionState {
                    partition: partition.reader.partition().clone(),
                    producer_id: self.producer.id,
                },
            )));
        }
    }

    /// Whether no marker has been queued since the question was put.
    pub(crate) fn is_remembered(&self) -> bool {
        let transactions = &self.partition.transactions;
        transactions.is_remembered(self.producer, self.number)
    }

    /// Whether what belongs to the transaction may still be taken, for those who queue by other
    /// means.
    pub(crate) fn is_good(&self) -> bool {
        let mut is_good = false;
        let transactions = &self.partition.transactions;
        transactions.admit(self.producer, self.number, |admitted| is_good = admitted);
        is_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: TransactionalProducer = TransactionalProducer {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
    };
    const NEXT: TransactionalProducer = TransactionalProducer {
        id: ProducerId(7),
        epoch: ProducerEpoch(1),
    };

    fn admits(
        transactions: &OpenTransactions,
        producer: TransactionalProducer,
        number: u64,
    ) -> bool {
        let mut is_admitted = false;
        transactions.admit(producer, number, |admitted| is_admitted = admitted);
        is_admitted
    }

    #[test]
    fn a_transaction_is_asked_about_once() {
        let transactions = OpenTransactions::default();
        assert!(!admits(&transactions, PRODUCER, 1));
        let (number, must_ask) = transactions.ask(PRODUCER);
        assert!(must_ask && transactions.ask(PRODUCER) == (number, true));
        assert!(admits(&transactions, PRODUCER, number));
        assert_eq!(transactions.ask(PRODUCER), (number, false));
    }

    #[test]
    fn trap_30_a_marker_forgets_what_was_asked_before_it() {
        let transactions = OpenTransactions::default();
        let (late, _) = transactions.ask(PRODUCER);
        transactions.end(PRODUCER.id, || {});
        assert!(!admits(&transactions, PRODUCER, late));
        // Not even when the next transaction is open is the old record let in.
        let (number, must_ask) = transactions.ask(PRODUCER);
        assert!(must_ask && number != late);
        assert!(admits(&transactions, PRODUCER, number));
        assert!(!admits(&transactions, PRODUCER, late));
        transactions.end(PRODUCER.id, || {});
        assert!(!admits(&transactions, PRODUCER, number));
    }

    #[test]
    fn another_epoch_has_another_transaction() {
        let transactions = OpenTransactions::default();
        let (number, _) = transactions.ask(PRODUCER);
        assert!(admits(&transactions, PRODUCER, number));
        let (next, must_ask) = transactions.ask(NEXT);
        assert!(must_ask);
        assert!(!admits(&transactions, PRODUCER, number));
        assert!(!admits(&transactions, PRODUCER, next));
        assert!(admits(&transactions, NEXT, next));
    }

    #[test]
    fn a_late_record_of_an_older_epoch_leaves_the_newer_transaction_alone() {
        let transactions = OpenTransactions::default();
        let (asked, _) = transactions.ask(NEXT);
        let (late, must_ask) = transactions.ask(PRODUCER);
        assert!(must_ask && late != asked);
        assert!(!admits(&transactions, PRODUCER, late));
        assert!(admits(&transactions, NEXT, asked));
        transactions.forget(PRODUCER.id, late);
        assert_eq!(transactions.ask(NEXT), (asked, false));
    }

    #[test]
    fn a_question_that_nobody_answers_is_forgotten() {
        let transactions = OpenTransactions::default();
        let (first, _) = transactions.ask(PRODUCER);
        let (second, _) = transactions.ask(PRODUCER);
        transactions.forget(PRODUCER.id, first);
        assert!(admits(&transactions, PRODUCER, second), "one was given up");
        transactions.end(PRODUCER.id, || {});
        transactions.forget(PRODUCER.id, second);
        let (number, _) = transactions.ask(PRODUCER);
        transactions.forget(PRODUCER.id, number);
        assert!(transactions.state.lock().producers.is_empty());
    }
}
