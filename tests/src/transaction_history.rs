//! What transactional clients did and saw, and what must hold of it.
//!
//! Written by the clients of a test only, never by the broker. Every record carries a number that is
//! unique in the run:
//!
//! - **acknowledged commits stay**: every value of a transaction whose commit was answered is read;
//! - **whole or not at all**: of a transaction whose end is not known, all acknowledged values are
//!   read, or none;
//! - **no aborted read**: a value of a transaction whose commit nobody asked for is never read by
//!   readers of committed records, not in the end and not on the way;
//! - **once**: no value lies at two offsets; **nothing from nowhere**: every value was sent;
//! - **stable reads**: what a reader saw at an offset lies there in the end;
//! - **offsets agree with output**: what a consume-transform-produce loop has written is exactly
//!   what lies in its input below the offset that it has committed, in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A partition: which topic of the run, and its number.
pub type Place = (&'static str, i32);

/// How a transaction ended, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The commit was answered.
    Committed,
    /// A commit was asked for; what became of it is not known.
    Unknown,
    /// Nobody ever asked for a commit.
    NotCommitted,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Who, for messages.
    pub producer: String,
    /// Where each value went, and whether it was acknowledged.
    pub values: Vec<(Place, u64, bool)>,
    /// How it ended.
    pub end: End,
}

/// A consume-transform-produce loop over one partition, in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    /// What it reads; its values are their own.
    pub input: Place,
    /// Where it writes what it makes of each value.
    pub output: Place,
    /// The offset that its group has committed.
    pub committed: i64,
}

/// All that happened.
#[derive(Debug, Clone, Default)]
pub struct TransactionHistory {
    /// In no particular order.
    pub transactions: Vec<Transaction>,
    /// Values that were sent outside transactions.
    pub plain: BTreeSet<u64>,
    /// Each value that a reader of committed records saw while the run went on, and where.
    pub seen: Vec<(Place, i64, u64)>,
    /// The loops.
    pub loops: Vec<Loop>,
}

/// What a fresh reader of committed records finds when all faults are over, in log order.
pub type CommittedLog = BTreeMap<Place, Vec<(i64, u64)>>;

/// What a loop makes of a value.
pub const fn transformed(value: u64) -> u64 {
    value | 1 << 63
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A value of an acknowledged commit is not read.
    Lost {
        /// The transaction's producer.
        producer: String,
        /// The value.
        value: u64,
    },
    /// Part of a transaction is read and part is not.
    Torn {
        /// The transaction's producer.
        producer: String,
        /// An acknowledged value that is not read.
        missing: u64,
        /// One that is.
        present: u64,
    },
    /// A value that was never committed is read.
    AbortedRead {
        /// The transaction's producer.
        producer: String,
        /// The value.
        value: u64,
    },
    /// A value lies at two offsets.
    Duplicate {
        /// The value.
        value: u64,
    },
    /// A value that nobody sent, or that was sent elsewhere.
    Unsent {
        /// The value.
        value: u64,
        /// Where it lies.
        place: Place,
    },
    /// A reader saw something that is not there in the end.
    Unstable {
        /// What.
        value: u64,
        /// Where.
        place: Place,
        /// At which offset.
        offset: i64,
    },
    /// A loop's output is not what its committed offset says.
    OutputDiffers {
        /// The loop's input.
        input: Place,
        /// Records below its offset.
        consumed: usize,
        /// Records it has written.
        produced: usize,
        /// The first place where they differ.
        at: usize,
    },
}

/// Every broken rule; empty when all hold.
pub fn check(history: &TransactionHistory, log: &CommittedLog) -> Vec<Violation> {
    let mut violations = Vec::new();
    let present = contents(history, log, &mut violations);
    let seen: BTreeSet<u64> = history.seen.iter().map(|(_, _, value)| *value).collect();
    for transaction in &history.transactions {
        check_transaction(transaction, &present, &seen, &mut violations);
    }
    for (place, offset, value) in &history.seen {
        let there = log
            .get(place)
            .is_some_and(|log| log.binary_search(&(*offset, *value)).is_ok());
        if !there {
            violations.push(Violation::Unstable {
                value: *value,
                place: *place,
                offset: *offset,
            });
        }
    }
    for one in &history.loops {
        check_loop(one, log, &mut violations);
    }
    violations
}

