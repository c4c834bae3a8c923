//! Starts a node in a folder of its own and speaks to it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use conveyor_grpc::v1::admin_service_client::AdminServiceClient;
use conveyor_grpc::v1::fetch_service_client::FetchServiceClient;
use conveyor_grpc::v1::metadata_service_client::MetadataServiceClient;
use conveyor_grpc::v1::produce_service_client::ProduceServiceClient;
use conveyor_grpc::v1::{self, produce_stream_request};
use conveyor_record::{
    BatchBuilder, BatchOptions, Codec, Compressor, Decompressor, NewRecord, OwnedBatches,
    ProducerEpoch, ProducerId,
};
use conveyor_server::{Broker, BrokerConfig, Parts};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Longest that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node, its folder and a connection to it.
pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) dir: TempDir,
    channel: Channel,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), settings).await
    }

    pub(crate) async fn start_in(dir: TempDir, settings: &[(&str, &str)]) -> Self {
        Self::start_parts(dir, settings, Parts::default()).await
    }

    pub(crate) async fn start_parts(dir: TempDir, settings: &[(&str, &str)], parts: Parts) -> Self {
        let broker = Broker::start_with(config(dir.path(), settings), parts)
            .await
            .unwrap();
        let channel = Channel::from_shared(format!("http://{}", broker.grpc_address()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            broker,
            dir,
            channel,
        }
    }

    /// Stops in order and gives the folder back.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.channel);
        self.broker.shutdown().await.unwrap();
        self.dir
    }

    pub(crate) async fn restart(self, settings: &[(&str, &str)]) -> Self {
        Self::start_in(self.stop().await, settings).await
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub(crate) fn metadata(&self) -> MetadataServiceClient<Channel> {
        MetadataServiceClient::new(self.channel.clone())
    }

    pub(crate) fn producer(&self) -> ProduceServiceClient<Channel> {
        ProduceServiceClient::new(self.channel.clone())
    }

    pub(crate) fn fetcher(&self) -> FetchServiceClient<Channel> {
        FetchServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let created = self.try_create_topic(name, partitions, configs).await;
        assert_eq!(created.error_code, 0, "{}", created.error_message);
    }

    pub(crate) async fn try_create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> v1::CreatedTopic {
        let topic = v1::NewTopic {
            name: name.into(),
            partitions,
            replication_factor: -1,
            configs: configs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let request = v1::CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let response = self
            .admin()
            .create_topics(request)
            .await
            .unwrap()
            .into_inner();
        response.topics.into_iter().next().unwrap()
    }

    pub(crate) async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> v1::ProduceResult {
        let batches = vec![v1::PartitionBatch {
            topic: topic.into(),
            partition,
            batch,
        }];
        let request = v1::ProduceRequest {
            batches,
            ..Default::default()
        };
        let response = self.producer().produce(request).await.unwrap().into_inner();
        response.results.into_iter().next().unwrap()
    }

    /// Produces values as one batch; the base offset.
    pub(crate) async fn produce_values(&self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let result = self.produce(topic, partition, batch(values)).await;
        assert_eq!(result.error_code, 0, "{}", result.error_message);
        result.base_offset
    }

    pub(crate) async fn fetch_one(&self, request: v1::FetchRequest) -> v1::PartitionRecords {
        let response = self.fetcher().fetch(request).await.unwrap().into_inner();
        response.partitions.into_iter().next().unwrap()
    }

    /// Every value of a partition from an offset on.
    pub(crate) async fn values(&self, topic: &str, partition: i32, from: i64) -> Vec<String> {
        let mut values = Vec::new();
        let mut offset = from;
        loop {
            let records = self
                .fetch_one(fetch_request(topic, partition, offset))
                .await;
            assert_eq!(records.error_code, 0, "{}", records.error_message);
            let found = decode(&records.records).into_iter();
            values.extend(found.filter(|(at, _)| *at >= from).map(|(_, value)| value));
            if records.next_offset >= records.high_watermark {
                return values;
            }
            assert!(records.next_offset > offset, "the read does not get on");
            offset = records.next_offset;
        }
    }

    pub(crate) async fn offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> v1::ListOffsetsResult {
        let wanted = v1::ListOffsetsPartition {
            topic: topic.into(),
            partition,
            timestamp_ms,
            current_leader_epoch: -1,
        };
        let request = v1::ListOffsetsRequest {
            partitions: vec![wanted],
            ..Default::default()
        };
        let response = self
            .fetcher()
            .list_offsets(request)
            .await
            .unwrap()
            .into_inner();
        response.partitions.into_iter().next().unwrap()
    }

    pub(crate) async fn log(&self, topic: &str) -> v1::LogDescription {
        let request = v1::DescribeLogsRequest {
            topics: vec![topic.into()],
        };
        let response = self
            .admin()
            .describe_logs(request)
            .await
            .unwrap()
            .into_inner();
        response.logs.into_iter().next().unwrap()
    }

    /// The admin listener's answer: status line and body.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.broker.admin_address().unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let status = response.split(' ').nth(1).unwrap().parse().unwrap();
        let body = response.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }
}

