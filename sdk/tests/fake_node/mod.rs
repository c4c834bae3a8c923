//! A node in memory that keeps Kafka's rules for idempotent producers and goes wrong on purpose.
//!
//! It implements metadata, producer ids and the produce stream; partitions are vectors of values.
//! Faults come from a seeded generator, so a failing run can be repeated.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use conveyor_grpc::v1::metadata_service_server::{MetadataService, MetadataServiceServer};
use conveyor_grpc::v1::produce_service_server::{ProduceService, ProduceServiceServer};
use conveyor_grpc::v1::produce_stream_request::Message;
use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{Batch, Decompressor};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Batches remembered of each producer and partition.
const REMEMBERED: usize = 5;

/// How often, out of 1,000 batches, something goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A retriable error; the batch is not appended.
    pub(crate) not_leader: u32,
    /// Appended or not, the answer is `REQUEST_TIMED_OUT`.
    pub(crate) unclear: u32,
    /// The stream ends with an error, after the batch was appended or before.
    pub(crate) stream_breaks: u32,
    /// The producer is told to wait 5 ms.
    pub(crate) throttled: u32,
    /// The producer's state is forgotten, as after retention has removed it.
    pub(crate) memory_lost: u32,
}

/// A partition's content and what is known of its producers.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// The values of all records, in order.
    pub(crate) values: Vec<Vec<u8>>,
    producers: BTreeMap<i64, ProducerState>,
}

#[derive(Debug, Default)]
struct ProducerState {
    epoch: i16,
    next_sequence: i32,
    /// Base sequence and base offset.
    remembered: VecDeque<(i32, i64)>,
}

#[derive(Debug)]
struct State {
    rng: rand_chacha::ChaCha8Rng,
    faults: Faults,
    partitions: BTreeMap<(String, i32), Partition>,
    /// Answers nothing while set.
    is_silent: bool,
    /// The port of the node that leads everything instead of this one, in a later epoch.
    successor: Option<Ports>,
}

/// Where the first leader and its successor are.
#[derive(Debug, Clone, Copy)]
struct Ports {
    first: u16,
    second: u16,
}

#[derive(Debug)]
struct Node {
    state: Mutex<State>,
    next_producer: AtomicI64,
    batches: AtomicU64,
    port: watch::Sender<u16>,
    window_bytes: i64,
    batch_bytes_max: usize,
}

#[derive(Debug)]
struct Service(Arc<Node>);

/// A running node and the proxy through which clients reach it.
pub(crate) struct FakeNode {
    node: Arc<Node>,
    address: SocketAddr,
    cut: watch::Sender<u64>,
}

impl FakeNode {
    /// Starts a node with these topics and partition counts.
    pub(crate) async fn start(seed: u64, topics: &[(&str, i32)]) -> Self {
        Self::start_with(seed, topics, 4 << 20).await
    }

