//! The bytes of every kind of record, worked out by hand from Kafka's schemas, and properties of
//! reading whatever comes.

use bytes::Bytes;
use conveyor_record::{LeaderEpoch, Offset};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    Assignment, ClassicMemberMetadata, CommittedOffset, CurrentAssignment, DecodeError,
    HeldPartitions, MemberMetadata, MemberState, Protocol, Record, TopicInfo, TopicPattern,
};

const TOPIC: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const TOPIC_BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn held(partitions: &[(i32, i32)]) -> HeldPartitions {
    partitions.iter().map(|(p, e)| (TOPIC, *p, *e)).collect()
}

fn check_bytes(record: &Record, key: &[&[u8]], value: &[&[u8]]) {
    let encoded = record.encode();
    assert_eq!(encoded.key, key.concat(), "key");
    assert_eq!(
        encoded.value.as_deref(),
        Some(value.concat().as_slice()),
        "value"
    );
    let read = Record::decode(&encoded.key, encoded.value.as_deref());
    assert_eq!(read.unwrap().unwrap(), *record);
}

#[test]
fn an_offset_commit_has_kafkas_bytes() {
    let record = Record::OffsetCommit {
        group_id: "g1".into(),
        topic: "orders".into(),
        partition: 3,
        value: Some(CommittedOffset {
            offset: Offset(258),
            leader_epoch: LeaderEpoch(7),
            metadata: "m".into(),
            commit_timestamp_ms: 1_000,
        }),
    };
    check_bytes(
        &record,
        &[
            b"\x00\x01",
            b"\x00\x02g1",
            b"\x00\x06orders",
            b"\x00\x00\x00\x03",
        ],
        &[
            b"\x00\x03",
            b"\x00\x00\x00\x00\x00\x00\x01\x02",
            b"\x00\x00\x00\x07",
            b"\x00\x01m",
            b"\x00\x00\x00\x00\x00\x00\x03\xe8",
        ],
    );
}

#[test]
fn epochs_have_kafkas_bytes() {
    check_bytes(
        &Record::ConsumerGroupMetadata {
            group_id: "g".into(),
            epoch: Some(10),
        },
        &[b"\x00\x03", b"\x00\x01g"],
        &[b"\x00\x00", b"\x00\x00\x00\x0a", b"\x00"],
    );
    check_bytes(
        &Record::ConsumerGroupTargetAssignmentMetadata {
            group_id: "g".into(),
            epoch: Some(10),
        },
        &[b"\x00\x06", b"\x00\x01g"],
        &[b"\x00\x00", b"\x00\x00\x00\x0a", b"\x00"],
    );
}

#[test]
fn subscribed_topics_have_kafkas_bytes() {
    let topics = [(
        "t".to_owned(),
        TopicInfo {
            id: TOPIC,
            partitions: 4,
        },
    )]
    .into();
    check_bytes(
        &Record::ConsumerGroupPartitionMetadata {
            group_id: "g".into(),
            topics: Some(topics),
        },
        &[b"\x00\x04", b"\x00\x01g"],
        // one topic: id, name, partitions, no racks, no tags; no tags
        &[
            b"\x00\x00",
            b"\x02",
            &TOPIC_BYTES,
            b"\x02t",
            b"\x00\x00\x00\x04",
            b"\x01",
            b"\x00",
            b"\x00",
        ],
    );
}

#[test]
fn a_members_metadata_has_kafkas_bytes() {
    let record = Record::ConsumerGroupMemberMetadata {
        group_id: "g".into(),
        member_id: "m1".into(),
        value: Some(MemberMetadata {
            instance_id: Some("i".into()),
            rack_id: None,
            client_id: "cl".into(),
            client_host: "h".into(),
            subscribed_topic_names: ["a".to_owned(), "b".to_owned()].into(),
            subscribed_topic_regex: None,
            rebalance_timeout_ms: 300,
            server_assignor: Some("range".into()),
            classic: None,
        }),
    };
    check_bytes(
        &record,
        &[b"\x00\x05", b"\x00\x01g", b"\x00\x02m1"],
        &[
            b"\x00\x00",
            b"\x02i",
            b"\x00",
            b"\x03cl",
            b"\x02h",
            b"\x03\x02a\x02b",
            b"\x00",
            b"\x00\x00\x01\x2c",
            b"\x06range",
            b"\x00",
        ],
    );
}

