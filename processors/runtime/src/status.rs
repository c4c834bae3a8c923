//! What a running projection or sink shows: its state, how far it is, what went wrong last.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use conveyor_record::Offset;
use parking_lot::Mutex;

use crate::control::RebuildReport;

/// Whether a projection is at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Joining its group, creating its tables.
    #[default]
    Starting,
    /// Applying what there is.
    Running,
    /// Its store or the log cannot be reached; it tries again by itself.
    Paused,
    /// Stopped by an error that needs somebody.
    Faulted,
    /// Ended as asked.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Faulted => "FAULTED",
            Self::Stopped => "STOPPED",
        })
    }
}

/// Figures of a projection at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Records that are in the rows (or matter to none) since the start.
    pub records_applied: u64,
    /// Records that went to `error-events` and parked their key since the start.
    pub records_rejected: u64,
    /// Records that began to wait behind those since the start.
    pub records_queued: u64,
    /// Records that waited and were redriven since the start.
    pub records_redriven: u64,
    /// Keys that are parked now, of the owned partitions looked at so far.
    pub parked_keys: usize,
    /// Records that wait now.
    pub parked_records: usize,
    /// Partitions that stand still because as much is parked in them as may be.
    pub full: Vec<crate::record::TopicPartition>,
    /// Transactions since the start.
    pub batches: u64,
    /// How long they took, all together, from the first attempt until they were durable.
    pub batch_time: Duration,
    /// Age of the oldest record that is not applied, ms; 0 when there is none, none when unknown.
    pub lag_ms: Option<i64>,
    /// Records between the positions and the ends of the log, of the owned partitions, as last heard.
    pub lag_records: i64,
    /// Owned partitions.
    pub partitions: usize,
    /// Turns of its loop since the start: while they stand still it hears nothing of the log.
    pub turns: u64,
    /// What it is at, for people: "applying 12 records".
    pub doing: String,
    /// What went wrong last; cleared when it works again.
    pub last_error: Option<String>,
    /// How far it is, if it fills a build; kept up by whoever has it filled.
    pub rebuild: Option<RebuildReport>,
}

/// What a projection or sink owns at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// How many partitions.
    pub partitions: usize,
    /// Records between the positions and the ends of the log, as far as is known.
    pub lag_records: i64,
    /// There are some, and it is known that everything in them is taken in.
    pub is_at_end: bool,
}

/// The figures of one projection, written by its driver, read by anyone.
#[derive(Clone, Debug, Default)]
pub struct Status {
    snapshot: Arc<Mutex<Snapshot>>,
}

impl Status {
    /// The figures now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().clone()
    }

    /// Changes the figures; for who runs the projection or sink.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.lock());
    }

    /// Notes that the loop has come round once more; for who runs the projection or sink. `holds`: a
    /// person wants it to pause.
    pub fn turned(&self, holds: bool, owned: Owned) {
        self.update(|s| {
            s.state = match s.state {
                _ if holds => State::Paused,
                // The watchdog's word stands until something was applied.
                State::Faulted => State::Faulted,
                _ => State::Running,
            };
            // Where nothing is left to be applied, nothing will be that could show that all is well.
            if s.state == State::Running && owned.is_at_end && s.full.is_empty() {
                s.last_error = None;
            }
            s.turns += 1;
            s.partitions = owned.partitions;
            s.lag_records = owned.lag_records;
        });
    }
}

/// A part of a partition that a store has taken in, for whoever measures or reconciles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRange {
    /// The partition.
    pub topic_partition: crate::record::TopicPartition,
    /// Where the store stood before; `None` for nothing.
    pub from: Option<Offset>,
    /// Where it stands now.
    pub to: Offset,
    /// Records between the two, rejected and queued ones included.
    pub records: u64,
}

/// Hears of every transaction right after it is durable. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// The store has taken these in.
    fn applied(&self, ranges: &[AppliedRange]);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn applied(&self, _ranges: &[AppliedRange]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_END: Owned = Owned {
        partitions: 1,
        lag_records: 0,
        is_at_end: true,
    };

    fn failed(state: State) -> Status {
        let status = Status::default();
        status.update(|s| {
            s.state = state;
            s.last_error = Some("another owns it".to_owned());
        });
        status
    }

    #[test]
    fn an_error_is_over_when_nothing_is_left_to_be_applied() {
        let status = failed(State::Paused);
        status.turned(false, Owned::default());
        status.turned(
            false,
            Owned {
                lag_records: 1,
                is_at_end: false,
                ..AT_END
            },
        );
        assert!(status.snapshot().last_error.is_some(), "nothing shows it");
        status.turned(false, AT_END);
        assert_eq!(status.snapshot().last_error, None);
    }

    #[test]
    fn what_keeps_a_projection_from_its_work_is_shown_as_long_as_it_does() {
        let faulted = failed(State::Faulted);
        faulted.turned(false, AT_END);
        let paused = failed(State::Running);
        paused.turned(true, AT_END);
        let full = failed(State::Running);
        full.update(|s| s.full.push(crate::TopicPartition::new("orders", 0)));
        full.turned(false, AT_END);
        for status in [faulted, paused, full] {
            assert!(status.snapshot().last_error.is_some(), "{status:?}");
        }
    }
}