pub(crate) fn config(dir: &Path, settings: &[(&str, &str)]) -> BrokerConfig {
    let dirs = dir.join("data").display().to_string();
    let mut pairs = vec![
        ("log.dirs", dirs.as_str()),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("listeners.grpc", "127.0.0.1:0"),
        ("listeners.admin", "127.0.0.1:0"),
        ("conveyor.segment.pool.files", "0"),
    ];
    pairs.extend(settings);
    BrokerConfig::from_pairs(pairs).unwrap()
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    since.as_millis() as i64
}

/// What a batch carries besides its values.
#[derive(Clone, Copy)]
pub(crate) struct BatchSpec {
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) codec: Codec,
    pub(crate) timestamp_ms: i64,
    pub(crate) keyed: bool,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self {
            producer: None,
            codec: Codec::None,
            timestamp_ms: now_ms(),
            keyed: true,
        }
    }
}

/// A batch of values with keys, from no idempotent producer.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_with(values, BatchSpec::default())
}

pub(crate) fn batch_with(values: &[&str], spec: BatchSpec) -> Bytes {
    let mut options = BatchOptions {
        codec: spec.codec,
        size_limit: 64 << 20,
        ..BatchOptions::default()
    };
    if let Some((id, epoch, sequence)) = spec.producer {
        options.producer_id = ProducerId(id);
        options.producer_epoch = ProducerEpoch(epoch);
        options.base_sequence = sequence;
    }
    let mut builder = BatchBuilder::new(options);
    for value in values {
        let record = NewRecord {
            timestamp_ms: spec.timestamp_ms,
            key: spec.keyed.then_some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        builder.append(&record).unwrap();
    }
    builder.build(&mut Compressor::new()).unwrap()
}

/// Offsets and values of some batches; those of the broker's own, as markers, are left out.
pub(crate) fn decode(bytes: &Bytes) -> Vec<(i64, String)> {
    let mut decompressor = Decompressor::new();
    let mut found = Vec::new();
    for batch in OwnedBatches::new(bytes.clone()) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in batch.records(&mut decompressor, 64 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((record.offset.value(), value));
        }
    }
    found
}

/// A fetch that does not wait.
pub(crate) fn fetch_request(topic: &str, partition: i32, from: i64) -> v1::FetchRequest {
    v1::FetchRequest {
        partitions: vec![v1::FetchPartition {
            topic: topic.into(),
            partition,
            fetch_offset: from,
            partition_max_bytes: 0,
            current_leader_epoch: -1,
        }],
        ..Default::default()
    }
}

