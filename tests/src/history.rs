//! What clients did and saw, and what must hold of it.
//!
//! Written by the clients of a test only, never by the broker. Every record carries a number that is
//! unique in the run, so that each can be told from all others:
//!
//! - **acknowledged survives**: a value that was acknowledged at an offset lies there in the end;
//! - **once**: no value lies at two offsets;
//! - **nothing from nowhere**: every value in the log was sent;
//! - **order**: the values of one producer lie in a partition in the order in which it sent them;
//! - **real time**: what was sent after another's acknowledgement lies behind it;
//! - **stable reads**: what a consumer saw at an offset lies there in the end;
//! - **no gaps**: offsets are dense from the log start, since no test here compacts.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// A partition of the topic under test.
pub type Partition = i32;

/// One record that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Unique in the run.
    pub value: u64,
    /// Who sent it.
    pub producer: u32,
    /// Where to.
    pub partition: Partition,
    /// When the send was called; from a clock shared by all clients of the run.
    pub sent_at: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a client knows of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: it lies at `offset`.
    Acknowledged {
        /// Its offset.
        offset: i64,
        /// When the acknowledgement came.
        at: u64,
    },
    /// Never answered, or answered with an error that leaves it open: once or not at all.
    Unknown,
}

/// What was sent and what was read while the run went on.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In the order of the calls, for each producer.
    pub sent: Vec<Sent>,
    /// Each value that a consumer saw, and where.
    pub seen: Vec<(Partition, i64, u64)>,
}

