//! The rules of [`Sequencer`] as sentences, and a seeded simulation against a model of a broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::*;

fn identity(epoch: i16) -> Identity {
    Identity {
        id: ProducerId(9),
        epoch: ProducerEpoch(epoch),
    }
}

/// A sequencer with `count` batches of 10 records (ids 1, 2, …) on their way.
fn sending(count: u64) -> Sequencer {
    let mut sequencer = Sequencer::new(identity(0), WINDOW);
    sequencer.push(0, 10);
    sequencer.sent(0);
    assert_eq!(sequencer.answered(0, Answer::Appended), Verdict::Delivered);
    for batch in 1..=count {
        assert_eq!(sequencer.push(batch, 10), batch as i32 * 10);
        assert_eq!(sequencer.next_to_send(), Some(batch));
        sequencer.sent(batch);
    }
    sequencer
}

fn lose_connection(sequencer: &mut Sequencer) {
    let batches: Vec<BatchId> = sequencer.entries.iter().map(|entry| entry.batch).collect();
    for batch in batches {
        sequencer.lost(batch);
    }
}

#[test]
fn the_first_batch_goes_alone_then_five_at_once() {
    let mut sequencer = Sequencer::new(identity(0), WINDOW);
    assert_eq!(sequencer.push(1, 3), 0);
    assert!(!sequencer.has_room());
    sequencer.sent(1);
    assert_eq!(sequencer.answered(1, Answer::Appended), Verdict::Delivered);
    for batch in 2..=6 {
        assert!(sequencer.has_room());
        sequencer.push(batch, 1);
    }
    assert!(!sequencer.has_room());
}

#[test]
fn the_window_counts_from_the_oldest_unsettled_batch() {
    let mut sequencer = sending(5);
    sequencer.answered(2, Answer::Appended);
    sequencer.answered(3, Answer::Appended);
    assert!(
        !sequencer.has_room(),
        "batch 1 would leave the broker's memory"
    );
    sequencer.answered(1, Answer::Appended);
    assert!(sequencer.has_room());
}

#[test]
fn a_retriable_failure_is_repaired_from_the_oldest_batch_on() {
    let mut sequencer = sending(3);
    assert_eq!(sequencer.answered(1, Answer::NotYet), Verdict::SendAgain);
    assert_eq!(sequencer.next_to_send(), Some(1));
    sequencer.sent(1);
    assert_eq!(
        sequencer.answered(2, Answer::OutOfSequence),
        Verdict::SendAgain
    );
    assert_eq!(
        sequencer.answered(3, Answer::OutOfSequence),
        Verdict::SendAgain
    );
    assert_eq!(
        sequencer.next_to_send(),
        None,
        "one at a time while repairing"
    );
    assert_eq!(sequencer.answered(1, Answer::Appended), Verdict::Delivered);
    assert_eq!(sequencer.next_to_send(), Some(2));
}

#[test]
fn after_a_broken_connection_everything_is_sent_again_in_order() {
    let mut sequencer = sending(3);
    lose_connection(&mut sequencer);
    for batch in 1..=3 {
        assert_eq!(sequencer.next_to_send(), Some(batch));
        sequencer.sent(batch);
        assert_eq!(
            sequencer.answered(batch, Answer::Appended),
            Verdict::Delivered
        );
    }
    assert!(sequencer.is_empty());
}

#[test]
fn a_refused_last_batch_frees_its_numbers() {
    let mut sequencer = sending(2);
    assert_eq!(sequencer.answered(2, Answer::Refused), Verdict::Failed);
    assert_eq!(sequencer.push(3, 1), 20);
    assert!(!sequencer.needs_identity());
}

