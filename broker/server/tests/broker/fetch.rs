//! Fetching: long polls, streams with credit, sessions, offsets by time.

use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;

use crate::harness::{
    BatchSpec, StreamFetcher, TestBroker, batch, batch_with, decode, fetch_request, now_ms,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_woken_by_an_append() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let mut request = fetch_request("orders", 1, 0);
    request.max_wait_ms = 10_000;
    let mut fetcher = broker.fetcher();
    let started = Instant::now();
    let poll = tokio::spawn(async move { fetcher.fetch(request).await.unwrap().into_inner() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!poll.is_finished(), "there is nothing to answer with yet");
    broker.produce_values("orders", 1, &["a"]).await;
    let response = poll.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        decode(&response.partitions[0].records),
        [(0, "a".to_owned())]
    );
    assert_eq!(response.partitions[0].high_watermark, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_its_time_or_waits_for_enough() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut request = fetch_request("orders", 0, 0);
    request.max_wait_ms = 300;
    let started = Instant::now();
    let records = broker.fetch_one(request.clone()).await;
    assert!(
        started.elapsed() >= Duration::from_millis(290),
        "{:?}",
        started.elapsed()
    );
    assert!(records.records.is_empty() && records.error_code == 0);

    broker.produce_values("orders", 0, &["small"]).await;
    request.min_bytes = 1_000_000;
    let started = Instant::now();
    let records = broker.fetch_one(request).await;
    assert!(
        started.elapsed() >= Duration::from_millis(290),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        decode(&records.records).len(),
        1,
        "what is there is sent when the time is over"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_cut_between_batches_and_the_first_comes_whole() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for _ in 0..10 {
        broker
            .produce_values("orders", 0, &[&"x".repeat(1_000)])
            .await;
    }
    let mut request = fetch_request("orders", 0, 3);
    request.max_bytes = 10;
    let records = broker.fetch_one(request.clone()).await;
    assert_eq!(decode(&records.records).len(), 1);
    assert_eq!(
        (
            records.next_offset,
            records.high_watermark,
            records.log_start_offset
        ),
        (4, 10, 0)
    );
    request.max_bytes = 3_500;
    let records = broker.fetch_one(request).await;
    assert_eq!(records.next_offset, 6);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_places_get_their_code() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["a"]).await;
    let code = async |request: v1::FetchRequest| {
        ErrorCode::from_code(broker.fetch_one(request).await.error_code)
    };
    assert_eq!(
        code(fetch_request("orders", 0, 5)).await,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(
        code(fetch_request("orders", 0, -5)).await,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(
        code(fetch_request("orders", 3, 0)).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        code(fetch_request("nothing", 0, 0)).await,
        ErrorCode::UnknownTopicOrPartition
    );
    let mut newer = fetch_request("orders", 0, 0);
    newer.partitions[0].current_leader_epoch = 9;
    assert_eq!(code(newer).await, ErrorCode::UnknownLeaderEpoch);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_sends_what_credit_allows_and_no_more() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for _ in 0..20 {
        broker
            .produce_values("orders", 0, &[&"x".repeat(1_000)])
            .await;
    }
    let open = v1::FetchStreamOpen {
        response_bytes_max: 2_500,
        ..Default::default()
    };
    let mut stream = StreamFetcher::open(&broker, open).await;
    stream.assign("orders", 0, 0, 7).await;
    assert!(
        stream.is_silent(Duration::from_millis(200)).await,
        "no credit, no records"
    );
    stream.grant(3_000).await;
    let mut received = 0;
    let mut offset = 0;
    while received < 3_000 {
        let records = stream.next_records().await;
        assert_eq!(records.session, 7);
        received += records.records.len();
        offset = records.next_offset;
    }
    assert!(
        stream.is_silent(Duration::from_millis(200)).await,
        "credit is used up"
    );
    assert!(offset < 6, "{offset}");
    stream.grant(1 << 20).await;
    while offset < 20 {
        let records = stream.next_records().await;
        assert_eq!(decode(&records.records)[0].0, offset);
        offset = records.next_offset;
    }
    broker.produce_values("orders", 0, &["new"]).await;
    assert_eq!(
        decode(&stream.next_records().await.records),
        [(20, "new".to_owned())]
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_starts_a_new_session_and_removed_partitions_are_silent() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["a"]).await;
    broker.produce_values("orders", 0, &["b"]).await;
    let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
    stream.grant(1 << 20).await;
    stream.assign("orders", 0, 1, 1).await;
    let records = stream.next_records().await;
    assert_eq!(
        (records.session, decode(&records.records)),
        (1, vec![(1, "b".to_owned())])
    );
    stream.assign("orders", 0, 0, 2).await;
    let records = stream.next_records().await;
    assert_eq!((records.session, decode(&records.records)[0].0), (2, 0));
    let remove = vec![v1::TopicPartition {
        topic: "orders".into(),
        partition: 0,
    }];
    let request = v1::FetchStreamRequest {
        remove,
        ..Default::default()
    };
    stream.requests.send(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    broker.produce_values("orders", 0, &["c"]).await;
    assert!(stream.is_silent(Duration::from_millis(200)).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_ends_the_partitions_session_only() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    broker.create_topic("doomed", 1, &[]).await;
    let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
    stream.grant(1 << 20).await;
    stream.assign("nothing", 0, 0, 1).await;
    let failed = stream.next().await.partitions.remove(0);
    assert_eq!(
        (failed.session, failed.error_code),
        (1, ErrorCode::UnknownTopicOrPartition.code())
    );
    stream.assign("orders", 0, 99, 2).await;
    let failed = stream.next().await.partitions.remove(0);
    assert_eq!(
        (failed.session, failed.error_code),
        (2, ErrorCode::OffsetOutOfRange.code())
    );

    stream.assign("doomed", 0, 0, 3).await;
    let request = v1::DeleteTopicsRequest {
        topics: vec!["doomed".into()],
        timeout_ms: 0,
    };
    broker.admin().delete_topics(request).await.unwrap();
    let gone = loop {
        let partition = stream.next().await.partitions.remove(0);
        if partition.error_code != 0 {
            break partition;
        }
    };
    assert_eq!(
        (gone.session, gone.error_code),
        (3, ErrorCode::UnknownTopicOrPartition.code())
    );

    stream.assign("orders", 0, 0, 4).await;
    broker.produce_values("orders", 0, &["a"]).await;
    assert_eq!(stream.next_records().await.session, 4);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_fair_over_partitions() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    let values = "x".repeat(10_000);
    for _ in 0..50 {
        broker.produce_values("orders", 0, &[&values]).await;
    }
    broker.produce_values("orders", 1, &["little"]).await;
    let open = v1::FetchStreamOpen {
        response_bytes_max: 20_000,
        ..Default::default()
    };
    let mut stream = StreamFetcher::open(&broker, open).await;
    stream.assign("orders", 0, 0, 1).await;
    stream.assign("orders", 1, 0, 2).await;
    stream.grant(1 << 20).await;
    let mut before = 0;
    loop {
        let records = stream.next_records().await;
        if records.partition == 1 {
            break;
        }
        before += 1;
    }
    assert!(
        before <= 3,
        "a backlog of one partition held up the other for {before} responses"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_may_wait_for_more() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let open = v1::FetchStreamOpen {
        min_bytes: 100_000,
        max_wait_ms: 400,
        ..Default::default()
    };
    let mut stream = StreamFetcher::open(&broker, open).await;
    stream.grant(1 << 20).await;
    stream.assign("orders", 0, 0, 1).await;
    let started = Instant::now();
    broker.produce_values("orders", 0, &["a"]).await;
    broker.produce_values("orders", 0, &["b"]).await;
    let records = stream.next_records().await;
    assert!(
        started.elapsed() >= Duration::from_millis(350),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(decode(&records.records).len(), 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_position_and_time() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let start = now_ms() - 10_000;
    for step in 0..5 {
        let spec = BatchSpec {
            timestamp_ms: start + step * 1_000,
            ..BatchSpec::default()
        };
        broker.produce("orders", 0, batch_with(&["v"], spec)).await;
    }
    assert_eq!(broker.offset("orders", 0, -1).await.offset, 5);
    assert_eq!(broker.offset("orders", 0, -2).await.offset, 0);
    let latest = broker.offset("orders", 0, -3).await;
    assert_eq!((latest.offset, latest.timestamp_ms), (4, start + 4_000));
    let found = broker.offset("orders", 0, start + 1_500).await;
    assert_eq!((found.offset, found.timestamp_ms), (2, start + 2_000));
    let none = broker.offset("orders", 0, start + 60_000).await;
    assert_eq!(
        (none.error_code, none.offset, none.timestamp_ms),
        (0, -1, -1)
    );
    let missing = broker.offset("nothing", 0, -1).await;
    assert_eq!(
        missing.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let nonsense = broker.offset("orders", 0, -9).await;
    assert_eq!(nonsense.error_code, ErrorCode::InvalidRequest.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_slow_down_who_fetches_too_much() {
    let broker = TestBroker::start_with(&[("quota.consumer.default", "20 KB")]).await;
    broker.create_topic("orders", 1, &[]).await;
    broker
        .produce("orders", 0, batch(&[&"x".repeat(30_000)]))
        .await;
    let started = Instant::now();
    let response = broker
        .fetcher()
        .fetch(fetch_request("orders", 0, 0))
        .await
        .unwrap()
        .into_inner();
    assert!(
        response.throttle_time_ms >= 400,
        "{}",
        response.throttle_time_ms
    );
    assert!(
        started.elapsed() >= Duration::from_millis(400),
        "{:?}",
        started.elapsed()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_response_can_hold_is_not_waited_for() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    for _ in 0..3 {
        broker
            .produce_values("orders", 0, &[&"x".repeat(1_000)])
            .await;
    }
    let mut request = fetch_request("orders", 0, 0);
    request.max_wait_ms = 20_000;
    request.min_bytes = 1_000_000;
    request.max_bytes = 1_500;
    let started = Instant::now();
    let records = broker.fetch_one(request).await;
    assert_eq!(decode(&records.records).len(), 1);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_may_be_named_more_than_once() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut request = fetch_request("orders", 0, 0);
    request.partitions = vec![request.partitions[0].clone(); 50];
    request.max_wait_ms = 20_000;
    let mut fetcher = broker.fetcher();
    let poll = tokio::spawn(async move { fetcher.fetch(request).await.unwrap().into_inner() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    broker.produce_values("orders", 0, &["a"]).await;
    let partitions = poll.await.unwrap().partitions;
    assert_eq!(partitions.len(), 50);
    for partition in partitions {
        assert_eq!(decode(&partition.records), [(0, "a".to_owned())]);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_its_records_keeps_their_memory_until_it_leaves() {
    let settings = [("conveyor.fetch.memory.bytes", "1048576")];
    let broker = TestBroker::start_with(&settings).await;
    broker.create_topic("orders", 1, &[]).await;
    // More than the windows of a connection take.
    for _ in 0..10 {
        broker
            .produce_values("orders", 0, &[&"x".repeat(900_000)])
            .await;
    }
    let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
    stream.grant(1 << 30).await;
    stream.assign("orders", 0, 0, 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut request = fetch_request("orders", 0, 0);
    request.max_bytes = 500_000;
    let mut fetcher = broker.fetcher();
    let mut fetch = tokio::spawn(async move { fetcher.fetch(request).await.unwrap().into_inner() });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut fetch).await;
    assert!(early.is_err(), "the stream's records hold the memory");
    let mut offset = 0;
    while offset < 10 {
        offset = stream.next_records().await.next_offset;
    }
    drop(stream);
    let response = fetch.await.unwrap();
    assert_eq!(decode(&response.partitions[0].records).len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_share_little_memory() {
    let settings = [("conveyor.fetch.memory.bytes", "1048576")];
    let broker = TestBroker::start_with(&settings).await;
    broker.create_topic("orders", 1, &[]).await;
    for _ in 0..4 {
        broker
            .produce_values("orders", 0, &[&"x".repeat(700_000)])
            .await;
    }
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
        stream.grant(1 << 30).await;
        stream.assign("orders", 0, 0, 1).await;
        readers.push(tokio::spawn(async move {
            let mut offset = 0;
            while offset < 4 {
                offset = stream.next_records().await.next_offset;
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_errors_are_told_in_portions() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
    for partition in 1..=2_500 {
        stream.assign("orders", partition, 0, 1).await;
    }
    let mut told = 0;
    while told < 2_500 {
        let partitions = stream.next().await.partitions;
        assert!(partitions.len() <= 1_000, "{}", partitions.len());
        told += partitions.len() as i32;
    }
    assert_eq!(told, 2_500);
    broker.stop().await;
}
