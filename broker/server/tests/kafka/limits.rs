//! What bounds connections, frames, memory and rates.

use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::fetch::FetchRequest;
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::produce::ProduceRequest;

use tokio::io::AsyncWriteExt;

use crate::client::{KafkaClient, code, fetch_request, metadata_request, only, produce_request};
use crate::harness::{TestBroker, batch};
use crate::members::Member;

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
async fn who_trickles_a_large_frame_gives_way_and_never_hinders_usual_ones() {
    let broker = TestBroker::start_with(&[("queued.max.request.bytes", "1048576")]).await;
    broker
        .create_topic("t", 1, &[("max.message.bytes", "4194304")])
        .await;
    let large = batch(&["x".repeat(1_100_000).as_str()]);
    let mut trickling = KafkaClient::connect(&broker).await;
    let frame = trickling.frame(9, &produce_request("t", 0, large.clone()));
    trickling.send_raw(&frame[..100_000]).await;
    let trickle = tokio::spawn(async move {
        for byte in &frame[100_000..] {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if trickling.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut other = KafkaClient::connect(&broker).await;
    let usual = batch(&["x".repeat(100_000).as_str()]);
    let asked = Instant::now();
    assert_eq!(other.produce("t", 0, usual).await.base_offset, 0);
    assert!(asked.elapsed() < Duration::from_secs(5));
    let produced = other.produce("t", 0, large).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 1));
    trickle.await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_gives_the_memory_of_its_frame_back() {
    let settings = [
        ("queued.max.request.bytes", "1048576"),
        ("group.initial.rebalance.delay.ms", "60000"),
    ];
    let broker = TestBroker::start_with(&settings).await;
    broker
        .create_topic("t", 1, &[("max.message.bytes", "4194304")])
        .await;
    let mut joining = Member::new(&broker, "g").await;
    let mut join = joining.join_request();
    join.protocols[0].metadata = vec![7; 900_000].into();
    // A version that joins without an id from before.
    joining.client.send(3, &join).await;
    let mut fetching = KafkaClient::connect(&broker).await;
    let mut fetch = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request("t", 0, 0)
    };
    let partition = fetch.topics[0].partitions[0].clone();
    fetch.topics[0].partitions = vec![partition; 10_000];
    fetching.send(12, &fetch).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut other = KafkaClient::connect(&broker).await;
    let large = batch(&["x".repeat(1_100_000).as_str()]);
    let produced = tokio::time::timeout(Duration::from_secs(5), other.produce("t", 0, large));
    assert_eq!(produced.await.expect("no memory").error_code, 0);

    let mut greedy = Member::new(&broker, "h").await;
    let mut join = greedy.join_request();
    join.protocols[0].metadata = vec![7; 1_100_000].into();
    let refused = greedy.client.call(3, &join).await;
    assert_eq!(refused.error_code, code(ErrorCode::UnknownServerError));
    drop(joining);
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_has_gone_leaves_its_place_while_its_request_waits() {
    let broker = TestBroker::start_with(&[("max.connections.per.ip", "2")]).await;
    broker.create_topic("t", 1, &[]).await;
    let waiting = FetchRequest {
        max_wait_ms: i32::MAX,
        ..fetch_request("t", 0, 0)
    };
    for _ in 0..2 {
        let mut client = KafkaClient::connect(&broker).await;
        client.metadata(9, &["t"]).await;
        client.send(12, &waiting).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let place = async {
        loop {
            let mut client = KafkaClient::connect(&broker).await;
            // Its place may be refused while it writes.
            let frame = client.frame(9, &metadata_request(&["t"]));
            if client.stream.write_all(&frame).await.is_ok() && client.try_frame().await.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), place)
        .await
        .expect("no place is free");
    broker.stop().await;
}

#[tokio::test]
async fn no_fetch_waits_as_long_as_an_idle_connection_may_live() {
    let broker = TestBroker::start_with(&[("connections.max.idle.ms", "2000")]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let waiting = FetchRequest {
        max_wait_ms: i32::MAX,
        ..fetch_request("t", 0, 0)
    };
    let response = client.call(12, &waiting).await;
    assert!(only(&response).records.as_ref().unwrap().is_empty());
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