#[test]
fn behind_a_refused_batch_the_rest_is_numbered_again() {
    let mut sequencer = sending(4);
    assert_eq!(sequencer.answered(2, Answer::Refused), Verdict::Failed);
    assert!(!sequencer.has_room());
    assert_eq!(
        sequencer.answered(3, Answer::OutOfSequence),
        Verdict::NumberAgain
    );
    assert!(
        !sequencer.needs_identity(),
        "batches 1 and 4 are not settled"
    );
    assert_eq!(
        sequencer.answered(4, Answer::OutOfSequence),
        Verdict::NumberAgain
    );
    assert_eq!(sequencer.answered(1, Answer::Appended), Verdict::Delivered);
    assert!(sequencer.needs_identity());
    assert_eq!(sequencer.reset(identity(1)), [(3, 0), (4, 10)]);
    assert_eq!(sequencer.next_to_send(), Some(3));
}

#[test]
fn behind_an_expired_batch_the_broker_is_asked_before_numbers_change() {
    let mut sequencer = sending(2);
    lose_connection(&mut sequencer);
    sequencer.expire(1);
    assert!(!sequencer.needs_identity());
    sequencer.sent(2);
    assert_eq!(
        sequencer.answered(2, Answer::Appended),
        Verdict::Delivered,
        "1 was there after all"
    );
    assert!(sequencer.needs_identity());
    assert_eq!(sequencer.reset(identity(1)), []);
    assert_eq!(sequencer.push(3, 1), 0);
}

#[test]
fn a_broker_without_memory_gets_new_numbers_unless_the_outcome_is_unclear() {
    let mut sequencer = sending(2);
    assert_eq!(
        sequencer.answered(1, Answer::OutOfSequence),
        Verdict::NumberAgain
    );
    assert_eq!(
        sequencer.answered(2, Answer::OutOfSequence),
        Verdict::NumberAgain
    );
    assert_eq!(sequencer.reset(identity(1)), [(1, 0), (2, 10)]);

    let mut sequencer = sending(1);
    lose_connection(&mut sequencer);
    sequencer.sent(1);
    assert_eq!(
        sequencer.answered(1, Answer::OutOfSequence),
        Verdict::Failed
    );
}

#[test]
fn a_batch_that_may_still_arrive_is_not_numbered_again() {
    let mut sequencer = sending(2);
    lose_connection(&mut sequencer);
    sequencer.expire(1);
    sequencer.sent(2);
    assert_eq!(
        sequencer.answered(2, Answer::OutOfSequence),
        Verdict::Failed
    );
    assert!(sequencer.needs_identity());
}

#[test]
fn late_answers_change_nothing() {
    let mut sequencer = sending(1);
    lose_connection(&mut sequencer);
    assert_eq!(sequencer.answered(1, Answer::Refused), Verdict::Settled);
    assert_eq!(sequencer.answered(77, Answer::Appended), Verdict::Settled);
    assert_eq!(sequencer.next_to_send(), Some(1));
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    assert_eq!(sequence_after(5, 2), 7);
}

/// What a broker keeps of one producer in one partition, after Kafka's rules.
#[derive(Default)]
struct Broker {
    log: Vec<BatchId>,
    epoch: Option<i16>,
    next_sequence: i32,
    /// `(base sequence, batch)` of the last [`WINDOW`] batches.
    remembered: VecDeque<(i32, BatchId)>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    batch: BatchId,
    epoch: i16,
    base_sequence: i32,
    record_count: i32,
}

impl Broker {
    fn append(&mut self, request: Request) -> Answer {
        match self.epoch {
            // Nothing known of the producer: any first sequence is taken.
            None => self.start(request),
            Some(epoch) if request.epoch < epoch => return Answer::OutOfSequence,
            Some(epoch) if request.epoch > epoch => {
                if request.base_sequence != 0 {
                    return Answer::OutOfSequence;
                }
                self.start(request);
            }
            Some(_) => {
                if self
                    .remembered
                    .iter()
                    .any(|&(base, _)| base == request.base_sequence)
                {
                    return Answer::Appended;
                }
                if request.base_sequence != self.next_sequence {
                    return Answer::OutOfSequence;
                }
            }
        }
        self.log.push(request.batch);
        self.next_sequence = sequence_after(request.base_sequence, request.record_count);
        self.remembered
            .push_back((request.base_sequence, request.batch));
        if self.remembered.len() > WINDOW {
            self.remembered.pop_front();
        }
        Answer::Appended
    }

