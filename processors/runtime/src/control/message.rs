//! Keys and values of the control topic. Values are JSON; unknown fields are ignored, so that
//! programs of different versions understand each other.

use std::fmt;

use conveyor_record::Offset;
use serde::{Deserialize, Serialize};

use crate::parked::ParkedKey;
use crate::record::TopicPartition;

/// What a record of the topic is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What a person wants of a projection.
    Desired {
        /// Name of the projection.
        projection: String,
    },
    /// Something to do.
    Command {
        /// Name of the projection.
        projection: String,
        /// Chosen by who asks; without `/`.
        id: String,
    },
    /// What came of it.
    Answer {
        /// Name of the projection.
        projection: String,
        /// Of the command.
        id: String,
        /// Who answers.
        instance: String,
    },
    /// How an instance is doing.
    Report {
        /// Name of the projection.
        projection: String,
        /// Which instance.
        instance: String,
    },
}

impl Key {
    /// Reads a key; `None` for one of a later version of this program.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let mut parts = text.splitn(4, '/');
        let mut part = || parts.next().map(str::to_owned);
        let (kind, projection) = (part()?, part()?);
        match (kind.as_str(), part(), part()) {
            ("desired", None, None) => Some(Self::Desired { projection }),
            ("command", Some(id), None) => Some(Self::Command { projection, id }),
            ("answer", Some(id), Some(instance)) => Some(Self::Answer {
                projection,
                id,
                instance,
            }),
            ("report", Some(instance), None) => Some(Self::Report {
                projection,
                instance,
            }),
            _ => None,
        }
    }

    /// The projection it is about.
    pub fn projection(&self) -> &str {
        match self {
            Self::Desired { projection }
            | Self::Command { projection, .. }
            | Self::Answer { projection, .. }
            | Self::Report { projection, .. } => projection,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Desired { projection } => write!(f, "desired/{projection}"),
            Self::Command { projection, id } => write!(f, "command/{projection}/{id}"),
            Self::Answer {
                projection,
                id,
                instance,
            } => write!(f, "answer/{projection}/{id}/{instance}"),
            Self::Report {
                projection,
                instance,
            } => write!(f, "report/{projection}/{instance}"),
        }
    }
}

/// What a person wants of a projection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Fetch nothing more until told otherwise.
    pub paused: bool,
}

/// A parked key, named by the record that parked it: `order-events-3@258`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset that parked the key.
    pub parked_at: i64,
}

impl Place {
    /// The partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// Reads what [`fmt::Display`] writes: `order-events-3@258`.
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, parked_at) = text.rsplit_once('@')?;
        let (topic, partition) = partition.rsplit_once('-')?;
        Some(Self {
            topic: topic.to_owned(),
            partition: partition.parse().ok()?,
            parked_at: parked_at.parse().ok()?,
        })
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} names no record"))
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.parked_at)
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// When it was asked for, ms since the Unix epoch.
    pub asked_at_ms: i64,
    /// What.
    pub action: Action,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Every instance tells which keys are parked in its partitions.
    List,
    /// The owner tells what waits of a key.
    Show {
        /// Which key.
        place: Place,
        /// Records at most.
        records_max: usize,
    },
    /// The owner applies what waits of a key, in order.
    Redrive {
        /// Which key.
        place: Place,
        /// At most so many records a second; none: as fast as it goes.
        records_per_second: Option<u32>,
    },
    /// The owner gives up the head of a key, or all that waits of it.
    Discard {
        /// Which key.
        place: Place,
        /// Offset of the head that was looked at; another one is not discarded.
        head: i64,
        /// All that waits.
        all: bool,
    },
}

impl Action {
    /// The parked key that it is about; none: every instance is meant.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::List => None,
            Self::Show { place, .. }
            | Self::Redrive { place, .. }
            | Self::Discard { place, .. } => Some(place),
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
    /// What.
    pub outcome: Outcome,
}

impl Outcome {
    /// Whether nothing more comes of the command.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Redriving { .. })
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Keys parked in this instance's partitions.
    Listed {
        /// The first of them.
        keys: Vec<ParkedSummary>,
        /// How many more there are.
        more: usize,
    },
    /// What waits of a key.
    Shown {
        /// The key.
        key: ParkedSummary,
        /// Its first records: offset, time, key, value and headers.
        records: Vec<serde_json::Value>,
    },
    /// A redrive goes on; told every second, until what came of it is.
    Redriving {
        /// Records applied so far.
        applied: usize,
        /// Records that still wait.
        waiting: usize,
    },
    /// A redrive has ended.
    Redriven {
        /// Records applied.
        applied: usize,
        /// Records that still wait.
        waiting: usize,
        /// Why it did not get further.
        failed: Option<String>,
    },
    /// Records were given up.
    Discarded {
        /// How many.
        records: usize,
        /// Records that still wait.
        waiting: usize,
    },
    /// Nothing is parked there.
    NotParked,
    /// It was not done.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A parked key, in few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedSummary {
    /// Which key.
    pub place: Place,
    /// The key of its records, as text or base64; none for a record without a key.
    pub key: Option<String>,
    /// Offset of the first record that waits.
    pub head: i64,
    /// How many wait.
    pub waiting: usize,
    /// How often the head was tried.
    pub attempts: u32,
    /// Time of the record that parked the key, ms since the Unix epoch.
    pub since_ms: i64,
    /// The kind of error.
    pub error: String,
    /// Why the head could not be applied.
    pub reason: String,
}

