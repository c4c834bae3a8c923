//! The order of one partition's batches: which sequence numbers they carry, which may be sent, and
//! what an answer means. Pure: no clock, no network, no bytes.
//!
//! The broker takes a producer's batch only if its sequence follows the last one, and knows the last
//! [`WINDOW`] batches again. From that follow the rules here:
//!
//! - At most [`WINDOW`] batches are unsettled, counted from the oldest one: any of them sent again is
//!   either appended in its place or answered as a duplicate. Nothing is ever appended twice.
//! - Until a batch has been acknowledged under the present identity, and again after each failure,
//!   only the oldest unsettled batch is sent. (A broker that knows nothing of a producer may take
//!   any first sequence, so a second batch must not overtake the first.)
//! - A batch that is given up leaves a *gap*: the batches behind it are refused by the broker. They
//!   are settled one by one under the old identity, so that it is certain of each whether it was
//!   appended, and only then numbered again from 0 under a higher epoch (KIP-360).
//! - A batch is never numbered again while an earlier attempt of it may still be carried out (after a
//!   broken connection or a timeout at the broker): it would be appended twice. It is reported as
//!   failed instead.
//!
//! What this cannot exclude: a batch reported as failed may have been appended. It is then where it
//! belongs in the order, and once.

use std::collections::VecDeque;

use conveyor_record::{ProducerEpoch, ProducerId};

/// Batches a broker remembers of each producer and partition (Kafka's fixed number).
pub(crate) const WINDOW: usize = 5;

/// Names a batch within one producer.
pub(crate) type BatchId = u64;

/// Who the producer is to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// What the broker said about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in the log, now or since an earlier attempt.
    Appended,
    /// This attempt was not appended; another may be.
    NotYet,
    /// Another attempt may help, and this one may have been appended after all.
    Unclear,
    /// Its sequence does not follow what the broker knows of this producer.
    OutOfSequence,
    /// It will never be taken.
    Refused,
    /// There is no use in another attempt, but this one may have been appended.
    Broken,
}

/// What becomes of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Report it as delivered.
    Delivered,
    /// It will be sent again with the same sequence.
    SendAgain,
    /// It will be sent again with a new sequence, after [`Sequencer::reset`].
    NumberAgain,
    /// Report it as failed.
    Failed,
    /// It was settled before.
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be sent.
    Queued,
    /// On its way, not answered.
    Sent,
    /// In the log; kept until all before it are settled, because it counts in the window.
    Appended,
    /// Certainly not in the log; waits for a new number.
    Unnumbered,
}

#[derive(Debug)]
struct Entry {
    batch: BatchId,
    record_count: i32,
    base_sequence: i32,
    state: State,
    /// An earlier attempt may have been appended.
    is_unclear: bool,
    /// A batch before it was given up, so its sequence may not follow.
    is_behind_gap: bool,
}

impl Entry {
    fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Queued | State::Sent)
    }
}

/// The unsettled batches of one partition.
#[derive(Debug)]
pub(crate) struct Sequencer {
    identity: Identity,
    /// Batches that may be unsettled at once, 1 to [`WINDOW`].
    window: usize,
    next_sequence: i32,
    entries: VecDeque<Entry>,
    /// The broker has acknowledged a batch of this identity since the last failure.
    is_proven: bool,
    /// A batch was given up: no new ones until the identity has changed.
    has_gap: bool,
}

impl Sequencer {
    /// Starts at sequence 0 with at most `window` batches unsettled.
    pub(crate) fn new(identity: Identity, window: usize) -> Self {
        Self {
            identity,
            window: window.clamp(1, WINDOW),
            next_sequence: 0,
            entries: VecDeque::with_capacity(WINDOW),
            is_proven: false,
            has_gap: false,
        }
    }

    /// The identity that the present sequences belong to.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The sequence that the next batch will get.
    pub(crate) fn next_sequence(&self) -> i32 {
        self.next_sequence
    }

    /// Whether nothing is unsettled.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether another batch may get a sequence.
    pub(crate) fn has_room(&self) -> bool {
        let window = if self.is_proven { self.window } else { 1 };
        !self.has_gap && self.entries.len() < window
    }

    /// Gives a new batch its sequence and queues it.
    pub(crate) fn push(&mut self, batch: BatchId, record_count: i32) -> i32 {
        assert!(self.has_room(), "batch {batch} pushed beyond the window");
        assert!(record_count > 0, "batch {batch} without records");
        let base_sequence = self.next_sequence;
        self.next_sequence = sequence_after(base_sequence, record_count);
        self.entries.push_back(Entry {
            batch,
            record_count,
            base_sequence,
            state: State::Queued,
            is_unclear: false,
            is_behind_gap: false,
        });
        base_sequence
    }

    /// The batch that may be sent now.
    pub(crate) fn next_to_send(&self) -> Option<BatchId> {
        let mut unsettled = self.entries.iter().filter(|entry| entry.is_unsettled());
        let candidate = if self.is_proven {
            unsettled.find(|entry| entry.state == State::Queued)
        } else {
            unsettled
                .next()
                .filter(|entry| entry.state == State::Queued)
        };
        candidate.map(|entry| entry.batch)
    }