#[test]
fn a_member_by_the_classic_protocol_has_kafkas_bytes() {
    let record = Record::ConsumerGroupMemberMetadata {
        group_id: "g".into(),
        member_id: "m1".into(),
        value: Some(MemberMetadata {
            instance_id: Some("i".into()),
            client_id: "cl".into(),
            client_host: "h".into(),
            subscribed_topic_names: ["a".to_owned(), "b".to_owned()].into(),
            rebalance_timeout_ms: 300,
            classic: Some(ClassicMemberMetadata {
                session_timeout_ms: 300,
                protocols: vec![Protocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(&[1, 2]),
                }],
            }),
            ..MemberMetadata::default()
        }),
    };
    check_bytes(
        &record,
        &[b"\x00\x05", b"\x00\x01g", b"\x00\x02m1"],
        // Written by Apache Kafka 4.3.1. The tagged field: present, session, one protocol with its
        // name, its metadata and no tags; no tags.
        &[
            b"\x00\x00",
            b"\x02i",
            b"\x00",
            b"\x03cl",
            b"\x02h",
            b"\x03\x02a\x02b",
            b"\x00",
            b"\x00\x00\x01\x2c",
            b"\x00",
            b"\x01\x00\x11",
            b"\x01\x00\x00\x01\x2c",
            b"\x02\x06range\x03\x01\x02\x00",
            b"\x00",
        ],
    );
}

#[test]
fn assignments_have_kafkas_bytes() {
    let partitions = |p: &[i32]| p.iter().map(|p| (TOPIC, *p)).collect::<Assignment>();
    check_bytes(
        &Record::ConsumerGroupTargetAssignmentMember {
            group_id: "g".into(),
            member_id: "m".into(),
            assignment: Some(partitions(&[1])),
        },
        &[b"\x00\x07", b"\x00\x01g", b"\x00\x01m"],
        &[
            b"\x00\x00",
            b"\x02",
            &TOPIC_BYTES,
            b"\x02\x00\x00\x00\x01",
            b"\x00",
            b"\x00",
        ],
    );
    check_bytes(
        &Record::ConsumerGroupCurrentMemberAssignment {
            group_id: "g".into(),
            member_id: "m".into(),
            value: Some(CurrentAssignment {
                epoch: 5,
                previous_epoch: 4,
                state: MemberState::UnrevokedPartitions,
                assigned: held(&[(0, 3), (2, 5)]),
                pending_revocation: held(&[(1, 4)]),
            }),
        },
        &[b"\x00\x08", b"\x00\x01g", b"\x00\x01m"],
        // Written by Apache Kafka 4.3.1. Behind each topic's partitions one tagged field, 0, of the
        // given number of bytes: an epoch for each.
        &[
            b"\x00\x00",
            b"\x00\x00\x00\x05",
            b"\x00\x00\x00\x04",
            b"\x01",
            b"\x02",
            &TOPIC_BYTES,
            b"\x03\x00\x00\x00\x00\x00\x00\x00\x02",
            b"\x01\x00\x09\x03\x00\x00\x00\x03\x00\x00\x00\x05",
            b"\x02",
            &TOPIC_BYTES,
            b"\x02\x00\x00\x00\x01",
            b"\x01\x00\x05\x02\x00\x00\x00\x04",
            b"\x00",
        ],
    );
}

