//! Where a partition stands, as it lies beside the objects; and what a part is called. Pure.

use conveyor_processors::TopicPartition;
use serde::{Deserialize, Serialize};

use super::lines::Line;
use super::{json_lines, parquet};
use crate::settings::{Compression, ObjectFormat};

/// Where a partition stands, and who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The sink whose objects these are.
    pub(super) sink: String,
    topic: String,
    partition: i32,
    /// The member epoch of the owner.
    pub(super) owner_epoch: i64,
    /// All records before it are in objects; `None`: there is no object.
    pub(super) next_offset: Option<i64>,
    /// The part that is being written.
    pub(super) writing: Option<Writing>,
}

/// A part, and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writing {
    /// Its first offset.
    pub(super) from: i64,
    /// The offset behind its last.
    pub(super) to: i64,
    #[serde(flatten)]
    pub(super) encoding: Encoding,
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Encoding {
    pub(super) format: ObjectFormat,
    pub(super) compression: Compression,
}

/// A position as it was read or written.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) position: Position,
    /// What the storage calls this version of it.
    pub(super) version: String,
}

impl Position {
    /// Of a partition of which nothing is written.
    pub(super) fn begin(sink: &str, partition: &TopicPartition) -> Self {
        Self {
            sink: sink.to_owned(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            owner_epoch: 0,
            next_offset: None,
            writing: None,
        }
    }

    /// Its name under the prefix.
    pub(super) fn name(partition: &TopicPartition) -> String {
        let TopicPartition { topic, partition } = partition;
        format!("_conveyor/topic={topic}/partition={partition}.json")
    }
}

impl Writing {
    /// The name under the prefix of the object of one hour, `dt=2026-11-23/hour=04`.
    pub(super) fn object_name(&self, partition: &TopicPartition, hour: &str) -> String {
        let TopicPartition { topic, partition } = partition;
        let (from, last, end) = (self.from, self.to - 1, self.encoding.extension());
        format!("topic={topic}/{hour}/partition={partition}/{from:020}-{last:020}.{end}")
    }
}

impl Encoding {
    const fn extension(self) -> &'static str {
        match (self.format, self.compression) {
            (ObjectFormat::Parquet, _) => "parquet",
            (ObjectFormat::Jsonl, Compression::None) => "jsonl",
            (ObjectFormat::Jsonl, Compression::Zstd) => "jsonl.zst",
            (ObjectFormat::Jsonl, Compression::Gzip) => "jsonl.gz",
        }
    }

    /// The same lines always make the same bytes.
    pub(super) fn encode(self, lines: &[Line]) -> Result<Vec<u8>, String> {
        match self.format {
            ObjectFormat::Jsonl => json_lines::encode(lines, self.compression),
            ObjectFormat::Parquet => parquet::encode(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_part_alone() {
        let partition = TopicPartition::new("orders", 3);
        let writing = Writing {
            from: 1234,
            to: 2234,
            encoding: Encoding {
                format: ObjectFormat::Jsonl,
                compression: Compression::Zstd,
            },
        };
        assert_eq!(
            writing.object_name(&partition, "dt=2026-11-23/hour=04"),
            "topic=orders/dt=2026-11-23/hour=04/partition=3/\
             00000000000000001234-00000000000000002233.jsonl.zst"
        );
        assert_eq!(
            Position::name(&partition),
            "_conveyor/topic=orders/partition=3.json"
        );
        let mut position = Position::begin("s", &partition);
        position.writing = Some(writing);
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
    }
}
