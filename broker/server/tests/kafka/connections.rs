//! Order, listeners, and what one connection can do to the others.

use std::time::{Duration, Instant};

use conveyor_kafka::messages::fetch::{FetchRequest, FetchResponse};
use conveyor_kafka::messages::metadata::MetadataRequest;
use conveyor_kafka::messages::produce::ProduceRequest;

use crate::client::{KafkaClient, fetch_request, metadata_request, only, produce_request};
use crate::harness::{PATIENCE, TestBroker, batch, decode};

#[tokio::test]
async fn trap_03_a_batch_without_acknowledgement_is_not_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let silent = ProduceRequest {
        acks: 0,
        ..produce_request("t", 0, batch(&["a"]))
    };
    client.send(9, &silent).await;
    let asked = client.send(9, &metadata_request(&["t"])).await;
    let (answered, _) = client.receive::<MetadataRequest>(9).await;
    assert_eq!(answered, asked, "the first answer is not to the batch");
    let values = async {
        while broker.values("t", 0, 0).await != ["a"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, values).await.unwrap();

    let refused = ProduceRequest {
        acks: 0,
        ..produce_request("nowhere", 0, batch(&["b"]))
    };
    client.send(9, &refused).await;
    assert!(client.is_closed().await, "closing is the only way to tell");
    broker.stop().await;
}

