//! The rules for idempotent and transactional producers, one by one.

use super::*;
use conveyor_record::{Codec, LeaderEpoch, TimestampType};

fn batch(producer: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchMeta {
    BatchMeta {
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(0),
        size: 100,
        record_count: count,
        last_offset_delta: count - 1,
        base_timestamp_ms: 5,
        max_timestamp_ms: 7,
        max_timestamp_offset_delta: 0,
        timestamp_type: TimestampType::CreateTime,
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
        codec: Codec::None,
        is_transactional: false,
        is_control: false,
    }
}

fn check(producers: &Producers, meta: &BatchMeta) -> Result<Verdict, AppendError> {
    producers.check(&TopicPartition::new("orders", 0), meta, None)
}

fn applied(batches: &[BatchMeta]) -> Producers {
    let mut producers = Producers::default();
    for meta in batches {
        assert_eq!(check(&producers, meta).unwrap(), Verdict::Append);
        producers.apply(meta, None, 1000);
    }
    producers.commit();
    producers
}

#[test]
fn what_a_coordinator_writes_for_a_producer_stands_outside_its_sequences() {
    let offsets = |epoch, offset| BatchMeta {
        is_transactional: true,
        ..batch(1, epoch, -1, 2, offset)
    };
    let mut producers = applied(&[offsets(3, 0)]);
    let producer = producers.get(ProducerId(1)).unwrap();
    assert_eq!(producer.transaction_start, Some(Offset(0)));
    // The same again is no duplicate, and a batch of the producer's own begins where it likes.
    assert_eq!(check(&producers, &offsets(3, 2)).unwrap(), Verdict::Append);
    assert_eq!(producers.apply(&offsets(3, 2), None, 1000), None);
    let own = BatchMeta {
        is_transactional: true,
        ..batch(1, 3, 0, 1, 4)
    };
    assert_eq!(check(&producers, &own).unwrap(), Verdict::Append);
    // But an older incarnation is fenced as ever.
    assert!(matches!(
        check(&producers, &offsets(2, 4)),
        Err(AppendError::InvalidProducerEpoch { .. })
    ));
}

#[test]
fn the_last_five_batches_are_recognised_with_their_first_offsets() {
    let sent: Vec<_> = (0..7)
        .map(|i| batch(1, 0, i * 10, 10, i64::from(i) * 10))
        .collect();
    let producers = applied(&sent);
    for (index, meta) in sent.iter().enumerate() {
        let verdict = check(
            &producers,
            &BatchMeta {
                base_offset: Offset(0),
                ..*meta
            },
        );
        match (index, verdict) {
            (0 | 1, Err(AppendError::OutOfOrderSequence { expected: 70, .. })) => {}
            (_, Ok(Verdict::Duplicate(found))) => assert_eq!(found.base_offset, meta.base_offset),
            (_, other) => panic!("batch {index}: {other:?}"),
        }
    }
}

#[test]
fn sequences_have_no_gaps_and_wrap_to_zero() {
    let producers = applied(&[batch(1, 0, i32::MAX - 4, 5, 0)]);
    assert!(matches!(
        check(&producers, &batch(1, 0, 1, 1, 0)),
        Err(AppendError::OutOfOrderSequence {
            expected: 0,
            found: 1,
            ..
        })
    ));
    assert_eq!(
        check(&producers, &batch(1, 0, 0, 1, 0)).unwrap(),
        Verdict::Append
    );
}

#[test]
fn a_new_incarnation_starts_at_zero_and_fences_the_old_one() {
    let mut producers = applied(&[batch(1, 3, 0, 5, 0)]);
    assert!(check(&producers, &batch(1, 4, 5, 1, 0)).is_err());
    assert_eq!(
        check(&producers, &batch(1, 4, 0, 1, 5)).unwrap(),
        Verdict::Append
    );
    producers.apply(&batch(1, 4, 0, 1, 5), None, 1000);
    assert!(matches!(
        check(&producers, &batch(1, 3, 5, 1, 6)),
        Err(AppendError::InvalidProducerEpoch {
            found: ProducerEpoch(3),
            current: ProducerEpoch(4),
            ..
        })
    ));
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    assert_eq!(
        check(&Producers::default(), &batch(9, 2, 4711, 1, 0)).unwrap(),
        Verdict::Append
    );
}

#[test]
fn what_was_not_written_is_forgotten() {
    let mut producers = applied(&[batch(1, 0, 0, 5, 0)]);
    producers.apply(&batch(1, 0, 5, 5, 5), None, 1000);
    producers.apply(&batch(1, 0, 10, 5, 10), None, 1000);
    producers.apply(&batch(2, 0, 0, 5, 15), None, 1000);
    producers.roll_back();
    assert_eq!(producers.len(), 1);
    assert_eq!(
        check(&producers, &batch(1, 0, 5, 5, 0)).unwrap(),
        Verdict::Append
    );
}

#[test]
fn transactions_begin_with_the_first_batch_and_end_with_a_marker() {
    let mut producers = Producers::default();
    let data = |sequence, offset| BatchMeta {
        is_transactional: true,
        ..batch(1, 0, sequence, 1, offset)
    };
    let began = producers.apply(&data(0, 10), None, 1000);
    assert_eq!(
        began,
        Some(TransactionEvent::Began {
            producer_id: ProducerId(1),
            first_offset: Offset(10)
        })
    );
    assert_eq!(producers.apply(&data(1, 11), None, 1000), None);
    assert!(matches!(
        check(&producers, &batch(1, 0, 2, 1, 12)),
        Err(AppendError::InvalidTransactionState { .. })
    ));

    let marker = BatchMeta {
        is_control: true,
        is_transactional: true,
        base_sequence: -1,
        ..batch(1, 0, 0, 1, 12)
    };
    let abort = ControlRecord {
        control_type: ControlType::Abort,
        coordinator_epoch: 7,
    };
    let completed = producers.apply(&marker, Some(abort), 1000);
    assert_eq!(
        completed,
        Some(TransactionEvent::Completed(CompletedTransaction {
            producer_id: ProducerId(1),
            first_offset: Offset(10),
            marker_offset: Offset(12),
            aborted: true,
        }))
    );
    let stale = ControlRecord {
        control_type: ControlType::Commit,
        coordinator_epoch: 6,
    };
    assert!(matches!(
        producers.check(&TopicPartition::new("orders", 0), &marker, Some(stale)),
        Err(AppendError::FencedCoordinator {
            found: 6,
            current: 7,
            ..
        })
    ));
}

#[test]
fn silent_producers_expire_unless_a_transaction_is_open() {
    let mut producers = applied(&[batch(1, 0, 0, 1, 0)]);
    producers.apply(
        &BatchMeta {
            is_transactional: true,
            ..batch(2, 0, 0, 1, 1)
        },
        None,
        1000,
    );
    producers.commit();
    producers.expire(1999, 1000);
    assert_eq!(producers.len(), 2);
    producers.expire(2000, 1000);
    assert_eq!(
        producers
            .iter()
            .map(|(id, _)| id.value())
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn snapshots_keep_everything_and_damage_is_noticed() {
    let mut producers = applied(
        &(0..4)
            .map(|i| batch(1, 0, i, 1, i64::from(i)))
            .collect::<Vec<_>>(),
    );
    producers.apply(
        &BatchMeta {
            is_transactional: true,
            ..batch(7, 2, 0, 3, 4)
        },
        None,
        99,
    );
    producers.commit();
    let bytes = snapshot::encode(&producers);
    let back = snapshot::decode(&bytes).unwrap();
    assert!(back.iter().eq(producers.iter()));

    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x10;
        assert!(
            snapshot::decode(&damaged).is_none(),
            "damage at {position} went unnoticed"
        );
        assert!(
            snapshot::decode(&bytes[..position]).is_none(),
            "cut at {position} went unnoticed"
        );
    }
}

#[test]
fn a_snapshot_of_kafka_has_the_last_batch_only() {
    let producers = applied(&[batch(1, 0, 0, 2, 0), batch(1, 0, 2, 3, 2)]);
    let bytes = snapshot::encode(&producers);
    // Kafka's part: 10 bytes of head and 46 for the one producer.
    let mut kafka = bytes[..56].to_vec();
    let crc = conveyor_record::checksum::crc32c(&kafka[6..]);
    kafka[2..6].copy_from_slice(&crc.to_be_bytes());
    let back = snapshot::decode(&kafka).unwrap();
    let producer = back.get(ProducerId(1)).unwrap();
    assert_eq!(producer.batches.len(), 1);
    assert_eq!(producer.batches[0].first_sequence, 2);
    assert_eq!(producer.batches[0].last_sequence, 4);
    assert_eq!(producer.batches[0].base_offset, Offset(2));
}

#[test]
fn a_million_producers_fit_into_bounded_memory() {
    let mut producers = Producers::default();
    let open = BatchMeta {
        is_transactional: true,
        ..batch(0, 0, 0, 1, 0)
    };
    producers.apply(&open, None, 0);
    for id in 1..=1_000_000 {
        producers.apply(&batch(id, 0, 0, 1, id), None, id);
        producers.commit();
        assert!(producers.len() <= PRODUCERS_MAX);
    }
    assert!(producers.len() > PRODUCERS_MAX / 2, "not more than needed");
    assert!(
        producers.get(ProducerId(0)).is_some(),
        "its transaction is open"
    );
    assert!(producers.get(ProducerId(1)).is_none());
    for recent in 1_000_000 - 1000..=1_000_000 {
        assert!(producers.get(ProducerId(recent)).is_some(), "{recent}");
    }
}

#[test]
fn a_refused_run_forgets_nobody() {
    let mut producers = Producers::default();
    let max = PRODUCERS_MAX as i64;
    for id in 0..max {
        producers.apply(&batch(id, 0, 0, 1, id), None, id);
    }
    producers.commit();
    for id in max..max + 10 {
        producers.apply(&batch(id, 0, 0, 1, id), None, id);
    }
    producers.roll_back();
    assert_eq!(producers.len(), PRODUCERS_MAX);
    assert!(producers.get(ProducerId(0)).is_some());
}
