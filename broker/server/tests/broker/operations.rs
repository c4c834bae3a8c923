//! Running a node: health, metrics, retention, stopping.

use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_log::disk::SimDisk;
use conveyor_server::Parts;

use crate::harness::{BatchSpec, StreamFetcher, TestBroker, batch, batch_with, now_ms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_tells_how_the_node_is() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2, &[]).await;
    broker.produce_values("orders", 1, &["a", "b", "c"]).await;
    broker.produce("orders", 9, batch(&["lost"])).await;
    assert_eq!(broker.http("/healthz").await, (200, "ok".to_owned()));
    assert_eq!(broker.http("/readyz").await, (200, "ready".to_owned()));
    assert_eq!(broker.http("/nothing").await.0, 404);
    let (status, body) = broker.http("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "kafka_server_brokertopicmetrics_messagesin_total 3",
        "kafka_server_brokertopicmetrics_messagesin_total{topic=\"orders\"} 3",
        "kafka_log_log_logendoffset{topic=\"orders\",partition=\"1\"} 3",
        "kafka_server_replicamanager_partitioncount 2",
        "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 2",
        "kafka_network_requestmetrics_errors_total{request=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1",
        "kafka_controller_kafkacontroller_activecontrollercount 1",
    ] {
        assert!(
            body.lines().any(|found| found == line),
            "{line} is not in\n{body}"
        );
    }
    let appends = body
        .lines()
        .find_map(|line| line.strip_prefix("conveyor_append_seconds_count "));
    assert!(appends.unwrap().parse::<u64>().unwrap() >= 1);
    let (_, status) = broker.http("/v1/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["node_id"], &status["partitions"]),
        (&1.into(), &2.into())
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_removes_what_is_too_old_while_the_node_runs() {
    let broker = TestBroker::start_with(&[("log.retention.check.interval.ms", "50ms")]).await;
    broker
        .create_topic(
            "orders",
            1,
            &[("segment.bytes", "1 KiB"), ("retention.ms", "1h")],
        )
        .await;
    let old = BatchSpec {
        timestamp_ms: now_ms() - 7_200_000,
        ..BatchSpec::default()
    };
    for _ in 0..8 {
        let result = broker
            .produce("orders", 0, batch_with(&[&"x".repeat(400)], old))
            .await;
        assert_eq!(result.error_code, 0, "{}", result.error_message);
    }
    broker.produce_values("orders", 0, &["new"]).await;
    for _ in 0..200 {
        let log = broker.log("orders").await;
        if log.log_start_offset >= 6 {
            assert!(log.segment_count <= 2, "{}", log.segment_count);
            assert_eq!(log.log_end_offset, 9);
            assert_eq!(broker.values("orders", 0, 8).await, ["new"]);
            broker.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!(
        "old segments are still there: {:?}",
        broker.log("orders").await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_keeps_the_newest_record_of_each_key() {
    let broker = TestBroker::start_with(&[("log.cleaner.backoff.ms", "50ms")]).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1 KiB"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    broker.create_topic("state", 1, &configs).await;
    for round in 0..20 {
        broker
            .produce_values("state", 0, &[&format!("{round}-{}", "x".repeat(400))])
            .await;
    }
    for _ in 0..200 {
        let values = broker.values("state", 0, 0).await;
        if values.len() < 10 {
            assert!(
                values.last().unwrap().starts_with("19-"),
                "the newest stays"
            );
            assert_eq!(
                broker.log("state").await.log_end_offset,
                20,
                "offsets are kept"
            );
            broker.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing was compacted: {:?}", broker.log("state").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_ends_streams_and_long_polls() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut stream = StreamFetcher::open(&broker, v1::FetchStreamOpen::default()).await;
    stream.grant(1 << 20).await;
    stream.assign("orders", 0, 0, 1).await;
    stream.next().await;
    let mut fetcher = broker.fetcher();
    let mut request = crate::harness::fetch_request("orders", 0, 0);
    request.max_wait_ms = 30_000;
    let poll = tokio::spawn(async move { fetcher.fetch(request).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = std::time::Instant::now();
    let stopping = tokio::spawn(broker.stop());
    let status = loop {
        match stream.responses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(
        poll.await.unwrap().unwrap_err().code(),
        tonic::Code::Unavailable
    );
    drop(stream);
    stopping.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_quota_throttles_producers() {
    let broker = TestBroker::start_with(&[("quota.producer.default", "20 KB")]).await;
    broker.create_topic("orders", 1, &[]).await;
    let batches = vec![v1::PartitionBatch {
        topic: "orders".into(),
        partition: 0,
        batch: batch(&[&"x".repeat(30_000)]),
    }];
    let request = v1::ProduceRequest {
        batches,
        ..Default::default()
    };
    let started = std::time::Instant::now();
    let response = broker
        .producer()
        .produce(request)
        .await
        .unwrap()
        .into_inner();
    assert!(
        response.throttle_time_ms >= 400,
        "{}",
        response.throttle_time_ms
    );
    assert!(started.elapsed() >= Duration::from_millis(400));
    broker.stop().await;
}

/// A node on a simulated disk, for faults that a real one has too rarely.
async fn on_simulated_disk(disk: &SimDisk) -> TestBroker {
    let parts = Parts {
        disk: disk.shared(),
        ..Parts::default()
    };
    TestBroker::start_parts(tempfile::TempDir::new().unwrap(), &[], parts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let disk = SimDisk::new(1);
    let broker = on_simulated_disk(&disk).await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["kept"]).await;
    disk.set_capacity(Some(disk.used_bytes()));
    let refused = broker
        .produce("orders", 0, batch(&[&"x".repeat(50_000)]))
        .await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    assert!(
        refused.error_message.contains("No space"),
        "{}",
        refused.error_message
    );
    let topic = broker.try_create_topic("more", 1, &[]).await;
    assert_ne!(topic.error_code, 0);
    assert_eq!(broker.values("orders", 0, 0).await, ["kept"]);
    disk.set_capacity(None);
    broker.produce_values("orders", 0, &["again"]).await;
    assert_eq!(broker.values("orders", 0, 0).await, ["kept", "again"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_takes_the_directory_offline_and_acknowledges_nothing() {
    let disk = SimDisk::new(2);
    let broker = on_simulated_disk(&disk).await;
    broker.create_topic("orders", 1, &[]).await;
    broker.produce_values("orders", 0, &["kept"]).await;
    disk.fail_next_syncs(1);
    let refused = broker.produce("orders", 0, batch(&["lost"])).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    let refused = broker.produce("orders", 0, batch(&["late"])).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    assert!(
        refused.error_message.contains("offline"),
        "{}",
        refused.error_message
    );
    assert_eq!(
        broker.values("orders", 0, 0).await,
        ["kept"],
        "what was not synced is not shown"
    );
    let (status, reason) = broker.http("/healthz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("offline"), "{reason}");
    let log = broker.log("orders").await;
    assert!(log.fault.contains("offline"), "{}", log.fault);
    assert!(
        broker.broker.shutdown().await.is_err(),
        "it cannot be closed in order"
    );
}
