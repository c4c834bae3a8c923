//! A raw client: one connection, one frame at a time, nothing hidden.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Request;
use conveyor_kafka::frame::{read_response, request_frame};
use conveyor_kafka::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use conveyor_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use conveyor_kafka::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use conveyor_kafka::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, TestBroker};

/// The name that requests carry.
pub(crate) const CLIENT_ID: &str = "raw";

/// A connection.
pub(crate) struct KafkaClient {
    pub(crate) stream: TcpStream,
    next_correlation: i32,
}

impl KafkaClient {
    /// To the first Kafka listener of a node.
    pub(crate) async fn connect(broker: &TestBroker) -> Self {
        let (_, address) = broker.broker.kafka_addresses().remove(0);
        Self::connect_to(address).await
    }

    pub(crate) async fn connect_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            next_correlation: 1,
        }
    }

    /// Sends a request; its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let correlation = self.next_correlation;
        let frame = self.frame(version, request);
        self.send_raw(&frame).await;
        correlation
    }

    /// The bytes of a request, to be sent later.
    pub(crate) fn frame<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let frame = request_frame(version, correlation, Some(CLIENT_ID), request);
        frame.unwrap().into_bytes()
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame without its length; `None` when the node has closed the connection.
    pub(crate) async fn try_frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = BytesMut::zeroed(usize::try_from(size).unwrap());
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame.freeze())
        };
        timeout(PATIENCE, read).await.expect("no answer")
    }

    /// The next response, which must be to `R`: its correlation id and itself.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.try_frame().await.expect("the node has hung up");
        let (header, response) = read_response::<R>(version, frame).unwrap();
        (header.correlation_id, response)
    }

    /// One request and its response.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (correlation, response) = self.receive::<R>(version).await;
        assert_eq!(correlation, sent);
        response
    }

    /// Whether the node closes the connection without another word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.try_frame().await.is_none()
    }

    /// Whether nothing comes for a while, and the connection stays.
    pub(crate) async fn is_silent(&mut self, wait: Duration) -> bool {
        let mut byte = [0];
        timeout(wait, self.stream.read(&mut byte)).await.is_err()
    }

    /// Metadata of some topics.
    pub(crate) async fn metadata(&mut self, version: i16, topics: &[&str]) -> MetadataResponse {
        let request = MetadataRequest {
            // Older versions cannot say that they do not want it.
            allow_auto_topic_creation: version < 4,
            ..metadata_request(topics)
        };
        self.call(version, &request).await
    }

    /// Produces a batch with `acks=all`.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, batch);
        let response = self.call(9, &request).await;
        response.responses[0].partition_responses[0].clone()
    }

    /// Fetches one partition without a session and without waiting.
    pub(crate) async fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> PartitionData {
        let request = fetch_request(topic, partition, from);
        let response = self.call(12, &request).await;
        only(&response).clone()
    }

    /// The offset that a timestamp stands for.
    pub(crate) async fn offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let response = self.call(10, &request).await;
        response.topics[0].partitions[0].clone()
    }
}

/// Kafka's number of an error.
pub(crate) fn code(code: ErrorCode) -> i16 {
    code.code() as i16
}

/// Asks for topics by name and creates none.
pub(crate) fn metadata_request(topics: &[&str]) -> MetadataRequest {
    let topics = topics.iter().map(|name| MetadataRequestTopic {
        name: Some((*name).into()),
        ..MetadataRequestTopic::default()
    });
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

/// One batch with `acks=all`.
pub(crate) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(batch),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// One partition, no session, no wait.
pub(crate) fn fetch_request(topic: &str, partition: i32, from: i64) -> FetchRequest {
    fetch_of(topic, &[(partition, from)])
}

/// Some partitions of a topic, no session, no wait.
pub(crate) fn fetch_of(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(partition, from)| FetchPartition {
        partition: *partition,
        fetch_offset: *from,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    });
    FetchRequest {
        min_bytes: 1,
        max_bytes: 16 << 20,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// The one partition of a response.
pub(crate) fn only(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, 0);
    assert_eq!(response.responses.len(), 1, "{response:?}");
    assert_eq!(response.responses[0].partitions.len(), 1);
    &response.responses[0].partitions[0]
}