    /// Notes that a batch is on its way.
    pub(crate) fn sent(&mut self, batch: BatchId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.batch == batch) {
            entry.state = State::Sent;
        }
    }

    /// Takes the broker's answer about a batch that is on its way.
    pub(crate) fn answered(&mut self, batch: BatchId, answer: Answer) -> Verdict {
        let Some(index) = self.position(batch) else {
            return Verdict::Settled;
        };
        if self.entries[index].state != State::Sent {
            return Verdict::Settled;
        }
        match answer {
            Answer::Appended => self.appended(index),
            Answer::NotYet => self.send_again(index),
            Answer::Unclear => {
                self.entries[index].is_unclear = true;
                self.send_again(index)
            }
            Answer::OutOfSequence => self.out_of_sequence(index),
            Answer::Refused => {
                self.give_up(index);
                Verdict::Failed
            }
            Answer::Broken => {
                self.entries[index].is_unclear = true;
                self.give_up(index);
                Verdict::Failed
            }
        }
    }

    /// The connection on which a batch was on its way broke: nothing is known of it.
    pub(crate) fn lost(&mut self, batch: BatchId) {
        let Some(index) = self.position(batch) else {
            return;
        };
        if self.entries[index].state == State::Sent {
            self.entries[index].is_unclear = true;
            self.send_again(index);
        }
    }

    /// Gives a batch up, because its time is over. The caller reports it as failed.
    pub(crate) fn expire(&mut self, batch: BatchId) {
        let Some(index) = self.position(batch) else {
            return;
        };
        match self.entries[index].state {
            State::Unnumbered => {
                self.entries.remove(index);
            }
            State::Appended => {}
            State::Sent => {
                self.entries[index].is_unclear = true;
                self.give_up(index);
            }
            State::Queued => self.give_up(index),
        }
    }

    /// Whether nothing can go on before [`Sequencer::reset`].
    pub(crate) fn needs_identity(&self) -> bool {
        self.has_gap && !self.entries.iter().any(Entry::is_unsettled)
    }

    /// Numbers what is left again from 0, in order, under a new identity, and returns the new
    /// sequence of each.
    pub(crate) fn reset(&mut self, identity: Identity) -> Vec<(BatchId, i32)> {
        assert!(self.needs_identity(), "reset while batches are unsettled");
        assert!(
            identity.id != self.identity.id || identity.epoch > self.identity.epoch,
            "reset to {identity:?}, which does not follow {:?}",
            self.identity
        );
        self.identity = identity;
        self.is_proven = false;
        self.has_gap = false;
        self.next_sequence = 0;
        self.entries
            .retain(|entry| entry.state == State::Unnumbered);
        for entry in &mut self.entries {
            entry.state = State::Queued;
            entry.is_unclear = false;
            entry.is_behind_gap = false;
            entry.base_sequence = self.next_sequence;
            self.next_sequence = sequence_after(self.next_sequence, entry.record_count);
        }
        self.entries
            .iter()
            .map(|entry| (entry.batch, entry.base_sequence))
            .collect()
    }

    fn position(&self, batch: BatchId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.batch == batch)
    }

    fn appended(&mut self, index: usize) -> Verdict {
        self.entries[index].state = State::Appended;
        self.is_proven = true;
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.state == State::Appended)
        {
            self.entries.pop_front();
        }
        Verdict::Delivered
    }

    fn send_again(&mut self, index: usize) -> Verdict {
        self.entries[index].state = State::Queued;
        self.is_proven = false;
        Verdict::SendAgain
    }

    fn out_of_sequence(&mut self, index: usize) -> Verdict {
        if self.entries[index].is_behind_gap {
            return self.unnumber(index);
        }
        if self.entries.iter().take(index).any(Entry::is_unsettled) {
            return self.send_again(index);
        }
        // All before it are in the log, and still it does not follow: the broker has lost its memory
        // of this producer.
        self.open_gap_behind(index);
        self.unnumber(index)
    }

    fn unnumber(&mut self, index: usize) -> Verdict {
        if self.entries[index].is_unclear {
            self.give_up(index);
            return Verdict::Failed;
        }
        self.entries[index].state = State::Unnumbered;
        Verdict::NumberAgain
    }

    /// Removes an entry that will not be sent again.
    fn give_up(&mut self, index: usize) {
        let Some(entry) = self.entries.get(index) else {
            return;
        };
        let is_last = index + 1 == self.entries.len();
        if is_last && !entry.is_unclear && !entry.is_behind_gap {
            // Certainly not in the log and nothing numbered after it: its numbers are free again.
            self.next_sequence = entry.base_sequence;
        } else {
            self.open_gap_behind(index);
        }
        self.entries.remove(index);
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.state == State::Appended)
        {
            self.entries.pop_front();
        }
    }

    fn open_gap_behind(&mut self, index: usize) {
        self.has_gap = true;
        for entry in self.entries.iter_mut().skip(index + 1) {
            entry.is_behind_gap = true;
        }
    }
}

/// The sequence that follows `record_count` records from `base_sequence` on; after `i32::MAX` comes
/// 0, as in Kafka.
pub(crate) fn sequence_after(base_sequence: i32, record_count: i32) -> i32 {
    let next = i64::from(base_sequence) + i64::from(record_count);
    (next % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