/// Longest reason in a summary, in characters.
const REASON_CHARS_MAX: usize = 400;

impl ParkedSummary {
    /// In few words.
    pub fn new(partition: &TopicPartition, key: &ParkedKey) -> Self {
        Self {
            place: Place {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                parked_at: key.parked_at.value(),
            },
            key: key.name.key().map(|_| key.name.to_string()),
            head: key.head().value(),
            waiting: key.queue.len(),
            attempts: key.attempts,
            since_ms: key.since_ms,
            error: key.failure.error_name.clone(),
            reason: key.failure.reason.chars().take(REASON_CHARS_MAX).collect(),
        }
    }
}

/// What reports: all go by a name of their own in the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A live projection, by its name.
    #[default]
    Projection,
    /// A sink, by its name.
    Sink,
    /// A build that is being filled, by the build's name, `atp@2`.
    Rebuild,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Projection => "projection",
            Self::Sink => "sink",
            Self::Rebuild => "rebuild",
        })
    }
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// Records taken in, of those that there are.
    pub records_done: u64,
    /// Records missing up to its end, or the log's.
    pub records_left: u64,
    /// Records a second, of late; none: not known yet.
    pub records_per_second: Option<f64>,
    /// How long it still takes, s; none: not known, or never.
    pub seconds_left: Option<f64>,
    /// Whether it has come to its end.
    pub is_reached: bool,
}

/// How an instance of a projection, a sink or a rebuild is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Version of the projection.
    pub version: u32,
    /// Where its rows are, for people.
    pub store: String,
    /// STARTING, RUNNING, PAUSED, FAULTED, STOPPED.
    pub state: String,
    /// Whether it pauses because it was asked to.
    pub asked_to_pause: bool,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
    /// Records applied since it started.
    pub records_applied: u64,
    /// Records that parked their key since it started.
    pub records_rejected: u64,
    /// Keys parked now.
    pub parked_keys: usize,
    /// Records that wait now.
    pub parked_records: usize,
    /// Records between positions and ends.
    pub lag_records: i64,
    /// Age of the oldest record that is not applied, ms; 0 when there is none, none when unknown.
    pub lag_ms: Option<i64>,
    /// What went wrong last, if it still does.
    pub last_error: Option<String>,
    /// How far it is, of a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildReport>,
}

/// How far an instance is in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The next record to apply; none: nothing is applied yet.
    pub position: Option<i64>,
    /// Where the log ends, if known.
    pub end: Option<i64>,
    /// Age of the oldest record that is not applied, ms; none when unknown.
    pub lag_ms: Option<i64>,
    /// It stands still: as much is parked in it as may be.
    pub full: bool,
}

impl PartitionReport {
    /// Records between the two.
    pub fn lag_records(&self) -> i64 {
        let begun = self.position.unwrap_or(0);
        self.end.map_or(0, |end| (end - begun).max(0))
    }

    /// How far it is, as an offset.
    pub fn next_offset(&self) -> Option<Offset> {
        self.position.map(Offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let (projection, id) = ("atp".to_owned(), "17".to_owned());
        let instance = "host/1-2".to_owned();
        let keys = [
            Key::Desired {
                projection: projection.clone(),
            },
            Key::Command {
                projection: projection.clone(),
                id: id.clone(),
            },
            Key::Answer {
                projection: projection.clone(),
                id,
                instance,
            },
            Key::Report {
                projection,
                instance: "i".to_owned(),
            },
        ];
        for key in keys {
            assert_eq!(Key::parse(key.to_string().as_bytes()), Some(key));
        }
        for other in ["", "desired", "later/atp", "command/atp", "\u{0}"] {
            assert_eq!(Key::parse(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn places_are_named_as_records_are() {
        let place = Place {
            topic: "order-events".to_owned(),
            partition: 3,
            parked_at: 258,
        };
        assert_eq!(place.to_string(), "order-events-3@258");
        assert_eq!(Place::parse("order-events-3@258"), Some(place));
        assert_eq!(Place::parse("order-events@258"), None);
        let json = r#""order-events-3@258""#;
        let place: Place = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&place).unwrap(), json);
    }
}
