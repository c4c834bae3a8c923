//! How far a build is. Knows neither store nor log nor clock: it is shown where the build stands and
//! where the log ends, at some moments.

use std::collections::VecDeque;
use std::time::Duration;

use conveyor_record::Offset;

use crate::control::RebuildReport;
use crate::record::TopicPartition;

/// How much of the past the rate is taken from.
const WINDOW: Duration = Duration::from_secs(15);

/// When a rebuild has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Records that may be missing, while others are written. 0 for a rebuild with an end.
    pub lag_max: u64,
    /// At so many looks at which no less was missing than at the one before, unless nothing is missing
    /// at all: what still grows less is worth waiting for.
    pub looks: u32,
}

/// Where a build stands in one partition, and where it is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the build begins.
    pub begins: Offset,
    /// Where it stands; `None`: nothing has been taken in.
    pub position: Option<Offset>,
    /// Where the log ends now, or the build is to end.
    pub ends: Offset,
}

impl Look {
    fn at(&self) -> Offset {
        self.position
            .map_or(self.begins, |position| position.max(self.begins))
    }

    /// Records that are missing.
    pub fn left(&self) -> u64 {
        let left = self.ends.value() - self.at().value();
        u64::try_from(left).unwrap_or(0)
    }

    /// Records that have been taken in.
    pub fn done(&self) -> u64 {
        let done = self.at().value() - self.begins.value();
        u64::try_from(done).unwrap_or(0)
    }
}

/// How far a build is at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Records taken in, of those that there are.
    pub done: u64,
    /// Records missing.
    pub left: u64,
    /// Records a second, of late; `None`: not known yet.
    pub per_second: Option<f64>,
    /// How long it still takes, with the log growing as it has of late; `None`: not known, or never.
    pub eta: Option<Duration>,
    /// Whether it has come to its end.
    pub is_reached: bool,
    /// The same of each partition.
    pub partitions: Vec<Look>,
}

impl Report {
    /// The same without the partitions, for whoever asks from afar.
    pub fn in_short(&self) -> RebuildReport {
        RebuildReport {
            records_done: self.done,
            records_left: self.left,
            records_per_second: self.per_second,
            seconds_left: self.eta.map(|eta| eta.as_secs_f64()),
            is_reached: self.is_reached,
        }
    }
}

/// Follows a build to its end.
#[derive(Clone, Debug)]
pub struct Progress {
    goal: Goal,
    /// Moment, records taken in, records missing; the oldest first.
    past: VecDeque<(Duration, u64, u64)>,
    /// Looks at which little was missing, and no less than before; since more was.
    near: u32,
}

impl Progress {
    /// Nothing has been looked at yet.
    pub const fn new(goal: Goal) -> Self {
        Self {
            goal,
            past: VecDeque::new(),
            near: 0,
        }
    }

    /// Takes in where everything stands `now`, on any clock that only goes forward.
    pub fn look(&mut self, now: Duration, partitions: Vec<Look>) -> Report {
        let done = partitions.iter().map(Look::done).sum();
        let left = partitions.iter().map(Look::left).sum();
        let was_left = self.past.back().map(|(_, _, left)| *left);
        if left > self.goal.lag_max {
            self.near = 0;
        } else if was_left.is_some_and(|was_left| left >= was_left) {
            self.near += 1;
        }
        while self
            .past
            .front()
            .is_some_and(|(then, ..)| now.saturating_sub(*then) > WINDOW)
        {
            self.past.pop_front();
        }
        let before = self.past.front().copied();
        self.past.push_back((now, done, left));
        let per_second = before.and_then(|(then, was_done, _)| {
            per_second(done.saturating_sub(was_done), now.saturating_sub(then))
        });
        let eta = before.and_then(|(then, _, was_left)| {
            let rate = per_second_f(was_left.checked_sub(left)?, now.saturating_sub(then))?;
            Duration::try_from_secs_f64(left as f64 / rate).ok()
        });
        Report {
            done,
            left,
            per_second,
            eta: if left == 0 { Some(Duration::ZERO) } else { eta },
            is_reached: left == 0 || self.near >= self.goal.looks.max(1),
            partitions,
        }
    }
}

fn per_second(records: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| records as f64 / seconds)
}

/// The same where nothing is no rate.
fn per_second_f(records: u64, time: Duration) -> Option<f64> {
    per_second(records, time).filter(|rate| *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(position: i64, ends: i64) -> Vec<Look> {
        vec![Look {
            topic_partition: TopicPartition::new("t", 0),
            begins: Offset(100),
            position: (position > 0).then_some(Offset(position)),
            ends: Offset(ends),
        }]
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rate_and_time_left_come_from_what_was_seen() {
        let mut progress = Progress::new(Goal {
            lag_max: 0,
            looks: 1,
        });
        let first = progress.look(SECOND, look(0, 1_100));
        assert_eq!((first.done, first.left, first.eta), (0, 1_000, None));
        // 200 a second are taken in while 100 a second are written.
        let second = progress.look(2 * SECOND, look(300, 1_200));
        assert_eq!((second.done, second.left), (200, 900));
        assert_eq!(second.per_second, Some(200.0));
        assert_eq!(second.eta, Some(9 * SECOND), "the log grows meanwhile");
        let slower = progress.look(3 * SECOND, look(310, 1_400));
        assert_eq!(slower.eta, None, "it never comes to an end like this");
    }

    #[test]
    fn it_has_caught_up_with_nothing_missing_or_little_for_a_while() {
        let mut progress = Progress::new(Goal {
            lag_max: 10,
            looks: 3,
        });
        let mut reached = |position| progress.look(SECOND, look(position, 1_000)).is_reached;
        assert!(!reached(500));
        assert!(!reached(990) && !reached(990) && !reached(990));
        assert!(!reached(900), "and from the beginning again");
        let comes_nearer = (991..=998).any(&mut reached);
        assert!(!comes_nearer, "it will be there soon");
        // Others write as much as is taken in.
        assert!(!reached(996) && !reached(997) && !reached(995) && reached(995));
        assert!(reached(1_000));
    }

    #[test]
    fn an_empty_log_is_caught_up_with() {
        let mut progress = Progress::new(Goal {
            lag_max: 0,
            looks: 3,
        });
        assert!(progress.look(SECOND, look(0, 100)).is_reached);
        assert!(progress.look(SECOND, Vec::new()).is_reached);
    }
}
