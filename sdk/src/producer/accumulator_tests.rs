//! Rules of the accumulator.

use conveyor_record::Codec;

use super::*;

fn accumulator(config: ProducerConfig) -> Accumulator {
    let accumulator = Accumulator::new(Arc::new(config));
    accumulator.register("orders", 6, (0..6).collect());
    accumulator
}

fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_size: 1_000,
        linger_ms: 10_000,
        compression: Codec::None,
        ..ProducerConfig::default()
    }
}

fn record() -> ProducerRecord {
    ProducerRecord::new("orders").value(vec![7; 100])
}

fn append(accumulator: &Accumulator, record: &ProducerRecord) -> DeliveryFuture {
    let reservation = accumulator.try_reserve(record.memory_size()).unwrap();
    accumulator.append(record, 1_000, reservation).unwrap()
}

fn changed(accumulator: &Accumulator) -> Vec<QueueId> {
    let mut queues = BTreeSet::new();
    accumulator.take_changed(&mut queues, &mut BTreeSet::new());
    queues.into_iter().collect()
}

#[test]
fn a_batch_lingers_until_it_is_full_followed_late_or_flushed() {
    let accumulator = accumulator(small_batches());
    let keyed = record().key("k");
    let queue = append(&accumulator, &keyed).partition() as QueueId;
    assert_eq!(changed(&accumulator), [queue]);
    let now = Instant::now();
    assert!(matches!(accumulator.take(queue, now), Take::LingersUntil(due) if due > now));
    let later = now + Duration::from_secs(11);
    assert!(matches!(accumulator.take(queue, later), Take::Batch(_)));
    assert!(matches!(accumulator.take(queue, later), Take::Empty));

    for _ in 0..10 {
        drop(append(&accumulator, &keyed));
    }
    assert!(
        matches!(accumulator.take(queue, now), Take::Batch(_)),
        "followed by another"
    );
    assert!(matches!(
        accumulator.take(queue, now),
        Take::LingersUntil(_)
    ));
    assert_eq!(accumulator.flush().len(), 3);
    assert!(
        matches!(accumulator.take(queue, now), Take::Batch(_)),
        "flushed"
    );
}

#[test]
fn keys_choose_their_partition_and_none_sticks_until_the_batch_is_complete() {
    let accumulator = accumulator(small_batches());
    let expected = partition_for_key(b"order-1", 6);
    assert_eq!(
        append(&accumulator, &record().key("order-1")).partition(),
        expected
    );

    let partitions: Vec<i32> = (0..70)
        .map(|_| append(&accumulator, &record()).partition())
        .collect();
    let runs = partitions
        .chunk_by(|a, b| a == b)
        .map(<[i32]>::len)
        .collect::<Vec<_>>();
    assert!(runs.len() >= 9, "moves on: {partitions:?}");
    assert!(runs.iter().all(|&run| run <= 9), "{runs:?}");
    assert!(runs[0] >= 7, "{runs:?}");
}

#[test]
fn records_without_a_key_avoid_partitions_without_a_leader() {
    let accumulator = accumulator(small_batches());
    accumulator.register("orders", 6, vec![2, 4]);
    for _ in 0..50 {
        let partition = append(&accumulator, &record()).partition();
        assert!([2, 4].contains(&partition), "{partition}");
    }
}

#[test]
fn a_partition_that_does_not_exist_is_refused_and_its_memory_given_back() {
    let accumulator = accumulator(small_batches());
    let used = accumulator.memory_used();
    for (record, partition) in [(record().partition(6), 6), (record().partition(-1), -1)] {
        let reservation = accumulator.try_reserve(200).unwrap();
        let error = accumulator.append(&record, 0, reservation).unwrap_err();
        assert!(
            matches!(error, AppendError::UnknownPartition { partition: p, count: 6 } if p == partition),
            "{error:?}"
        );
    }
    assert_eq!(accumulator.memory_used(), used);
}

#[test]
fn a_custom_partitioner_decides_or_leaves_it_to_the_rules() {
    #[derive(Debug)]
    struct OnlyZones;
    impl super::super::Partitioner for OnlyZones {
        fn partition(&self, record: &ProducerRecord, partition_count: i32) -> Option<i32> {
            record.headers.first().map(|_| partition_count - 1)
        }
    }
    let partitioner = Some(Arc::new(OnlyZones) as Arc<dyn super::super::Partitioner>);
    let accumulator = accumulator(ProducerConfig {
        partitioner,
        ..small_batches()
    });
    let zoned = record().key("k").header("zone", "A");
    assert_eq!(append(&accumulator, &zoned).partition(), 5);
    let plain = record().key("k");
    assert_eq!(
        append(&accumulator, &plain).partition(),
        partition_for_key(b"k", 6)
    );
}

#[test]
fn memory_is_bounded_and_comes_back_when_a_batch_is_settled() {
    let config = ProducerConfig {
        buffer_memory: 1_000,
        max_request_size: 500,
        ..small_batches()
    };
    let accumulator = accumulator(config);
    let record = record().partition(0);
    let mut sent = 0;
    while let Some(reservation) = accumulator.try_reserve(record.memory_size()) {
        drop(accumulator.append(&record, 0, reservation).unwrap());
        sent += 1;
    }
    assert_eq!(sent, 1_000 / 164);
    accumulator.close();
    let Take::Batch(batch) = accumulator.take(0, Instant::now()) else {
        panic!("no batch")
    };
    let outcome = BatchOutcome::Delivered {
        base_offset: 0,
        log_append_timestamp_ms: -1,
    };
    accumulator.settle(batch.id, &batch.completion, batch.memory, outcome);
    assert_eq!(accumulator.memory_used(), 0);
    assert!(accumulator.is_finished());
}

#[tokio::test]
async fn who_waits_for_memory_makes_batches_due() {
    let config = ProducerConfig {
        buffer_memory: 300,
        max_request_size: 300,
        ..small_batches()
    };
    let accumulator = Arc::new(accumulator(config));
    drop(append(&accumulator, &record().partition(0)));
    let waiting = {
        let accumulator = Arc::clone(&accumulator);
        tokio::spawn(async move { accumulator.reserve(200).await.is_ok() })
    };
    tokio::task::yield_now().await;
    let Take::Batch(batch) = accumulator.take(0, Instant::now()) else {
        panic!("lingers")
    };
    let outcome = BatchOutcome::failed(closed());
    accumulator.settle(batch.id, &batch.completion, batch.memory, outcome);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn after_the_end_every_report_and_every_waiter_is_answered() {
    let config = ProducerConfig {
        buffer_memory: 300,
        max_request_size: 300,
        ..small_batches()
    };
    let accumulator = Arc::new(accumulator(config));
    let report = append(&accumulator, &record());
    let waiting = {
        let accumulator = Arc::clone(&accumulator);
        tokio::spawn(async move { accumulator.reserve(200).await.is_ok() })
    };
    tokio::task::yield_now().await;
    assert_eq!(accumulator.fail_all(&closed()), 1);
    assert!(matches!(report.await, Err(Error::Closed { .. })));
    assert!(!waiting.await.unwrap());
    assert!(accumulator.try_reserve(1).is_none());
}