#[tokio::test]
async fn trap_04_replies_keep_the_order_of_requests_while_a_fetch_waits() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let waiting = FetchRequest {
        max_wait_ms: 400,
        ..fetch_request("t", 0, 0)
    };
    let started = Instant::now();
    let mut bytes = client.frame(12, &waiting).to_vec();
    for index in 0..20 {
        if index % 2 == 0 {
            bytes.extend(client.frame(9, &metadata_request(&["t"])));
        } else {
            bytes.extend(client.frame(9, &produce_request("t", 0, batch(&["v"]))));
        }
    }
    client.send_raw(&bytes).await;
    let (correlation, response) = client.receive::<FetchRequest>(12).await;
    assert_eq!(correlation, 1);
    assert!(
        started.elapsed() >= Duration::from_millis(400),
        "nobody else writes"
    );
    assert!(only(&response).records.as_ref().unwrap().is_empty());
    for index in 0..20 {
        let correlation = if index % 2 == 0 {
            client.receive::<MetadataRequest>(9).await.0
        } else {
            let (correlation, response) = client.receive::<ProduceRequest>(9).await;
            let answered = &response.responses[0].partition_responses[0];
            assert_eq!((answered.error_code, answered.base_offset), (0, index / 2));
            correlation
        };
        assert_eq!(i64::from(correlation), index + 2);
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_04_batches_under_way_are_answered_in_order() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 4, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut bytes = Vec::new();
    for index in 0..600 {
        bytes.extend(client.frame(9, &produce_request("t", index % 4, batch(&["v"]))));
    }
    let writing = async {
        client.stream.writable().await.unwrap();
        client.send_raw(&bytes).await;
        for index in 0..600 {
            let (correlation, response) = client.receive::<ProduceRequest>(9).await;
            assert_eq!(correlation, index + 1);
            let answered = &response.responses[0].partition_responses[0];
            assert_eq!(
                (answered.error_code, answered.base_offset),
                (0, i64::from(index / 4))
            );
        }
    };
    tokio::time::timeout(PATIENCE, writing).await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn requests_that_come_together_are_all_answered_however_long_the_answers() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 100, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(client.frame(9, &metadata_request(&["t"])));
    }
    client.send_raw(&bytes).await;
    for index in 0..100 {
        let (correlation, response) = client.receive::<MetadataRequest>(9).await;
        assert_eq!(correlation, index + 1);
        assert_eq!(response.topics[0].partitions.len(), 100);
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_request_behind_one_with_a_large_reply_needs_no_further_byte() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let large = "x".repeat(200_000);
    client.produce("t", 0, batch(&[&large])).await;
    let mut both = client.frame(12, &fetch_request("t", 0, 0)).to_vec();
    both.extend(client.frame(9, &metadata_request(&["t"])));
    client.send_raw(&both).await;
    let (_, fetched) = client.receive::<FetchRequest>(12).await;
    assert!(only(&fetched).records.as_ref().unwrap().len() > 200_000);
    let (_, metadata) = client.receive::<MetadataRequest>(9).await;
    assert_eq!(metadata.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let bytes = client.frame(9, &metadata_request(&["t"]));
    for byte in &bytes {
        client.send_raw(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let (_, response) = client.receive::<MetadataRequest>(9).await;
    assert_eq!(response.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_large_batch_goes_in_and_comes_out() {
    let broker = TestBroker::start().await;
    broker
        .create_topic("t", 1, &[("max.message.bytes", "10000000")])
        .await;
    let mut client = KafkaClient::connect(&broker).await;
    let large = "x".repeat(3_000_000);
    let produced = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(produced.error_code, 0);
    let fetched = client.fetch("t", 0, 0).await;
    let values = decode(&fetched.records.unwrap());
    assert_eq!((values.len(), values[0].1.len()), (1, 3_000_000));
    broker.stop().await;
}

#[tokio::test]
async fn each_listener_tells_its_own_address() {
    let settings = [
        (
            "listeners",
            "INSIDE://127.0.0.1:0,OUTSIDE://localhost:0,PLAINTEXT://:0",
        ),
        (
            "listener.security.protocol.map",
            "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        ),
        ("advertised.listeners", "INSIDE://kafka:29092"),
    ];
    let broker = TestBroker::start_with(&settings).await;
    let addresses = broker.broker.kafka_addresses();
    let names: Vec<&str> = addresses.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["INSIDE", "OUTSIDE", "PLAINTEXT"]);
    let expected = [
        ("kafka", 29092),
        ("localhost", i32::from(addresses[1].1.port())),
        ("127.0.0.1", i32::from(addresses[2].1.port())),
    ];
    for ((_, address), (host, port)) in addresses.into_iter().zip(expected) {
        let reached = std::net::SocketAddr::from(([127, 0, 0, 1], address.port()));
        let mut client = KafkaClient::connect_to(reached).await;
        let metadata = client.metadata(9, &[]).await;
        assert_eq!(metadata.brokers.len(), 1);
        let told = &metadata.brokers[0];
        assert_eq!((told.host.as_str(), told.port), (host, port));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_08_a_name_is_listened_to_at_all_its_addresses() {
    let broker = TestBroker::start_with(&[("listeners", "PLAINTEXT://localhost:0")]).await;
    let (_, address) = broker.broker.kafka_addresses().remove(0);
    assert!(
        address.is_ipv4(),
        "clients that try version 4 first find it"
    );
    let resolved: Vec<_> = tokio::net::lookup_host(("localhost", address.port()))
        .await
        .unwrap()
        .collect();
    for address in resolved {
        if tokio::net::TcpListener::bind((address.ip(), 0))
            .await
            .is_err()
        {
            continue; // this machine does not have the address
        }
        let mut client = KafkaClient::connect_to(address).await;
        assert_eq!(client.metadata(9, &[]).await.brokers[0].host, "localhost");
    }
    broker.stop().await;
}

#[tokio::test]
async fn version_6_addresses_are_served() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        return; // this machine has none
    }
    let broker = TestBroker::start_with(&[("listeners", "PLAINTEXT://[::1]:0")]).await;
    let mut client = KafkaClient::connect(&broker).await;
    assert_eq!(client.metadata(9, &[]).await.brokers[0].host, "::1");
    broker.stop().await;
}

#[tokio::test]
async fn stopping_ends_long_polls_and_connections() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let waiting = FetchRequest {
        max_wait_ms: 60_000,
        ..fetch_request("t", 0, 0)
    };
    client.send(12, &waiting).await;
    let mut idle = KafkaClient::connect(&broker).await;
    idle.metadata(9, &["t"]).await;
    let started = Instant::now();
    let (stopped, answered) = tokio::join!(broker.stop(), client.receive::<FetchRequest>(12));
    let response: FetchResponse = answered.1;
    assert_eq!(only(&response).error_code, 0);
    assert!(client.is_closed().await && idle.is_closed().await);
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(stopped);
}
