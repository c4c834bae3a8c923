//! The bytes of the records, as Apache Kafka writes them.
//!
//! ```text
//! key    | version i16 | group id | then by version:
//!   0, 1   topic, partition i32           OffsetCommit
//!   2      -                              GroupMetadata
//!   3      -                              ConsumerGroupMetadata
//!   4      -                              ConsumerGroupPartitionMetadata
//!   5      member id                      ConsumerGroupMemberMetadata
//!   6      -                              ConsumerGroupTargetAssignmentMetadata
//!   7      member id                      ConsumerGroupTargetAssignmentMember
//!   8      member id                      ConsumerGroupCurrentMemberAssignment
//!
//! value  | version i16 | fields |
//!   OffsetCommit 3: offset i64, leader epoch i32, metadata, commit timestamp i64
//!   GroupMetadata 3: see `codec_classic`
//!   the others 0, flexible: compact lengths, tagged fields at the end of each structure
//! ```
//! Source: the message schemas of Kafka's group coordinator (version 3.9; assignment epochs: 4.3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conveyor_record::fields::{DecodeError, Reader, Writer};
use conveyor_record::{LeaderEpoch, Offset};

use crate::codec_classic;
use crate::offsets::CommittedOffset;
use crate::pattern::TopicPattern;
use crate::{
    Assignment, ClassicMemberMetadata, CurrentAssignment, HeldPartitions, JOIN_EPOCH,
    MemberMetadata, MemberState, Protocol, Record, TopicInfo,
};

const OFFSET_COMMIT_VALUE_VERSION: i16 = 3;
const OFFSET_COMMIT_VALUE_VERSION_MAX: i16 = 4;
const CONSUMER_GROUP_VALUE_VERSION: i16 = 0;
/// The tagged field of a current assignment's topics that has an epoch for each partition.
const ASSIGNMENT_EPOCHS_TAG: u32 = 0;
/// The tagged field of a member's metadata that tells of the classic protocol.
const CLASSIC_MEMBER_TAG: u32 = 0;

pub(crate) fn encode_key(record: &Record) -> Vec<u8> {
    let version = match record {
        Record::OffsetCommit { .. } => 1,
        Record::GroupMetadata { .. } => 2,
        Record::ConsumerGroupMetadata { .. } => 3,
        Record::ConsumerGroupPartitionMetadata { .. } => 4,
        Record::ConsumerGroupMemberMetadata { .. } => 5,
        Record::ConsumerGroupTargetAssignmentMetadata { .. } => 6,
        Record::ConsumerGroupTargetAssignmentMember { .. } => 7,
        Record::ConsumerGroupCurrentMemberAssignment { .. } => 8,
    };
    let mut key = Writer::version(version);
    key.string(record.group_id());
    match record {
        Record::OffsetCommit {
            topic, partition, ..
        } => {
            key.string(topic);
            key.int32(*partition);
        }
        Record::ConsumerGroupMemberMetadata { member_id, .. }
        | Record::ConsumerGroupTargetAssignmentMember { member_id, .. }
        | Record::ConsumerGroupCurrentMemberAssignment { member_id, .. } => key.string(member_id),
        Record::GroupMetadata { .. }
        | Record::ConsumerGroupMetadata { .. }
        | Record::ConsumerGroupPartitionMetadata { .. }
        | Record::ConsumerGroupTargetAssignmentMetadata { .. } => {}
    }
    key.finish()
}

pub(crate) fn encode_value(record: &Record) -> Option<Vec<u8>> {
    match record {
        Record::OffsetCommit { value, .. } => value.as_ref().map(encode_offset),
        Record::GroupMetadata { value, .. } => value.as_ref().map(codec_classic::encode),
        Record::ConsumerGroupMetadata { epoch, .. }
        | Record::ConsumerGroupTargetAssignmentMetadata { epoch, .. } => epoch.map(encode_epoch),
        Record::ConsumerGroupPartitionMetadata { topics, .. } => topics.as_ref().map(encode_topics),
        Record::ConsumerGroupMemberMetadata { value, .. } => value.as_ref().map(encode_member),
        Record::ConsumerGroupTargetAssignmentMember { assignment, .. } => {
            assignment.as_ref().map(encode_target)
        }
        Record::ConsumerGroupCurrentMemberAssignment { value, .. } => {
            value.as_ref().map(encode_current)
        }
    }
}

