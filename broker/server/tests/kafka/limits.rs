//! What bounds connections, frames, memory and rates.

use std::time::{Duration, Instant};

use conveyor_kafka::messages::fetch::FetchRequest;
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::produce::ProduceRequest;

use crate::client::{KafkaClient, fetch_request, metadata_request, only, produce_request};
use crate::harness::{TestBroker, batch};

#[tokio::test]
async fn a_frame_above_the_limit_closes_its_connection() {
    let broker = TestBroker::start_with(&[("socket.request.max.bytes", "1000")]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client.send_raw(&1_001i32.to_be_bytes()).await;
    assert!(client.is_closed().await);
    let mut client = KafkaClient::connect(&broker).await;
    client.metadata(9, &[]).await;
    drop(broker.stop().await);

    // Lists take many times their frame's size: only batches may be as large as the setting says.
    let broker = TestBroker::start().await;
    let size = 20_000_000i32.to_be_bytes();
    for (key, is_closed) in [(3i16, true), (0, false)] {
        let mut client = KafkaClient::connect(&broker).await;
        client
            .send_raw(&[&size[..], &key.to_be_bytes()].concat())
            .await;
        if is_closed {
            assert!(client.is_closed().await);
        } else {
            assert!(client.is_silent(Duration::from_millis(100)).await);
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn connections_are_counted_in_all_and_by_address() {
    let broker = TestBroker::start_with(&[("max.connections.per.ip", "2")]).await;
    let mut first = KafkaClient::connect(&broker).await;
    let mut second = KafkaClient::connect(&broker).await;
    first.metadata(9, &[]).await;
    second.metadata(9, &[]).await;
    let mut third = KafkaClient::connect(&broker).await;
    assert!(third.is_closed().await);
    drop(first);
    let mut fourth = loop {
        let mut client = KafkaClient::connect(&broker).await;
        client.send(9, &metadata_request(&[])).await;
        if client.try_frame().await.is_some() {
            break client;
        }
    };
    fourth.metadata(9, &[]).await;
    drop(broker.stop().await);

    // The harness's own gRPC connection is one of them.
    let broker = TestBroker::start_with(&[("max.connections", "2")]).await;
    let mut first = KafkaClient::connect(&broker).await;
    first.metadata(9, &[]).await;
    let mut second = KafkaClient::connect(&broker).await;
    assert!(second.is_closed().await);
    broker.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let broker = TestBroker::start_with(&[("connections.max.idle.ms", "1000")]).await;
    let mut idle = KafkaClient::connect(&broker).await;
    idle.metadata(9, &[]).await;
    let mut busy = KafkaClient::connect(&broker).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1_500) {
        busy.metadata(9, &[]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(idle.is_closed().await);
    busy.metadata(9, &[]).await;
    broker.stop().await;
}

#[tokio::test]
async fn large_frames_wait_for_memory_and_small_ones_do_not() {
    let settings = [
        ("queued.max.request.bytes", "1048576"),
        ("max.message.bytes", "4194304"),
    ];
    let broker = TestBroker::start_with(&settings[..1]).await;
    broker.create_topic("t", 1, &settings[1..]).await;
    let mut slow = KafkaClient::connect(&broker).await;
    let large = batch(&["x".repeat(1_100_000).as_str()]);
    let frame = slow.frame(9, &produce_request("t", 0, large.clone()));
    // It claims all of the memory and comes no further.
    slow.send_raw(&frame[..100_000]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let mut other = KafkaClient::connect(&broker).await;
    let waiting = other.frame(9, &produce_request("t", 0, large));
    let sending = async {
        other.send_raw(&waiting).await;
        other.receive::<ProduceRequest>(9).await.1
    };
    let mut sending = std::pin::pin!(sending);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut sending).await;
    assert!(early.is_err(), "there is no memory for it");
    let mut small = KafkaClient::connect(&broker).await;
    assert_eq!(
        small.produce("t", 0, batch(&["small"])).await.base_offset,
        0
    );

    slow.send_raw(&frame[100_000..]).await;
    let (_, first) = slow.receive::<ProduceRequest>(9).await;
    assert_eq!(first.responses[0].partition_responses[0].base_offset, 1);
    let second = sending.await;
    assert_eq!(second.responses[0].partition_responses[0].base_offset, 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_still_within_a_large_frame_gives_way_to_who_waits() {
    let broker = TestBroker::start_with(&[("queued.max.request.bytes", "1048576")]).await;
    broker
        .create_topic("t", 1, &[("max.message.bytes", "4194304")])
        .await;
    let large = batch(&["x".repeat(1_100_000).as_str()]);
    let mut stalled = KafkaClient::connect(&broker).await;
    let frame = stalled.frame(9, &produce_request("t", 0, large.clone()));
    stalled.send_raw(&frame[..100_000]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut other = KafkaClient::connect(&broker).await;
    let produced = other.produce("t", 0, large).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 0));
    assert!(stalled.is_closed().await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_gives_way_to_who_waits_for_memory() {
    let settings = [("conveyor.fetch.memory.bytes", "8388608")];
    let broker = TestBroker::start_with(&settings).await;
    broker.create_topic("t", 1, &[]).await;
    let value = "x".repeat(900_000);
    let mut client = KafkaClient::connect(&broker).await;
    for _ in 0..20 {
        assert_eq!(client.produce("t", 0, batch(&[&value])).await.error_code, 0);
    }
    let all = || {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].partitions[0].partition_max_bytes = 16 << 20;
        request
    };
    // Asks for much and reads nothing of it.
    let mut stalled = KafkaClient::connect(&broker).await;
    for _ in 0..8 {
        stalled.send(12, &all()).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    let response = client.call(12, &all()).await;
    assert!(!only(&response).records.as_ref().unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_secs(15));
    broker.stop().await;
}

#[tokio::test]
async fn trap_07_a_quota_mutes_the_connection_after_the_answer() {
    let broker = TestBroker::start_with(&[("quota.producer.default", "20000")]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let value = "x".repeat(26_000);
    let started = Instant::now();
    let response = client
        .call(9, &produce_request("t", 0, batch(&[&value])))
        .await;
    assert!(
        started.elapsed() < Duration::from_millis(250),
        "answered at once"
    );
    let throttle = response.throttle_time_ms;
    assert!((200..=400).contains(&throttle), "{throttle}");
    client.send(9, &metadata_request(&["t"])).await;
    client.receive::<MetadataRequest>(9).await;
    let muted = started.elapsed().as_millis() as i32;
    assert!(
        muted >= throttle - 50,
        "the next request was read after {muted} ms"
    );
    broker.stop().await;
}

#[tokio::test]
async fn trap_07_a_throttled_fetch_carries_no_records() {
    let broker = TestBroker::start_with(&[("quota.consumer.default", "20000")]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    client
        .produce("t", 0, batch(&["x".repeat(26_000).as_str()]))
        .await;
    let first = FetchRequest {
        session_epoch: 0,
        ..fetch_request("t", 0, 0)
    };
    let response = client.call(12, &first).await;
    let session_id = response.session_id;
    assert_ne!(session_id, 0);
    assert_eq!(only(&response).records.as_ref().unwrap().len() / 26_000, 1);

    let next = FetchRequest {
        session_id,
        session_epoch: 1,
        min_bytes: 1,
        max_bytes: 1 << 20,
        ..FetchRequest::default()
    };
    let throttled = client.call(12, &next).await;
    assert!(throttled.throttle_time_ms > 0);
    assert!(throttled.responses.is_empty());
    assert_eq!(
        (throttled.error_code, throttled.session_id),
        (0, session_id)
    );
    let next = FetchRequest {
        session_epoch: 2,
        ..next
    };
    let after = client.call(12, &next).await;
    assert_eq!(
        (after.throttle_time_ms, after.error_code),
        (0, 0),
        "the session went on"
    );

    let mut full = KafkaClient::connect(&broker).await;
    loop {
        let response = full.call(12, &fetch_request("t", 0, 0)).await;
        if response.throttle_time_ms == 0 {
            assert!(!response.responses.is_empty());
            break;
        }
    }
    let throttled = full.call(12, &fetch_request("t", 0, 0)).await;
    assert!(throttled.throttle_time_ms > 0 && throttled.responses.is_empty());
    assert_eq!(throttled.session_id, 0);
    broker.stop().await;
}