#[test]
fn partitions_without_epochs_are_held_since_the_members_epoch() {
    let key = [&b"\x00\x08"[..], b"\x00\x01g", b"\x00\x01m"].concat();
    let read = |epoch: &[u8], tags: &[u8]| {
        let value: [&[u8]; 9] = [
            b"\x00\x00",
            epoch,
            b"\x00\x00\x00\x04",
            b"\x00",
            b"\x02",
            &TOPIC_BYTES,
            b"\x03\x00\x00\x00\x00\x00\x00\x00\x02",
            tags,
            b"\x01\x00",
        ];
        match Record::decode(&key, Some(&value.concat())) {
            Ok(Some(Record::ConsumerGroupCurrentMemberAssignment { value, .. })) => {
                value.unwrap().assigned
            }
            other => panic!("{other:?}"),
        }
    };
    let five = b"\x00\x00\x00\x05";
    let since_five = held(&[(0, 5), (2, 5)]);
    assert_eq!(read(five, b"\x00"), since_five, "as before 4.3");
    assert_eq!(read(five, b"\x01\x00\x01\x00"), since_five, "null");
    assert_eq!(
        read(five, b"\x01\x00\x05\x02\x00\x00\x00\x03"),
        since_five,
        "one epoch for two partitions"
    );
    assert_eq!(
        read(b"\xff\xff\xff\xfe", b"\x00"),
        held(&[(0, 0), (2, 0)]),
        "of a static member that is away"
    );
}

#[test]
fn offsets_of_older_and_newer_versions_are_read() {
    let key = [
        &b"\x00\x00"[..],
        b"\x00\x01g",
        b"\x00\x01t",
        b"\x00\x00\x00\x00",
    ]
    .concat();
    let offset = b"\x00\x00\x00\x00\x00\x00\x00\x09";
    let time = b"\x00\x00\x00\x00\x00\x00\x00\x64";
    let versions: [Vec<&[u8]>; 4] = [
        vec![b"\x00\x00", offset, b"\x00\x01m", time],
        vec![b"\x00\x01", offset, b"\x00\x01m", time, time],
        vec![b"\x00\x02", offset, b"\x00\x01m", time],
        vec![
            b"\x00\x04",
            offset,
            b"\xff\xff\xff\xff",
            b"\x02m",
            time,
            b"\x01\x07\x02xy",
        ],
    ];
    for value in versions {
        let read = Record::decode(&key, Some(&value.concat()))
            .unwrap()
            .unwrap();
        let Record::OffsetCommit {
            value: Some(committed),
            ..
        } = read
        else {
            panic!("{read:?}")
        };
        assert_eq!(committed.offset, Offset(9));
        assert_eq!(committed.leader_epoch, LeaderEpoch(-1));
        assert_eq!(
            (committed.metadata.as_str(), committed.commit_timestamp_ms),
            ("m", 100)
        );
    }
}

#[test]
fn kinds_of_other_protocols_are_passed_over_and_newer_values_refused() {
    for version in [9_i16, 11, 15, -1] {
        assert_eq!(Record::decode(&version.to_be_bytes(), None), Ok(None));
    }
    let key = Record::ConsumerGroupMetadata {
        group_id: "g".into(),
        epoch: None,
    }
    .encode()
    .key;
    assert!(matches!(
        Record::decode(&key, Some(b"\x00\x01\x00\x00\x00\x01\x00")),
        Err(DecodeError::UnsupportedVersion { version: 1, .. })
    ));
}

#[test]
fn a_length_that_lies_is_refused_before_it_is_believed() {
    let key = Record::ConsumerGroupTargetAssignmentMember {
        group_id: "g".into(),
        member_id: "m".into(),
        assignment: None,
    }
    .encode()
    .key;
    // An array of 2^32 - 2 topics in ten bytes.
    let value = b"\x00\x00\xff\xff\xff\xff\x0f\x00\x00\x00";
    assert!(matches!(
        Record::decode(&key, Some(value)),
        Err(DecodeError::Truncated { left: 3, .. })
    ));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{1,12}", "\\PC{1,40}", Just("x".repeat(300))]
}

fn assignment() -> impl Strategy<Value = Assignment> {
    proptest::collection::vec(
        (any::<u128>().prop_map(Uuid::from_u128), any::<i32>()),
        0..20,
    )
    .prop_map(|partitions| partitions.into_iter().collect())
}

fn held_partitions() -> impl Strategy<Value = HeldPartitions> {
    proptest::collection::vec(
        (
            any::<u128>().prop_map(Uuid::from_u128),
            any::<i32>(),
            any::<i32>(),
        ),
        0..20,
    )
    .prop_map(|partitions| partitions.into_iter().collect())
}