fn encode_offset(committed: &CommittedOffset) -> Vec<u8> {
    let mut value = Writer::version(OFFSET_COMMIT_VALUE_VERSION);
    value.int64(committed.offset.value());
    value.int32(committed.leader_epoch.value());
    value.string(&committed.metadata);
    value.int64(committed.commit_timestamp_ms);
    value.finish()
}

fn encode_epoch(epoch: i32) -> Vec<u8> {
    let mut value = Writer::version(CONSUMER_GROUP_VALUE_VERSION);
    value.int32(epoch);
    value.no_tagged_fields();
    value.finish()
}

fn encode_topics(topics: &BTreeMap<String, TopicInfo>) -> Vec<u8> {
    let mut value = Writer::version(CONSUMER_GROUP_VALUE_VERSION);
    value.length(topics.len());
    for (name, topic) in topics {
        value.uuid(topic.id);
        value.compact_string(name);
        value.int32(topic.partitions);
        value.length(0); // racks of the partitions, which nobody reads any more
        value.no_tagged_fields();
    }
    value.no_tagged_fields();
    value.finish()
}

fn encode_member(member: &MemberMetadata) -> Vec<u8> {
    let mut value = Writer::version(CONSUMER_GROUP_VALUE_VERSION);
    value.compact_nullable_string(member.instance_id.as_deref());
    value.compact_nullable_string(member.rack_id.as_deref());
    value.compact_string(&member.client_id);
    value.compact_string(&member.client_host);
    value.length(member.subscribed_topic_names.len());
    for name in &member.subscribed_topic_names {
        value.compact_string(name);
    }
    let pattern = member.subscribed_topic_regex.as_ref();
    value.compact_nullable_string(pattern.map(TopicPattern::as_str));
    value.int32(member.rebalance_timeout_ms);
    value.compact_nullable_string(member.server_assignor.as_deref());
    match &member.classic {
        None => value.no_tagged_fields(),
        Some(classic) => {
            value.unsigned_varint(1);
            value.tagged(CLASSIC_MEMBER_TAG, &encode_classic_member(classic));
        }
    }
    value.finish()
}

/// A structure that could be null: a byte says that it is not.
fn encode_classic_member(classic: &ClassicMemberMetadata) -> Vec<u8> {
    let mut value = Writer::default();
    value.int8(1);
    value.int32(classic.session_timeout_ms);
    value.length(classic.protocols.len());
    for protocol in &classic.protocols {
        value.compact_string(&protocol.name);
        value.compact_bytes(&protocol.metadata);
        value.no_tagged_fields();
    }
    value.no_tagged_fields();
    value.finish()
}

fn encode_target(assignment: &Assignment) -> Vec<u8> {
    let mut value = Writer::version(CONSUMER_GROUP_VALUE_VERSION);
    encode_assignment(&mut value, assignment);
    value.no_tagged_fields();
    value.finish()
}

fn encode_current(current: &CurrentAssignment) -> Vec<u8> {
    let mut value = Writer::version(CONSUMER_GROUP_VALUE_VERSION);
    value.int32(current.epoch);
    value.int32(current.previous_epoch);
    value.int8(current.state.code());
    encode_held(&mut value, &current.assigned);
    encode_held(&mut value, &current.pending_revocation);
    value.no_tagged_fields();
    value.finish()
}

fn encode_held(value: &mut Writer, held: &HeldPartitions) {
    let topics = held.topics();
    value.length(topics.len());
    for (topic, partitions) in topics {
        value.uuid(topic);
        value.length(partitions.len());
        for partition in partitions.keys() {
            value.int32(*partition);
        }
        let mut epochs = Writer::default();
        epochs.length(partitions.len());
        for epoch in partitions.values() {
            epochs.int32(*epoch);
        }
        value.unsigned_varint(1);
        value.tagged(ASSIGNMENT_EPOCHS_TAG, &epochs.finish());
    }
}

fn encode_assignment(value: &mut Writer, assignment: &Assignment) {
    let topics = assignment.topics();
    value.length(topics.len());
    for (topic, partitions) in topics {
        value.uuid(topic);
        value.int32_set(partitions);
        value.no_tagged_fields();
    }
}

pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, DecodeError> {
    let mut key = Reader::new(key);
    let version = key.int16("key version")?;
    if !matches!(version, 0..=8) {
        return Ok(None);
    }
    let group_id = key.string("group id")?;
    let record = match version {
        0 | 1 => Record::OffsetCommit {
            group_id,
            topic: key.string("topic")?,
            partition: key.int32("partition")?,
            value: value.map(decode_offset).transpose()?,
        },
        2 => Record::GroupMetadata {
            group_id,
            value: value.map(codec_classic::decode).transpose()?,
        },
        3 => Record::ConsumerGroupMetadata {
            group_id,
            epoch: value
                .map(|v| decode_epoch("ConsumerGroupMetadata", v))
                .transpose()?,
        },
        4 => Record::ConsumerGroupPartitionMetadata {
            group_id,
            topics: value.map(decode_topics).transpose()?,
        },
        5 => Record::ConsumerGroupMemberMetadata {
            group_id,
            member_id: key.string("member id")?,
            value: value.map(decode_member).transpose()?,
        },
        6 => Record::ConsumerGroupTargetAssignmentMetadata {
            group_id,
            epoch: value
                .map(|v| decode_epoch("ConsumerGroupTargetAssignmentMetadata", v))
                .transpose()?,
        },
        7 => Record::ConsumerGroupTargetAssignmentMember {
            group_id,
            member_id: key.string("member id")?,
            assignment: value.map(decode_target).transpose()?,
        },
        _ => Record::ConsumerGroupCurrentMemberAssignment {
            group_id,
            member_id: key.string("member id")?,
            value: value.map(decode_current).transpose()?,
        },
    };
    key.finish()?;
    Ok(Some(record))
}

fn decode_offset(bytes: &[u8]) -> Result<CommittedOffset, DecodeError> {
    let mut value = Reader::new(bytes);
    let version = value.int16("value version")?;
    if !(0..=OFFSET_COMMIT_VALUE_VERSION_MAX).contains(&version) {
        return Err(DecodeError::UnsupportedVersion {
            kind: "OffsetCommit",
            version,
            supported: OFFSET_COMMIT_VALUE_VERSION_MAX,
        });
    }
    let offset = value.int64("offset")?;
    let leader_epoch = if version >= 3 {
        value.int32("leader epoch")?
    } else {
        -1
    };
    let metadata = if version >= 4 {
        value.compact_string("metadata")?
    } else {
        value.string("metadata")?
    };
    let commit_timestamp_ms = value.int64("commit timestamp")?;
    if version == 1 {
        // An expiry of its own, which only old clients set: retention is the group's matter now.
        value.int64("expire timestamp")?;
    }
    if version >= 4 {
        value.skip_tagged_fields()?;
    }
    value.finish()?;
    Ok(CommittedOffset {
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(leader_epoch),
        metadata,
        commit_timestamp_ms,
    })
}

/// A reader behind the version of a consumer group's value.
fn consumer_group_value<'a>(
    kind: &'static str,
    bytes: &'a [u8],
) -> Result<Reader<'a>, DecodeError> {
    let mut value = Reader::new(bytes);
    let version = value.int16("value version")?;
    if version != CONSUMER_GROUP_VALUE_VERSION {
        let supported = CONSUMER_GROUP_VALUE_VERSION;
        return Err(DecodeError::UnsupportedVersion {
            kind,
            version,
            supported,
        });
    }
    Ok(value)
}

fn finish_flexible(mut value: Reader<'_>) -> Result<(), DecodeError> {
    value.skip_tagged_fields()?;
    value.finish()
}

fn decode_epoch(kind: &'static str, bytes: &[u8]) -> Result<i32, DecodeError> {
    let mut value = consumer_group_value(kind, bytes)?;
    let epoch = value.int32("epoch")?;
    finish_flexible(value)?;
    Ok(epoch)
}

fn decode_topics(bytes: &[u8]) -> Result<BTreeMap<String, TopicInfo>, DecodeError> {
    let mut value = consumer_group_value("ConsumerGroupPartitionMetadata", bytes)?;
    let mut topics = BTreeMap::new();
    for _ in 0..value.length(23, "topics")? {
        let id = value.uuid("topic id")?;
        let name = value.compact_string("topic name")?;
        let partitions = value.int32("partition count")?;
        for _ in 0..value.length(6, "partition metadata")? {
            value.int32("partition")?;
            for _ in 0..value.length(1, "racks")? {
                value.compact_string("rack")?;
            }
            value.skip_tagged_fields()?;
        }
        value.skip_tagged_fields()?;
        topics.insert(name, TopicInfo { id, partitions });
    }
    finish_flexible(value)?;
    Ok(topics)
}

