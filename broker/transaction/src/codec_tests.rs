//! Bytes of the records: golden ones, round trips, and bytes that nobody wrote.

use proptest::prelude::*;

use super::*;
use crate::EncodedRecord;

fn metadata() -> TransactionMetadata {
    TransactionMetadata {
        producer: Producer::new(4_000, 3),
        last_producer_epoch: ProducerEpoch(2),
        previous_producer_id: ProducerId(3_999),
        next_producer_id: ProducerId::NONE,
        timeout_ms: 60_000,
        state: TransactionState::Ongoing,
        partitions: [("a", 1), ("a", 0), ("b", 7)]
            .map(|(topic, partition)| TopicPartition::new(topic, partition))
            .into(),
        start_ms: 5,
        last_update_ms: 6,
        client_version: TransactionVersion::V2,
    }
}

fn read(stored: &EncodedRecord) -> Record {
    Record::decode(&stored.key, stored.value.as_deref())
        .unwrap()
        .unwrap()
}

#[test]
fn the_bytes_are_kafkas() {
    let stored = Record::new("tx", metadata()).encode();
    assert_eq!(stored.key, [0, 0, 0, 2, b't', b'x']);
    #[rustfmt::skip]
    let expected = [
        0, 1,                               // version
        0, 0, 0, 0, 0, 0, 0x0f, 0xa0,       // producer id
        0, 3,                               // producer epoch
        0, 0, 0xea, 0x60,                   // time-out
        1,                                  // Ongoing
        3,                                  // two topics
        2, b'a', 3, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        2, b'b', 2, 0, 0, 0, 7, 0,
        0, 0, 0, 0, 0, 0, 0, 6,             // last update
        0, 0, 0, 0, 0, 0, 0, 5,             // start
        3,                                  // three tagged fields
        0, 8, 0, 0, 0, 0, 0, 0, 0x0f, 0x9f, // previous producer id
        2, 2, 0, 2,                         // client version
        0x90, 0x4e, 2, 0, 2,                // ours: last producer epoch
    ];
    assert_eq!(stored.value.as_deref(), Some(&expected[..]));
}

#[test]
fn version_0_is_read() {
    #[rustfmt::skip]
    let value = [
        0, 0,
        0, 0, 0, 0, 0, 0, 0, 9,
        0, 1,
        0, 0, 0, 100,
        2,
        0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 4,
        0, 0, 0, 0, 0, 0, 0, 6,
        0, 0, 0, 0, 0, 0, 0, 5,
    ];
    let record = decode(&[0, 0, 0, 1, b't'], Some(&value)).unwrap().unwrap();
    let read = record.value.unwrap();
    assert_eq!(read.producer, Producer::new(9, 1));
    assert_eq!(read.state, TransactionState::PrepareCommit);
    assert_eq!(read.partitions, [TopicPartition::new("a", 4)].into());
    assert_eq!(read.previous_producer_id, ProducerId::NONE);

    // An id without a transaction has no list at all.
    let mut empty = value[..16].to_vec();
    empty.push(0);
    empty.extend_from_slice(&(-1_i32).to_be_bytes());
    empty.extend_from_slice(&value[value.len() - 16..]);
    let record = decode(&[0, 0, 0, 1, b't'], Some(&empty)).unwrap().unwrap();
    assert!(record.value.unwrap().partitions.is_empty());
}

#[test]
fn unknown_kinds_and_tags_are_passed_over_and_nonsense_is_refused() {
    assert_eq!(decode(&[0, 9, 1, 2, 3], None), Ok(None));
    assert_eq!(
        read(&Record::tombstone("tx").encode()),
        Record::tombstone("tx")
    );
    let stored = Record::new("tx", metadata()).encode();
    let key = stored.key.as_slice();
    let value = stored.value.unwrap();

    let mut newer = value.clone();
    let tags = newer.len() - 5 - 4 - 10 - 1;
    newer[tags] = 4;
    newer.extend_from_slice(&[0x91, 0x4e, 1, 42]);
    assert!(decode(key, Some(&newer)).is_ok());

    let mut other = value.clone();
    other[1] = 2;
    assert!(decode(key, Some(&other)).is_err());
    other[1] = 1;
    other[16] = 99;
    assert!(decode(key, Some(&other)).is_err());
    for end in 0..value.len() {
        assert!(decode(key, Some(&value[..end])).is_err(), "{end} bytes");
    }
    // A list that says it has four billion topics takes no memory.
    let mut lie = value[..17].to_vec();
    lie.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode(key, Some(&lie)).is_err());
}

fn any_metadata() -> impl Strategy<Value = TransactionMetadata> {
    let partitions = prop::collection::btree_set(("[a-z]{1,9}", 0..9_i32), 1..9);
    let numbers = (any::<i64>(), -1..i16::MAX, -1..i16::MAX);
    let ids = (-1..i64::MAX, -1..i64::MAX, 1..i32::MAX);
    (numbers, ids, 0..6_i8, partitions, 0..3_i16).prop_map(
        |((time, epoch, last), (previous, next, timeout_ms), state, partitions, level)| {
            let state = TransactionState::from_code(state).unwrap();
            let partitions = partitions
                .into_iter()
                .map(|(topic, partition)| TopicPartition::new(topic, partition));
            TransactionMetadata {
                producer: Producer::new(time, epoch),
                last_producer_epoch: ProducerEpoch(last),
                previous_producer_id: ProducerId(previous),
                next_producer_id: ProducerId(next),
                timeout_ms,
                state,
                partitions: if state == TransactionState::Empty {
                    BTreeSet::new()
                } else {
                    partitions.collect()
                },
                start_ms: time,
                last_update_ms: time,
                client_version: TransactionVersion::from_level(level),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_read_back_as_written(id in ".{1,40}", metadata in any_metadata()) {
        let record = Record::new(&id, metadata);
        prop_assert_eq!(read(&record.encode()), record);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        key in prop::collection::vec(any::<u8>(), 0..20),
        value in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        drop(decode(&key, Some(&value)));
        drop(decode_value(&value));
    }
}