    fn start(&mut self, request: Request) {
        self.epoch = Some(request.epoch);
        self.remembered.clear();
    }
}

/// A producer, a broker and the connection between them.
struct World {
    rng: rand_chacha::ChaCha8Rng,
    sequencer: Sequencer,
    sequences: BTreeMap<BatchId, (i32, i32)>,
    broker: Broker,
    /// Requests on the present connection, in order.
    requests: VecDeque<Request>,
    /// Requests of broken connections that a slow handler may still carry out.
    leftovers: VecDeque<Request>,
    answers: VecDeque<(BatchId, Answer)>,
    next_batch: BatchId,
    delivered: BTreeSet<BatchId>,
    failed: BTreeSet<BatchId>,
    /// Failed although certainly not appended.
    refused: BTreeSet<BatchId>,
    trouble: Trouble,
    trace: Vec<String>,
}

/// What may go wrong beside retriable errors and broken connections, after which no batch may fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The broker refuses some batches for good.
    Refusals,
    /// Refusals, and batches run out of time.
    Expiry,
}

const BATCHES: u64 = 40;

impl World {
    fn new(seed: u64, trouble: Trouble) -> Self {
        Self {
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
            sequencer: Sequencer::new(identity(0), WINDOW),
            sequences: BTreeMap::new(),
            broker: Broker::default(),
            requests: VecDeque::new(),
            leftovers: VecDeque::new(),
            answers: VecDeque::new(),
            next_batch: 0,
            delivered: BTreeSet::new(),
            failed: BTreeSet::new(),
            refused: BTreeSet::new(),
            trouble,
            trace: Vec::new(),
        }
    }

    fn run(mut self) -> Self {
        for step in 0..40_000 {
            if self.next_batch == BATCHES && self.sequencer.is_empty() {
                return self;
            }
            // Faults stop after a while: then everything must come to an end.
            self.step(step < 5_000);
        }
        panic!("no end after 40,000 steps:\n{}", self.trace.join("\n"));
    }

    fn step(&mut self, with_faults: bool) {
        match self.rng.random_range(0..100) {
            0..30 => self.send(),
            30..55 => self.serve(with_faults),
            55..85 => self.receive(),
            85..90 => self.leftover(),
            90..93 if with_faults => self.break_connection(),
            93..95 if with_faults && self.trouble == Trouble::Expiry => self.expire(),
            _ => self.reset(),
        }
    }

    fn send(&mut self) {
        if self.sequencer.has_room() && self.next_batch < BATCHES {
            let record_count = self.rng.random_range(1..4);
            let base_sequence = self.sequencer.push(self.next_batch, record_count);
            self.sequences
                .insert(self.next_batch, (base_sequence, record_count));
            self.next_batch += 1;
        }
        if let Some(batch) = self.sequencer.next_to_send() {
            self.sequencer.sent(batch);
            let (base_sequence, record_count) = self.sequences[&batch];
            let epoch = self.sequencer.identity().epoch.value();
            self.requests.push_back(Request {
                batch,
                epoch,
                base_sequence,
                record_count,
            });
            self.trace.push(format!(
                "send {batch} epoch {epoch} sequence {base_sequence}"
            ));
        }
    }

