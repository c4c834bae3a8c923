//! What becomes of every folder, and what stands in the way. Reads names, sizes and metadata; no log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use conveyor_controller::{QuotaEntity, QuotaKey, QuotaRate};
use conveyor_log::TopicPartition;
use serde::Serialize;
use uuid::Uuid;

use crate::ImportError;
use crate::source::KafkaLogDir;

mod planner;

/// How folders are brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything is copied; the source stays as it is.
    Copy,
    /// Segments that are closed are linked, the rest is copied; the source stays as it is. Needs one
    /// volume.
    Link,
    /// Folders are moved; the source is not usable afterwards.
    Move,
}

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kafka's `log.dirs`, all of the broker's.
    pub kafka_log_dirs: Vec<PathBuf>,
    /// Kafka's `metadata.log.dir`, when it is none of them.
    pub kafka_metadata_dir: Option<PathBuf>,
    /// Our `log.dirs`: one for all, or one for each of Kafka's.
    pub data_dirs: Vec<PathBuf>,
    /// How folders are brought over.
    pub mode: Mode,
    /// Cut what a broker that has not stopped in order left torn, as its next start would.
    pub recover: bool,
    /// Topics to leave out.
    pub exclude: BTreeSet<String>,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(
        place: &dyn Display,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.to_string(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// A folder that stays where it is, or a thing that has no place here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What an import will do.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The cluster's id, kept.
    pub cluster_id: String,
    /// The node's number, kept.
    pub node_id: i32,
    /// How folders are brought over.
    pub mode: Mode,
    /// Kafka's directories and ours.
    pub directories: Vec<PlannedDirectory>,
    /// Topics by name.
    pub topics: Vec<PlannedTopic>,
    /// Bytes of all folders that are taken.
    pub bytes: u64,
    /// What is not taken.
    pub left_out: Vec<LeftOut>,
    /// What stands in the way; nothing is done as long as there is anything.
    pub problems: Vec<Problem>,
    /// The first producer id that may be given out.
    pub next_producer_id: i64,
    #[serde(skip)]
    pub(crate) quotas: Vec<(QuotaEntity, QuotaKey, QuotaRate)>,
    #[serde(skip)]
    pub(crate) sources: Vec<KafkaLogDir>,
    #[serde(skip)]
    pub(crate) recover: bool,
}

/// A directory of Kafka's and the one of ours that takes its folders.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedDirectory {
    /// Kafka's.
    pub kafka_log_dir: PathBuf,
    /// Ours.
    pub data_dir: PathBuf,
    /// Its broker stopped in order.
    pub clean: bool,
}

/// A topic that is taken over.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedTopic {
    /// Its name.
    pub name: String,
    /// Its id as Kafka writes it, kept.
    pub topic_id: String,
    /// Its partitions by number.
    pub partitions: Vec<PlannedPartition>,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) id: Uuid,
}

/// A partition that is taken over.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedPartition {
    /// Its number.
    pub partition: i32,
    /// Its folder now.
    pub source: PathBuf,
    /// Its folder afterwards.
    pub target: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// The term in which this node will lead it.
    pub leader_epoch: i32,
    /// The offset behind its last record, once it is verified.
    pub end_offset: Option<i64>,
    /// Records in it, once it is verified.
    pub records: Option<u64>,
    /// A former run has brought it over.
    pub done: bool,
    /// Which of the sources it belongs to.
    #[serde(skip)]
    pub(crate) directory: usize,
    /// Below it offsets may be missing.
    #[serde(skip)]
    pub(crate) gaps_below: Option<i64>,
}

impl PlannedTopic {
    pub(crate) fn is_compacted(&self) -> bool {
        let policy = self.configs.get("cleanup.policy");
        policy.is_some_and(|policy| policy.split(',').any(|word| word == "compact"))
    }

    pub(crate) fn partition_name(&self, partition: &PlannedPartition) -> TopicPartition {
        TopicPartition::new(self.name.as_str(), partition.partition)
    }
}

impl Plan {
    /// Looks at everything and decides; changes nothing.
    pub fn make(options: &Options) -> Result<Self, ImportError> {
        planner::make(options)
    }

    /// Whether nothing stands in the way.
    pub fn is_possible(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many partitions are taken over.
    pub fn partition_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}