/// The log as a fresh reader finds it when all faults are over: offset and value, in log order.
pub type FinalLog = BTreeMap<Partition, Vec<(i64, u64)>>;

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// An acknowledged value is not at its offset.
    Lost {
        /// The value.
        value: u64,
        /// Where it was acknowledged.
        partition: Partition,
        /// At which offset.
        offset: i64,
        /// What lies there, if anything.
        found: Option<u64>,
    },
    /// A value lies at two offsets.
    Duplicate {
        /// The value.
        value: u64,
        /// The first place.
        first: (Partition, i64),
        /// The second place.
        second: (Partition, i64),
    },
    /// A value that nobody sent, or that was sent to another partition.
    Unsent {
        /// The value.
        value: u64,
        /// Where it lies.
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// Two values of one producer lie in the wrong order.
    Reordered {
        /// Sent first, lies later.
        earlier: u64,
        /// Sent later, lies first.
        later: u64,
    },
    /// A value lies before one that was acknowledged before it was sent.
    BackInTime {
        /// Sent after the acknowledgement of `acknowledged`, lies before it.
        value: u64,
        /// The other one.
        acknowledged: u64,
    },
    /// A consumer saw something that is not there in the end.
    Unstable {
        /// What it saw.
        value: u64,
        /// Where.
        partition: Partition,
        /// At which offset.
        offset: i64,
    },
    /// Offsets are not dense.
    Gap {
        /// Where.
        partition: Partition,
        /// The last offset before the gap.
        after: i64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Every broken rule; empty when all hold.
pub fn check(history: &History, log: &FinalLog) -> Vec<Violation> {
    let by_value: HashMap<u64, &Sent> =
        history.sent.iter().map(|sent| (sent.value, sent)).collect();
    let mut violations = Vec::new();
    check_contents(&by_value, log, &mut violations);
    check_acknowledged(history, log, &mut violations);
    check_seen(history, log, &mut violations);
    for entries in log.values() {
        check_order(&by_value, entries, &mut violations);
        check_real_time(&by_value, entries, &mut violations);
    }
    violations
}

fn value_at(log: &FinalLog, partition: Partition, offset: i64) -> Option<u64> {
    let entries = log.get(&partition)?;
    let index = entries.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
    Some(entries[index].1)
}

fn check_contents(by_value: &HashMap<u64, &Sent>, log: &FinalLog, violations: &mut Vec<Violation>) {
    let mut places = HashMap::new();
    for (&partition, entries) in log {
        for window in entries.windows(2) {
            if window[1].0 != window[0].0 + 1 {
                violations.push(Violation::Gap {
                    partition,
                    after: window[0].0,
                });
            }
        }
        for &(offset, value) in entries {
            if by_value
                .get(&value)
                .is_none_or(|sent| sent.partition != partition)
            {
                violations.push(Violation::Unsent {
                    value,
                    partition,
                    offset,
                });
            }
            if let Some(first) = places.insert(value, (partition, offset)) {
                let second = (partition, offset);
                violations.push(Violation::Duplicate {
                    value,
                    first,
                    second,
                });
            }
        }
    }
}

fn check_acknowledged(history: &History, log: &FinalLog, violations: &mut Vec<Violation>) {
    for sent in &history.sent {
        let Outcome::Acknowledged { offset, .. } = sent.outcome else {
            continue;
        };
        let Sent {
            value, partition, ..
        } = *sent;
        let found = value_at(log, partition, offset);
        if found != Some(value) {
            violations.push(Violation::Lost {
                value,
                partition,
                offset,
                found,
            });
        }
    }
}

fn check_seen(history: &History, log: &FinalLog, violations: &mut Vec<Violation>) {
    for &(partition, offset, value) in &history.seen {
        if value_at(log, partition, offset) != Some(value) {
            violations.push(Violation::Unstable {
                value,
                partition,
                offset,
            });
        }
    }
}

/// Values grow with each send of a producer, so order in the log is order of values.
fn check_order(
    by_value: &HashMap<u64, &Sent>,
    entries: &[(i64, u64)],
    violations: &mut Vec<Violation>,
) {
    let mut last: HashMap<u32, &Sent> = HashMap::new();
    for sent in entries.iter().filter_map(|(_, value)| by_value.get(value)) {
        if let Some(before) = last.insert(sent.producer, sent)
            && before.value > sent.value
        {
            violations.push(Violation::Reordered {
                earlier: sent.value,
                later: before.value,
            });
        }
    }
}

fn check_real_time(
    by_value: &HashMap<u64, &Sent>,
    entries: &[(i64, u64)],
    violations: &mut Vec<Violation>,
) {
    // From the end of the log: the earliest acknowledgement of all that lies behind.
    let mut earliest: Option<(u64, u64)> = None;
    for sent in entries
        .iter()
        .rev()
        .filter_map(|(_, value)| by_value.get(value))
    {
        if let Some((at, acknowledged)) = earliest
            && at < sent.sent_at
        {
            violations.push(Violation::BackInTime {
                value: sent.value,
                acknowledged,
            });
        }
        if let Outcome::Acknowledged { at, .. } = sent.outcome
            && earliest.is_none_or(|(before, _)| at < before)
        {
            earliest = Some((at, sent.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: u64, producer: u32, offset: i64) -> Sent {
        let outcome = Outcome::Acknowledged {
            offset,
            at: value * 10 + 5,
        };
        Sent {
            value,
            producer,
            partition: 0,
            sent_at: value * 10,
            outcome,
        }
    }

    fn good() -> (History, FinalLog) {
        let sends = vec![sent(1, 1, 0), sent(2, 1, 1), sent(3, 2, 2)];
        let history = History {
            sent: sends,
            seen: vec![(0, 0, 1), (0, 2, 3)],
        };
        (history, FinalLog::from([(0, vec![(0, 1), (1, 2), (2, 3)])]))
    }

    #[test]
    fn a_good_history_passes() {
        let (history, log) = good();
        assert_eq!(check(&history, &log), []);
    }

    #[test]
    fn an_unknown_send_may_be_there_or_not() {
        let (mut history, log) = good();
        history.sent[2].outcome = Outcome::Unknown;
        assert_eq!(check(&history, &log), []);
        history.seen.clear();
        assert_eq!(
            check(&history, &FinalLog::from([(0, vec![(0, 1), (1, 2)])])),
            []
        );
    }

    #[test]
    fn a_lost_acknowledged_value_is_found() {
        let (mut history, _) = good();
        history.seen.clear();
        let log = FinalLog::from([(0, vec![(0, 1), (1, 3)])]);
        let violations = check(&history, &log);
        assert!(violations.contains(&Violation::Lost {
            value: 2,
            partition: 0,
            offset: 1,
            found: Some(3)
        }));
    }

    #[test]
    fn a_duplicate_is_found() {
        let (history, mut log) = good();
        log.get_mut(&0).expect("partition 0").push((3, 2));
        let violations = check(&history, &log);
        assert!(violations.contains(&Violation::Duplicate {
            value: 2,
            first: (0, 1),
            second: (0, 3)
        }));
    }

    #[test]
    fn a_value_from_nowhere_is_found() {
        let (history, mut log) = good();
        log.get_mut(&0).expect("partition 0").push((3, 99));
        let violations = check(&history, &log);
        assert_eq!(
            violations,
            [Violation::Unsent {
                value: 99,
                partition: 0,
                offset: 3
            }]
        );
    }

    #[test]
    fn a_producers_order_is_checked() {
        let mut history = History {
            sent: vec![sent(1, 1, 1), sent(2, 1, 0)],
            seen: vec![],
        };
        // Both under way at once, so that only the producer's own order is broken.
        history.sent[1].sent_at = 10;
        let log = FinalLog::from([(0, vec![(0, 2), (1, 1)])]);
        assert_eq!(
            check(&history, &log),
            [Violation::Reordered {
                earlier: 1,
                later: 2
            }]
        );
    }

    #[test]
    fn what_was_sent_after_an_acknowledgement_lies_behind_it() {
        let history = History {
            sent: vec![sent(1, 1, 1), sent(2, 2, 0)],
            seen: vec![],
        };
        let log = FinalLog::from([(0, vec![(0, 2), (1, 1)])]);
        assert_eq!(
            check(&history, &log),
            [Violation::BackInTime {
                value: 2,
                acknowledged: 1
            }]
        );
    }

    #[test]
    fn a_read_that_changes_is_found() {
        let (mut history, log) = good();
        history.seen.push((0, 1, 3));
        assert_eq!(
            check(&history, &log),
            [Violation::Unstable {
                value: 3,
                partition: 0,
                offset: 1
            }]
        );
    }

    #[test]
    fn a_gap_is_found() {
        let history = History {
            sent: vec![sent(1, 1, 0), sent(2, 1, 2)],
            seen: vec![],
        };
        let log = FinalLog::from([(0, vec![(0, 1), (2, 2)])]);
        assert_eq!(
            check(&history, &log),
            [Violation::Gap {
                partition: 0,
                after: 0
            }]
        );
    }
}
