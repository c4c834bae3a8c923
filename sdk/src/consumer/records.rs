//! What a poll returns.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use conveyor_grpc::v1;
use conveyor_record::{LeaderEpoch, Offset, Record, RecordHeader};

use super::topic_partition::TopicPartition;
use crate::cloud_events::{self, CloudEventError};

/// The records of one poll, grouped by partition, in offset order within each.
#[derive(Debug, Clone, Default)]
pub struct ConsumerRecords {
    pub(super) partitions: Vec<PartitionRecords>,
}

/// The records of one partition in one poll. Never without a record.
#[derive(Debug, Clone)]
pub struct PartitionRecords {
    /// Where they come from.
    pub topic_partition: TopicPartition,
    /// Where the consumer stood before them: they are all that is readable between here and
    /// `next_offset`.
    pub position: Offset,
    /// In offset order; offsets may have gaps (compaction, transaction markers). Keys and values
    /// are slices of the frame that brought them, or of the one buffer their batch was decompressed
    /// into: keep a copy, not the record, to keep little for long.
    pub records: Vec<Record>,
    /// Where to go on: to be stored or committed once these records are processed.
    pub next_offset: Offset,
    /// The leader epoch of the last record, to be committed with the offset.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that nobody can read yet, as last heard; [`Offset::NONE`] if never.
    pub high_watermark: Offset,
}

impl ConsumerRecords {
    /// Whether the poll found nothing.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.partitions
            .iter()
            .map(|partition| partition.records.len())
            .sum()
    }

    /// Partition by partition.
    pub fn partitions(&self) -> &[PartitionRecords] {
        &self.partitions
    }

    /// Partition by partition, to keep.
    pub fn into_partitions(self) -> Vec<PartitionRecords> {
        self.partitions
    }

    /// Where to go on in each partition once these records are processed, as it is committed.
    pub fn next_offsets(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let next = |partition: &PartitionRecords| {
            let offset = OffsetAndMetadata::new(partition.next_offset);
            let offset = offset.with_leader_epoch(partition.leader_epoch);
            (partition.topic_partition.clone(), offset)
        };
        self.partitions.iter().map(next).collect()
    }

    /// Each record with its partition.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Record)> {
        self.partitions.iter().flat_map(|partition| {
            partition
                .records
                .iter()
                .map(|record| (&partition.topic_partition, record))
        })
    }
}

impl IntoIterator for ConsumerRecords {
    type Item = ConsumerRecord;
    type IntoIter = ConsumerRecordsIter;

    fn into_iter(self) -> ConsumerRecordsIter {
        ConsumerRecordsIter {
            partitions: self.partitions.into_iter(),
            current: None,
        }
    }
}

/// The records of a poll one by one.
#[derive(Debug)]
pub struct ConsumerRecordsIter {
    partitions: std::vec::IntoIter<PartitionRecords>,
    current: Option<(TopicPartition, LeaderEpoch, std::vec::IntoIter<Record>)>,
}

impl Iterator for ConsumerRecordsIter {
    type Item = ConsumerRecord;

    fn next(&mut self) -> Option<ConsumerRecord> {
        loop {
            if let Some((topic_partition, leader_epoch, records)) = &mut self.current
                && let Some(record) = records.next()
            {
                return Some(ConsumerRecord::new(topic_partition, *leader_epoch, record));
            }
            let next = self.partitions.next()?;
            self.current = Some((
                next.topic_partition,
                next.leader_epoch,
                next.records.into_iter(),
            ));
        }
    }
}

/// One record and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: Offset,
    /// The term of the leader that took it.
    pub leader_epoch: LeaderEpoch,
    /// Its timestamp in ms since the epoch: the producer's, or the append time.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; none marks a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in the order of the producer, repeated keys kept.
    pub headers: Vec<RecordHeader>,
}

impl ConsumerRecord {
    pub(super) fn new(from: &TopicPartition, leader_epoch: LeaderEpoch, record: Record) -> Self {
        Self {
            topic: Arc::clone(&from.topic),
            partition: from.partition,
            offset: record.offset,
            leader_epoch,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    /// The partition it comes from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        }
    }

    /// The value as text, if there is one and it is UTF-8.
    pub fn value_str(&self) -> Option<&str> {
        std::str::from_utf8(self.value.as_deref()?).ok()
    }

    /// Reads the record as a CloudEvent; see [`cloud_events::decode`].
    pub fn cloud_event(&self) -> Result<cloud_events::Decoded, CloudEventError> {
        decode_cloud_event(self.value.as_ref(), &self.headers)
    }
}

/// `topic-partition@offset`, the way to name a record in messages.
impl fmt::Display for ConsumerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

/// Reads the parts of a record as a CloudEvent. Headers whose name is no text are none of it.
pub fn decode_cloud_event(
    value: Option<&Bytes>,
    headers: &[RecordHeader],
) -> Result<cloud_events::Decoded, CloudEventError> {
    let headers = headers.iter().filter_map(|header| {
        Some((
            std::str::from_utf8(&header.key).ok()?,
            header.value.as_deref(),
        ))
    });
    cloud_events::decode(value.map(Bytes::as_ref), headers)
}

/// An offset to commit, or committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next record to read.
    pub offset: Offset,
    /// The term of the leader of the last record read; [`LeaderEpoch::NONE`] when unknown.
    pub leader_epoch: LeaderEpoch,
    /// Any text, up to the node's `offset.metadata.max.bytes`.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// An offset without more.
    pub fn new(offset: impl Into<Offset>) -> Self {
        Self {
            offset: offset.into(),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        }
    }

    pub(crate) fn to_wire(&self, partition: &TopicPartition) -> v1::OffsetToCommit {
        v1::OffsetToCommit {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset: self.offset.value(),
            leader_epoch: self.leader_epoch.value(),
            metadata: self.metadata.clone(),
        }
    }

    /// The same offset with the leader epoch of the last record read.
    #[must_use]
    pub fn with_leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }
}
