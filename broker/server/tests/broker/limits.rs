//! Who may do what, and what a client cannot do to a node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1;
use conveyor_server::Parts;
use conveyor_server::request::{Authorizer, Operation, Principal, Resource};
use tonic::transport::Channel;

use crate::harness::{StreamProducer, TestBroker, batch, fetch_request};

/// Nobody may write `secret` or touch the cluster's settings.
#[derive(Debug)]
struct Strict;

impl Authorizer for Strict {
    fn authorize(&self, _: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        !matches!(
            (operation, resource),
            (
                Operation::Write | Operation::Read,
                Resource::Topic("secret")
            ) | (Operation::AlterConfigs, _)
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_authorizer_forbids_is_refused_by_topic_or_as_a_whole() {
    let parts = Parts {
        authorizer: Arc::new(Strict),
        ..Parts::default()
    };
    let broker = TestBroker::start_parts(tempfile::TempDir::new().unwrap(), &[], parts).await;
    broker.create_topic("secret", 1, &[]).await;
    broker.create_topic("open", 1, &[]).await;
    let refused = broker.produce("secret", 0, batch(&["v"])).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::TopicAuthorizationFailed.code()
    );
    let refused = broker.fetch_one(fetch_request("secret", 0, 0)).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::TopicAuthorizationFailed.code()
    );
    assert_eq!(broker.produce_values("open", 0, &["v"]).await, 0);

    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    stream.send(1, "secret", 0, batch(&["v"])).await;
    assert_eq!(
        stream.ack().await.error_code,
        ErrorCode::TopicAuthorizationFailed.code()
    );
    stream.send(2, "open", 0, batch(&["v"])).await;
    assert_eq!(stream.ack().await.error_code, 0);

    let request = v1::IncrementalAlterConfigsRequest::default();
    let status = broker
        .admin()
        .incremental_alter_configs(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    broker.stop().await;
}

/// A small generator, so that the same bytes are tried in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_is_refused_and_the_stream_goes_on() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    let good = batch(&["value", "another"]);
    for seed in 1..=150u64 {
        let mut bytes = noise(seed, 20 + seed as usize * 3);
        if seed % 2 == 0 {
            // A right header with noise in one place.
            bytes = good.to_vec();
            let place = seed as usize * 7 % bytes.len();
            // Base offset and leader epoch are the broker's to set: whatever stands there is taken.
            if place < 8 || (12..16).contains(&place) {
                continue;
            }
            bytes[place] ^= 1 << (seed % 8);
        }
        stream.send(seed, "orders", 0, Bytes::from(bytes)).await;
        let ack = stream.ack().await;
        assert_eq!(ack.correlation_id, seed);
        assert_ne!(ack.error_code, 0, "noise of seed {seed} was taken");
    }
    stream.send(1_000, "orders", 0, good).await;
    let ack = stream.ack().await;
    assert_eq!(
        (ack.error_code, ack.base_offset),
        (0, 0),
        "nothing of it was left behind"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correlation_id_in_use_ends_the_stream() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let mut stream = StreamProducer::open(&broker, v1::Acks::All).await;
    for _ in 0..200 {
        // The node may acknowledge one before it reads the next; some will meet.
        let request = v1::ProduceStreamBatch {
            correlation_id: 1,
            topic: "orders".into(),
            partition: 0,
            batch: batch(&["v"]),
        };
        let message = Some(v1::produce_stream_request::Message::Batch(request));
        if stream
            .requests
            .send(v1::ProduceStreamRequest { message })
            .await
            .is_err()
        {
            break;
        }
    }
    let status = loop {
        match stream.responses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_limit_is_refused_before_it_is_held() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1, &[]).await;
    let batches = vec![v1::PartitionBatch {
        topic: "orders".into(),
        partition: 0,
        batch: Bytes::from(vec![0; 40 << 20]),
    }];
    let request = v1::ProduceRequest {
        batches,
        ..Default::default()
    };
    let mut producer = broker.producer().max_encoding_message_size(64 << 20);
    let status = producer.produce(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    assert_eq!(broker.produce_values("orders", 0, &["v"]).await, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_allowed_are_closed() {
    let broker = TestBroker::start_with(&[("max.connections", "2")]).await;
    let address = format!("http://{}", broker.broker.grpc_address());
    let connect = async || {
        let channel = Channel::from_shared(address.clone())
            .unwrap()
            .connect()
            .await?;
        let mut client = v1::metadata_service_client::MetadataServiceClient::new(channel);
        let answered = client
            .get_metadata(v1::GetMetadataRequest::default())
            .await
            .is_ok();
        Ok::<_, tonic::transport::Error>((client, answered))
    };
    let second = connect().await.unwrap();
    assert!(second.1);
    let third = connect().await;
    assert!(third.is_err() || third.is_ok_and(|(_, answered)| !answered));
    drop(second);
    for _ in 0..100 {
        if connect().await.is_ok_and(|(_, answered)| answered) {
            broker.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a closed connection still counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_topics_are_read_only() {
    let broker = TestBroker::start().await;
    let refused = broker.try_create_topic("__consumer_offsets", 1, &[]).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTopic.code());
    let refused = broker.produce("__cluster_metadata", 0, batch(&["v"])).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_names_are_refused_and_impossible_ones_are_not_created() {
    let broker = TestBroker::start_with(&[("auto.create.topics.enable", "true")]).await;
    let ask = |topics: Vec<String>| v1::GetMetadataRequest {
        topics,
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let names = |count: usize| vec!["no/such".to_owned(); count];
    let status = broker.metadata().get_metadata(ask(names(10_001))).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::InvalidArgument);

    let answer = broker.metadata().get_metadata(ask(names(10_000))).await;
    let topics = answer.unwrap().into_inner().topics;
    assert_eq!(topics.len(), 10_000);
    for topic in topics {
        assert_eq!(topic.error_code, ErrorCode::InvalidTopic.code());
    }
    broker.stop().await;
}