/// The values that are read, once they are found to be sent there and to lie there once.
fn contents(
    history: &TransactionHistory,
    log: &CommittedLog,
    violations: &mut Vec<Violation>,
) -> BTreeSet<u64> {
    let transactions = history.transactions.iter();
    let sent: HashMap<u64, Place> = transactions
        .flat_map(|transaction| &transaction.values)
        .map(|(place, value, _)| (*value, *place))
        .collect();
    let mut present = BTreeSet::new();
    for (place, entries) in log {
        for (_, value) in entries {
            let is_sent = history.plain.contains(value) || sent.get(value) == Some(place);
            if !is_sent {
                violations.push(Violation::Unsent {
                    value: *value,
                    place: *place,
                });
            }
            if !present.insert(*value) {
                violations.push(Violation::Duplicate { value: *value });
            }
        }
    }
    present
}

fn check_transaction(
    transaction: &Transaction,
    present: &BTreeSet<u64>,
    seen: &BTreeSet<u64>,
    violations: &mut Vec<Violation>,
) {
    let producer = || transaction.producer.clone();
    let values = || transaction.values.iter();
    let missing =
        values().find(|(_, value, acknowledged)| *acknowledged && !present.contains(value));
    let there = values().find(|(_, value, _)| present.contains(value) || seen.contains(value));
    match (transaction.end, missing, there) {
        (End::Committed, Some((_, value, _)), _) => violations.push(Violation::Lost {
            producer: producer(),
            value: *value,
        }),
        (End::Unknown, Some((_, missing, _)), Some((_, present, _))) => {
            violations.push(Violation::Torn {
                producer: producer(),
                missing: *missing,
                present: *present,
            });
        }
        (End::NotCommitted, _, Some((_, value, _))) => violations.push(Violation::AbortedRead {
            producer: producer(),
            value: *value,
        }),
        _ => {}
    }
}