    pub(crate) async fn start_with(seed: u64, topics: &[(&str, i32)], window_bytes: i64) -> Self {
        let partitions = topics.iter().flat_map(|&(topic, count)| {
            (0..count).map(move |partition| ((topic.to_owned(), partition), Partition::default()))
        });
        let state = State {
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
            faults: Faults::default(),
            partitions: partitions.collect(),
            is_silent: false,
            successor: None,
        };
        let node = Arc::new(Node {
            state: Mutex::new(state),
            next_producer: AtomicI64::new(1_000),
            batches: AtomicU64::new(0),
            port: watch::channel(0).0,
            window_bytes,
            batch_bytes_max: 1 << 20,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(MetadataServiceServer::new(Service(Arc::clone(&node))))
            .add_service(ProduceServiceServer::new(Service(Arc::clone(&node))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);

        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        node.port.send_replace(address.port());
        let cut = watch::Sender::new(0);
        tokio::spawn(proxy(front, behind, cut.subscribe()));
        Self { node, address, cut }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.node.state.lock().faults = faults;
    }

    /// Answers no batch while silent; appends none either.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.node.state.lock().is_silent = is_silent;
    }

    /// Lets another node lead everything; both say so.
    #[allow(dead_code, reason = "not every test has two nodes")]
    pub(crate) fn lead_instead(&self, successor: &Self) {
        let ports = Ports {
            first: self.address.port(),
            second: successor.address.port(),
        };
        for node in [self, successor] {
            node.node.state.lock().successor = Some(ports);
        }
    }

    /// Breaks every connection.
    pub(crate) fn cut_connections(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// The values in a partition.
    pub(crate) fn values(&self, topic: &str, partition: i32) -> Vec<Vec<u8>> {
        self.node.state.lock().partitions[&(topic.to_owned(), partition)]
            .values
            .clone()
    }

    /// Batches received, repeated ones included.
    pub(crate) fn batches(&self) -> u64 {
        self.node.batches.load(Ordering::Relaxed)
    }
}

/// Hands bytes on both ways until told to cut.
async fn proxy(front: TcpListener, behind: SocketAddr, cut: watch::Receiver<u64>) {
    while let Ok((mut client, _)) = front.accept().await {
        let mut cut = cut.clone();
        cut.mark_unchanged();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(behind).await else {
                return;
            };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

#[tonic::async_trait]
impl MetadataService for Service {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        let request = request.into_inner();
        let state = self.0.state.lock();
        let topics = request.topics.iter().map(|name| {
            let count = state
                .partitions
                .keys()
                .filter(|(topic, _)| topic == name)
                .count();
            let error_code = if count == 0 {
                ErrorCode::UnknownTopicOrPartition.code()
            } else {
                0
            };
            v1::TopicMetadata {
                name: name.clone(),
                topic_id: vec![1; 16].into(),
                error_code,
                partitions: (0..count as i32)
                    .map(|partition| v1::PartitionMetadata {
                        partition,
                        leader_id: state.successor.map_or(1, |_| 2),
                        leader_epoch: state.successor.map_or(0, |_| 1),
                        ..v1::PartitionMetadata::default()
                    })
                    .collect(),
                ..v1::TopicMetadata::default()
            }
        });
        let ports = state.successor.map_or_else(
            || vec![*self.0.port.borrow()],
            |ports| vec![ports.first, ports.second],
        );
        let nodes = (1..).zip(ports).map(|(node_id, port)| v1::Node {
            node_id,
            host: "127.0.0.1".to_owned(),
            port: i32::from(port),
            rack: String::new(),
        });
        Ok(Response::new(v1::GetMetadataResponse {
            cluster_id: "fake".to_owned(),
            controller_id: 1,
            nodes: nodes.collect(),
            topics: topics.collect(),
        }))
    }
}

#[tonic::async_trait]
impl ProduceService for Service {
    type ProduceStreamStream = ReceiverStream<Result<v1::ProduceStreamResponse, Status>>;

    async fn init_producer_id(
        &self,
        request: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let request = request.into_inner();
        let (producer_id, producer_epoch) = if request.producer_id >= 0 {
            (request.producer_id, request.producer_epoch + 1)
        } else {
            (self.0.next_producer.fetch_add(1, Ordering::Relaxed), 0)
        };
        Ok(Response::new(v1::InitProducerIdResponse {
            producer_id,
            producer_epoch,
            ..v1::InitProducerIdResponse::default()
        }))
    }

    async fn produce(
        &self,
        _request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        Err(Status::unimplemented("producers stream"))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let mut batches = request.into_inner();
        let (answers, stream) = mpsc::channel(64);
        let first = batches.message().await?.and_then(|request| request.message);
        let Some(Message::Open(_)) = first else {
            return Err(Status::invalid_argument("the first message must be open"));
        };
        let limits = v1::ProduceStreamLimits {
            window_bytes: self.0.window_bytes,
            batch_bytes_max: self.0.batch_bytes_max as i32,
        };
        let hello = v1::ProduceStreamResponse {
            limits: Some(limits),
            ..v1::ProduceStreamResponse::default()
        };
        answers
            .send(Ok(hello))
            .await
            .map_err(|_| Status::cancelled("gone"))?;
        tokio::spawn(serve_batches(Arc::clone(&self.0), batches, answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Answers the batches of one stream until it ends or a fault ends it.
async fn serve_batches(
    node: Arc<Node>,
    mut batches: Streaming<v1::ProduceStreamRequest>,
    answers: mpsc::Sender<Result<v1::ProduceStreamResponse, Status>>,
) {
    while let Ok(Some(request)) = batches.message().await {
        let Some(Message::Batch(batch)) = request.message else {
            return;
        };
        while node.state.lock().is_silent {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if answers.is_closed() {
                return;
            }
        }
        let answer = node.take(&batch);
        let ends = answer.is_err();
        if answers.send(answer).await.is_err() || ends {
            return;
        }
    }
}

impl Node {
    /// Decides on a fault, appends or not, and answers.
    fn take(&self, batch: &v1::ProduceStreamBatch) -> Result<v1::ProduceStreamResponse, Status> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let faults = state.faults;
        let mut dice = state.rng.random_range(0..1_000u32);
        let mut strikes = |chance: u32| {
            let struck = dice < chance;
            dice = dice.wrapping_sub(chance);
            struck
        };
        if strikes(faults.not_leader) {
            return Ok(answer(batch, ErrorCode::NotLeaderOrFollower, -1));
        }
        let is_unclear = strikes(faults.unclear);
        let breaks = strikes(faults.stream_breaks);
        let throttles = strikes(faults.throttled);
        let loses_memory = strikes(faults.memory_lost);
        let is_appended = !(is_unclear || breaks) || state.rng.random();
        let key = (batch.topic.clone(), batch.partition);
        let Some(partition) = state.partitions.get_mut(&key) else {
            return Ok(answer(batch, ErrorCode::UnknownTopicOrPartition, -1));
        };
        let result = if is_appended {
            partition.append(&batch.batch, self.batch_bytes_max)
        } else {
            Ok(-1)
        };
        if loses_memory {
            partition.producers.clear();
        }
        if breaks {
            return Err(Status::unavailable("the node fell over"));
        }
        if is_unclear {
            return Ok(answer(batch, ErrorCode::RequestTimedOut, -1));
        }
        let mut response = match result {
            Ok(base_offset) => answer(batch, ErrorCode::None, base_offset),
            Err(code) => answer(batch, code, -1),
        };
        if throttles {
            response.throttle_time_ms = 5;
        }
        Ok(response)
    }
}

fn answer(
    batch: &v1::ProduceStreamBatch,
    code: ErrorCode,
    base_offset: i64,
) -> v1::ProduceStreamResponse {
    let ack = v1::ProduceStreamAck {
        correlation_id: batch.correlation_id,
        error_code: code.code(),
        error_message: if code == ErrorCode::None {
            String::new()
        } else {
            "on purpose".to_owned()
        },
        base_offset,
        log_append_timestamp_ms: -1,
        ..v1::ProduceStreamAck::default()
    };
    v1::ProduceStreamResponse {
        acks: vec![ack],
        ..v1::ProduceStreamResponse::default()
    }
}

impl Partition {
    /// Kafka's rules: a duplicate is answered with its offset, a gap is refused, a higher epoch
    /// starts at 0, and of an unknown producer any sequence is taken.
    fn append(&mut self, bytes: &bytes::Bytes, batch_bytes_max: usize) -> Result<i64, ErrorCode> {
        let batch = Batch::parse(bytes.clone()).map_err(|_| ErrorCode::CorruptMessage)?;
        if bytes.len() > batch_bytes_max {
            return Err(ErrorCode::MessageTooLarge);
        }
        let header = *batch.header();
        let base_offset = self.values.len() as i64;
        let known = self.producers.contains_key(&header.producer_id.value());
        let producer = self
            .producers
            .entry(header.producer_id.value())
            .or_default();
        let epoch = header.producer_epoch.value();
        if known && epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if known && epoch > producer.epoch && header.base_sequence != 0 {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        if known && epoch == producer.epoch {
            let duplicate = producer
                .remembered
                .iter()
                .find(|(base, _)| *base == header.base_sequence);
            if let Some(&(_, offset)) = duplicate {
                return Ok(offset);
            }
            if header.base_sequence != producer.next_sequence {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        } else {
            producer.remembered.clear();
        }
        producer.epoch = epoch;
        producer.next_sequence = header.base_sequence + header.record_count;
        producer
            .remembered
            .push_back((header.base_sequence, base_offset));
        if producer.remembered.len() > REMEMBERED {
            producer.remembered.pop_front();
        }
        let records = batch
            .records(&mut Decompressor::new(), 64 << 20)
            .map_err(|_| ErrorCode::CorruptMessage)?;
        for record in records {
            let record = record.map_err(|_| ErrorCode::CorruptMessage)?;
            self.values.push(record.value.unwrap_or_default().to_vec());
        }
        Ok(base_offset)
    }
}