    fn serve(&mut self, with_faults: bool) {
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let fault = if with_faults {
            self.rng.random_range(0..20)
        } else {
            19
        };
        let has_refusals = self.trouble != Trouble::None;
        let answer = match fault {
            0 => Answer::NotYet,
            1 => {
                self.broker.append(request);
                Answer::Unclear
            }
            2 => Answer::Unclear,
            // Refused before its sequence is looked at; a batch that is in the log is answered as a
            // duplicate first.
            3 if has_refusals && !self.broker.log.contains(&request.batch) => {
                self.refused.insert(request.batch);
                Answer::Refused
            }
            4 if has_refusals && self.rng.random() => {
                self.broker.append(request);
                self.refused.insert(request.batch);
                Answer::Broken
            }
            _ => self.broker.append(request),
        };
        self.trace
            .push(format!("serve {} -> {answer:?}", request.batch));
        self.answers.push_back((request.batch, answer));
    }

    fn receive(&mut self) {
        let Some((batch, answer)) = self.answers.pop_front() else {
            return;
        };
        let verdict = self.sequencer.answered(batch, answer);
        self.trace
            .push(format!("answer {batch} {answer:?} -> {verdict:?}"));
        match verdict {
            Verdict::Delivered => assert!(self.delivered.insert(batch), "{batch} delivered twice"),
            Verdict::Failed => assert!(self.failed.insert(batch), "{batch} failed twice"),
            _ => {}
        }
    }

    /// A handler of an old connection carries out one more request.
    fn leftover(&mut self) {
        if let Some(request) = self.leftovers.pop_front() {
            let answer = self.broker.append(request);
            self.trace
                .push(format!("late {} -> {answer:?}", request.batch));
        }
    }

    fn break_connection(&mut self) {
        lose_connection(&mut self.sequencer);
        self.trace.push("broken".to_owned());
        self.leftovers.extend(self.requests.drain(..));
        self.answers.clear();
    }

    fn expire(&mut self) {
        let unsettled: Vec<BatchId> = self
            .sequencer
            .entries
            .iter()
            .filter(|entry| entry.state != State::Appended)
            .map(|entry| entry.batch)
            .collect();
        if unsettled.is_empty() {
            return;
        }
        let batch = unsettled[self.rng.random_range(0..unsettled.len())];
        self.trace.push(format!("expire {batch}"));
        self.sequencer.expire(batch);
        assert!(self.failed.insert(batch), "{batch} failed twice");
    }

    fn reset(&mut self) {
        if !self.sequencer.needs_identity() {
            return;
        }
        let epoch = self.sequencer.identity().epoch.value() + 1;
        for (batch, base_sequence) in self.sequencer.reset(identity(epoch)) {
            self.sequences.get_mut(&batch).unwrap().0 = base_sequence;
        }
        self.trace.push(format!("epoch {epoch}"));
    }

    fn check(&self, seed: u64) {
        let story = || format!("seed {seed}\n{}", self.trace.join("\n"));
        let log = &self.broker.log;
        assert!(
            log.is_sorted_by(|a, b| a < b),
            "twice or out of order: {log:?}\n{}",
            story()
        );
        for batch in 0..BATCHES {
            let (delivered, failed) = (
                self.delivered.contains(&batch),
                self.failed.contains(&batch),
            );
            assert!(
                delivered != failed,
                "{batch} must have one outcome\n{}",
                story()
            );
            assert!(
                !delivered || log.contains(&batch),
                "{batch} acknowledged, lost\n{}",
                story()
            );
        }
        let may_fail = self.trouble == Trouble::Expiry || !self.refused.is_empty();
        assert!(
            may_fail || self.failed.is_empty(),
            "failed without a reason\n{}",
            story()
        );
    }
}

#[test]
fn every_batch_is_appended_once_in_order_or_reported() {
    let start = rand::rng().next_u64();
    for seed in (0..300).chain((0..100).map(|n| start.wrapping_add(n))) {
        for trouble in [Trouble::None, Trouble::Refusals, Trouble::Expiry] {
            World::new(seed, trouble).run().check(seed);
        }
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let story = || World::new(42, Trouble::Expiry).run().trace;
    assert_eq!(story(), story());
}