fn member() -> impl Strategy<Value = MemberMetadata> {
    let options = || proptest::option::of(text());
    let names = proptest::collection::btree_set(text(), 0..5);
    (
        options(),
        options(),
        text(),
        text(),
        names,
        options(),
        any::<i32>(),
        options(),
    )
        .prop_map(
            |(instance_id, rack_id, client_id, client_host, names, regex, timeout, assignor)| {
                MemberMetadata {
                    instance_id,
                    rack_id,
                    client_id,
                    client_host,
                    subscribed_topic_names: names,
                    subscribed_topic_regex: regex.map(TopicPattern::stored),
                    rebalance_timeout_ms: timeout,
                    server_assignor: assignor,
                    classic: None,
                }
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    use proptest::option::of;
    let committed =
        (any::<i64>(), any::<i32>(), ".{0,60}", any::<i64>()).prop_map(|(o, e, m, t)| {
            CommittedOffset {
                offset: Offset(o),
                leader_epoch: LeaderEpoch(e),
                metadata: m,
                commit_timestamp_ms: t,
            }
        });
    let topic = (any::<u128>(), any::<i32>()).prop_map(|(id, partitions)| TopicInfo {
        id: Uuid::from_u128(id),
        partitions,
    });
    let current = (
        any::<(i32, i32, i8)>(),
        held_partitions(),
        held_partitions(),
    )
        .prop_map(
            |((epoch, previous_epoch, state), assigned, pending_revocation)| CurrentAssignment {
                epoch,
                previous_epoch,
                state: MemberState::from_code(state),
                assigned,
                pending_revocation,
            },
        );
    prop_oneof![
        (text(), text(), any::<i32>(), of(committed)).prop_map(
            |(group_id, topic, partition, value)| Record::OffsetCommit {
                group_id,
                topic,
                partition,
                value
            }
        ),
        (text(), of(any::<i32>()))
            .prop_map(|(group_id, epoch)| Record::ConsumerGroupMetadata { group_id, epoch }),
        (
            text(),
            of(proptest::collection::btree_map(text(), topic, 0..5))
        )
            .prop_map(
                |(group_id, topics)| Record::ConsumerGroupPartitionMetadata { group_id, topics }
            ),
        (text(), text(), of(member())).prop_map(|(group_id, member_id, value)| {
            Record::ConsumerGroupMemberMetadata {
                group_id,
                member_id,
                value,
            }
        }),
        (text(), of(any::<i32>())).prop_map(|(group_id, epoch)| {
            Record::ConsumerGroupTargetAssignmentMetadata { group_id, epoch }
        }),
        (text(), text(), of(assignment())).prop_map(|(group_id, member_id, assignment)| {
            Record::ConsumerGroupTargetAssignmentMember {
                group_id,
                member_id,
                assignment,
            }
        }),
        (text(), text(), of(current)).prop_map(|(group_id, member_id, value)| {
            Record::ConsumerGroupCurrentMemberAssignment {
                group_id,
                member_id,
                value,
            }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_record_comes_back_as_it_was_written(record in record()) {
        let stored = record.encode();
        let read = Record::decode(&stored.key, stored.value.as_deref());
        prop_assert_eq!(read, Ok(Some(record)));
    }

    #[test]
    fn no_bytes_bring_the_reader_down(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        // Whatever is read must be writable again: nothing was believed that is not there.
        if let Ok(Some(record)) = Record::decode(&key, Some(&value)) {
            let _: crate::EncodedRecord = record.encode();
        }
    }

    #[test]
    fn a_cut_or_changed_record_is_refused_or_read_as_another(
        record in record(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut stored = record.encode();
        if let Some(value) = stored.value.as_mut().filter(|value| !value.is_empty()) {
            let at = at.index(value.len());
            if cut {
                value.truncate(at);
                prop_assert!(Record::decode(&stored.key, stored.value.as_deref()).is_err());
            } else {
                let changed = value[at] != byte;
                value[at] = byte;
                let read = Record::decode(&stored.key, stored.value.as_deref());
                if let Ok(Some(read)) = read && changed {
                    prop_assert!(read.encode().key == stored.key);
                }
            }
        }
    }
}