fn decode_member(bytes: &[u8]) -> Result<MemberMetadata, DecodeError> {
    let mut value = consumer_group_value("ConsumerGroupMemberMetadata", bytes)?;
    let instance_id = value.compact_nullable_string("instance id")?;
    let rack_id = value.compact_nullable_string("rack id")?;
    let client_id = value.compact_string("client id")?;
    let client_host = value.compact_string("client host")?;
    let names = value.length(1, "subscribed topic names")?;
    let subscribed_topic_names = (0..names)
        .map(|_| value.compact_string("subscribed topic name"))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let mut member = MemberMetadata {
        instance_id,
        rack_id,
        client_id,
        client_host,
        subscribed_topic_names,
        subscribed_topic_regex: value
            .compact_nullable_string("subscribed topic regex")?
            .map(TopicPattern::stored),
        rebalance_timeout_ms: value.int32("rebalance timeout")?,
        server_assignor: value.compact_nullable_string("server assignor")?,
        classic: None,
    };
    value.tagged_fields(|tag, field| {
        if tag == CLASSIC_MEMBER_TAG {
            member.classic = decode_classic_member(field)?;
        }
        Ok(())
    })?;
    value.finish()?;
    Ok(member)
}

fn decode_classic_member(
    mut value: Reader<'_>,
) -> Result<Option<ClassicMemberMetadata>, DecodeError> {
    if value.int8("classic member")? < 0 {
        value.finish()?;
        return Ok(None);
    }
    let session_timeout_ms = value.int32("session timeout")?;
    let count = value.length(3, "protocols")?;
    let mut protocols = Vec::with_capacity(count);
    for _ in 0..count {
        protocols.push(Protocol {
            name: value.compact_string("protocol")?,
            metadata: Bytes::copy_from_slice(value.compact_bytes("protocol metadata")?),
        });
        value.skip_tagged_fields()?;
    }
    finish_flexible(value)?;
    Ok(Some(ClassicMemberMetadata {
        session_timeout_ms,
        protocols,
    }))
}

fn decode_target(bytes: &[u8]) -> Result<Assignment, DecodeError> {
    let mut value = consumer_group_value("ConsumerGroupTargetAssignmentMember", bytes)?;
    let assignment = decode_assignment(&mut value)?;
    finish_flexible(value)?;
    Ok(assignment)
}

fn decode_current(bytes: &[u8]) -> Result<CurrentAssignment, DecodeError> {
    let mut value = consumer_group_value("ConsumerGroupCurrentMemberAssignment", bytes)?;
    let epoch = value.int32("member epoch")?;
    let current = CurrentAssignment {
        epoch,
        previous_epoch: value.int32("previous member epoch")?,
        state: MemberState::from_code(value.int8("member state")?),
        assigned: decode_held(&mut value, epoch)?,
        pending_revocation: decode_held(&mut value, epoch)?,
    };
    finish_flexible(value)?;
    Ok(current)
}

/// Partitions with the epochs since which they are held. Without epochs, as versions before 4.3 write
/// them, or with another number of them than of partitions: since the member's epoch, so that commits
/// with an older one are refused.
fn decode_held(value: &mut Reader<'_>, member_epoch: i32) -> Result<HeldPartitions, DecodeError> {
    let mut held = HeldPartitions::new();
    for _ in 0..value.length(18, "assigned topics")? {
        let topic = value.uuid("topic id")?;
        let count = value.length(4, "partitions")?;
        let partitions = (0..count)
            .map(|_| value.int32("partition"))
            .collect::<Result<Vec<_>, _>>()?;
        let mut epochs = Vec::new();
        value.tagged_fields(|tag, mut field| {
            if tag == ASSIGNMENT_EPOCHS_TAG {
                let count = field.nullable_length(true, 4, "assignment epochs")?;
                for _ in 0..count {
                    epochs.push(field.int32("assignment epoch")?);
                }
                field.finish()?;
            }
            Ok(())
        })?;
        if epochs.len() != partitions.len() {
            epochs = vec![member_epoch.max(JOIN_EPOCH); partitions.len()];
        }
        for (partition, epoch) in partitions.into_iter().zip(epochs) {
            held.insert(topic, partition, epoch);
        }
    }
    Ok(held)
}

fn decode_assignment(value: &mut Reader<'_>) -> Result<Assignment, DecodeError> {
    let mut assignment = Assignment::new();
    for _ in 0..value.length(18, "assigned topics")? {
        let topic = value.uuid("topic id")?;
        let partitions = value.int32_set("partitions")?;
        assignment.extend(partitions.into_iter().map(|partition| (topic, partition)));
        value.skip_tagged_fields()?;
    }
    Ok(assignment)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