/// A produce stream, opened.
pub(crate) struct StreamProducer {
    pub(crate) requests: mpsc::Sender<v1::ProduceStreamRequest>,
    pub(crate) responses: Streaming<v1::ProduceStreamResponse>,
    pub(crate) limits: v1::ProduceStreamLimits,
    acks: VecDeque<v1::ProduceStreamAck>,
}

impl StreamProducer {
    pub(crate) async fn open(broker: &TestBroker, acks: v1::Acks) -> Self {
        Self::open_at(broker.producer(), acks).await
    }

    pub(crate) async fn open_at(mut client: ProduceServiceClient<Channel>, acks: v1::Acks) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let open = v1::ProduceStreamOpen {
            acks: acks.into(),
            timeout_ms: 0,
            transactional_id: String::new(),
        };
        requests
            .send(wrap(produce_stream_request::Message::Open(open)))
            .await
            .unwrap();
        let mut responses = client
            .produce_stream(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let first = responses.message().await.unwrap().unwrap();
        Self {
            requests,
            responses,
            limits: first.limits.unwrap(),
            acks: first.acks.into(),
        }
    }

    pub(crate) async fn send(
        &self,
        correlation_id: u64,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) {
        let batch = v1::ProduceStreamBatch {
            correlation_id,
            topic: topic.into(),
            partition,
            batch,
        };
        self.requests
            .send(wrap(produce_stream_request::Message::Batch(batch)))
            .await
            .unwrap();
    }

    pub(crate) async fn ack(&mut self) -> v1::ProduceStreamAck {
        loop {
            if let Some(ack) = self.acks.pop_front() {
                return ack;
            }
            let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            self.acks.extend(response.unwrap().unwrap().unwrap().acks);
        }
    }
}

fn wrap(message: produce_stream_request::Message) -> v1::ProduceStreamRequest {
    v1::ProduceStreamRequest {
        message: Some(message),
    }
}

/// A fetch stream, opened.
pub(crate) struct StreamFetcher {
    pub(crate) requests: mpsc::Sender<v1::FetchStreamRequest>,
    pub(crate) responses: Streaming<v1::FetchStreamResponse>,
    received: VecDeque<v1::PartitionRecords>,
}

impl StreamFetcher {
    pub(crate) async fn open(broker: &TestBroker, open: v1::FetchStreamOpen) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let first = v1::FetchStreamRequest {
            open: Some(open),
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let responses = broker
            .fetcher()
            .fetch_stream(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Self {
            requests,
            responses,
            received: VecDeque::new(),
        }
    }

    pub(crate) async fn assign(&self, topic: &str, partition: i32, from: i64, session: u64) {
        let assign = vec![v1::FetchStreamPartition {
            topic: topic.into(),
            partition,
            fetch_offset: from,
            current_leader_epoch: -1,
            session,
        }];
        let request = v1::FetchStreamRequest {
            assign,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn grant(&self, credit_bytes: i64) {
        let request = v1::FetchStreamRequest {
            credit_bytes,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> v1::FetchStreamResponse {
        let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        response.unwrap().unwrap().unwrap()
    }

    /// The next partition with records.
    pub(crate) async fn next_records(&mut self) -> v1::PartitionRecords {
        loop {
            while let Some(partition) = self.received.pop_front() {
                assert_eq!(partition.error_code, 0, "{}", partition.error_message);
                if !partition.records.is_empty() {
                    return partition;
                }
            }
            let response = self.next().await;
            self.received.extend(response.partitions);
        }
    }

    /// Whether nothing but positions comes for a while.
    pub(crate) async fn is_silent(&mut self, wait: Duration) -> bool {
        assert!(self.received.is_empty());
        let deadline = tokio::time::Instant::now() + wait;
        while let Ok(response) = tokio::time::timeout_at(deadline, self.responses.message()).await {
            let partitions = response.unwrap().unwrap().partitions;
            if partitions
                .iter()
                .any(|partition| !partition.records.is_empty())
            {
                return false;
            }
        }
        true
    }
}