fn check_loop(one: &Loop, log: &CommittedLog, violations: &mut Vec<Violation>) {
    let empty = Vec::new();
    let input = log.get(&one.input).unwrap_or(&empty);
    let output = log.get(&one.output).unwrap_or(&empty);
    let consumed: Vec<u64> = input
        .iter()
        .filter(|(offset, _)| *offset < one.committed)
        .map(|(_, value)| transformed(*value))
        .collect();
    let produced: Vec<u64> = output.iter().map(|(_, value)| *value).collect();
    if consumed != produced {
        let same = consumed.iter().zip(&produced).take_while(|(a, b)| a == b);
        violations.push(Violation::OutputDiffers {
            input: one.input,
            consumed: consumed.len(),
            produced: produced.len(),
            at: same.count(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = ("a", 0);
    const B: Place = ("b", 0);
    const IN: Place = ("in", 0);
    const OUT: Place = ("out", 0);

    fn transaction(end: End, values: &[(Place, u64, bool)]) -> Transaction {
        Transaction {
            producer: "p".into(),
            values: values.to_vec(),
            end,
        }
    }

    /// A run in which all is well: a commit, an abort, an unknown end either way, a loop.
    fn good() -> (TransactionHistory, CommittedLog) {
        let looped: Vec<_> = [50, 51]
            .map(|value| (OUT, transformed(value), true))
            .to_vec();
        let history = TransactionHistory {
            transactions: vec![
                transaction(End::Committed, &[(A, 1, true), (B, 2, true)]),
                transaction(End::NotCommitted, &[(A, 3, true), (B, 4, false)]),
                transaction(End::Unknown, &[(A, 5, true), (B, 6, true)]),
                transaction(End::Unknown, &[(A, 7, true), (B, 8, true)]),
                transaction(End::Committed, &looped),
            ],
            plain: [50, 51, 52].into(),
            seen: vec![(A, 0, 1), (B, 0, 2)],
            loops: vec![Loop {
                input: IN,
                output: OUT,
                committed: 2,
            }],
        };
        let log = BTreeMap::from([
            (A, vec![(0, 1), (4, 5)]),
            (B, vec![(0, 2), (4, 6)]),
            (IN, vec![(0, 50), (1, 51), (2, 52)]),
            (OUT, vec![(0, transformed(50)), (1, transformed(51))]),
        ]);
        (history, log)
    }

    /// What is found of a good run after something was changed in it.
    fn found(change: impl FnOnce(&mut TransactionHistory, &mut CommittedLog)) -> Vec<Violation> {
        let (mut history, mut log) = good();
        change(&mut history, &mut log);
        check(&history, &log)
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        assert_eq!(found(|_, _| {}), []);
    }

    #[test]
    fn a_lost_commit_is_found() {
        let violations = found(|_, log| {
            log.get_mut(&B).unwrap().retain(|(_, value)| *value != 2);
        });
        let lost = Violation::Lost {
            producer: "p".into(),
            value: 2,
        };
        assert!(violations.contains(&lost), "{violations:?}");
    }

    #[test]
    fn a_torn_transaction_is_found() {
        let violations = found(|_, log| {
            log.get_mut(&B).unwrap().retain(|(_, value)| *value != 6);
        });
        let torn = Violation::Torn {
            producer: "p".into(),
            missing: 6,
            present: 5,
        };
        assert_eq!(violations, [torn]);
    }

    #[test]
    fn an_aborted_read_is_found_in_the_end_and_on_the_way() {
        let aborted = |value| Violation::AbortedRead {
            producer: "p".into(),
            value,
        };
        let violations = found(|_, log| log.get_mut(&A).unwrap().push((9, 3)));
        assert_eq!(violations, [aborted(3)]);
        let violations = found(|history, _| history.seen.push((B, 2, 4)));
        assert!(violations.contains(&aborted(4)), "{violations:?}");
    }

    #[test]
    fn duplicates_and_values_from_nowhere_are_found() {
        let violations = found(|_, log| log.get_mut(&A).unwrap().push((9, 1)));
        assert_eq!(violations, [Violation::Duplicate { value: 1 }]);
        let violations = found(|_, log| log.get_mut(&A).unwrap().push((9, 99)));
        let unsent = |value, place| Violation::Unsent { value, place };
        assert_eq!(violations, [unsent(99, A)]);
        let violations = found(|_, log| log.get_mut(&A).unwrap().push((9, 8)));
        assert!(violations.contains(&unsent(8, A)), "sent elsewhere");
    }

    #[test]
    fn what_was_seen_and_is_gone_is_found() {
        let violations = found(|history, _| history.seen.push((A, 1, 5)));
        assert_eq!(
            violations,
            [Violation::Unstable {
                value: 5,
                place: A,
                offset: 1
            }]
        );
    }

    #[test]
    fn offsets_without_output_and_output_without_offsets_are_found() {
        for (committed, consumed) in [(3, 3), (1, 1)] {
            let violations = found(|history, _| history.loops[0].committed = committed);
            assert_eq!(
                violations,
                [Violation::OutputDiffers {
                    input: IN,
                    consumed,
                    produced: 2,
                    at: consumed.min(2)
                }]
            );
        }
        let swapped = found(|_, log| {
            let output = log.get_mut(&OUT).unwrap();
            (output[0].1, output[1].1) = (output[1].1, output[0].1);
        });
        assert!(matches!(
            swapped[..],
            [Violation::OutputDiffers { at: 0, .. }]
        ));
    }
}
