//! A node in memory that serves logs and a scripted group, and goes wrong on purpose.
//!
//! It keeps the contract of the fetch stream (credit, sessions, whole batches) and of heartbeats, and
//! counts what a client does, so that tests can look at both ends. Faults come from a seeded
//! generator, so a failing run can be repeated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use conveyor_grpc::v1::fetch_service_server::{FetchService, FetchServiceServer};
use conveyor_grpc::v1::group_service_server::{GroupService, GroupServiceServer};
use conveyor_grpc::v1::metadata_service_server::{MetadataService, MetadataServiceServer};
use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{
    BatchBuilder, BatchOptions, Codec, Compressor, LeaderEpoch, NewRecord, Offset, stamp_header,
};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How often, out of 1,000 answers of the fetch stream, something goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The session ends with `NOT_LEADER_OR_FOLLOWER`.
    pub(crate) not_leader: u32,
    /// The stream ends with an error.
    pub(crate) stream_breaks: u32,
    /// A byte is changed on the way.
    pub(crate) damage: u32,
    /// After a session is replaced, its records come once more.
    pub(crate) stale: u32,
}

#[derive(Debug, Default)]
struct Log {
    start: i64,
    end: i64,
    /// First offset, offset after the last record, greatest timestamp, bytes.
    batches: Vec<(i64, i64, i64, Bytes)>,
}

/// What a scripted group knows of a member.
#[derive(Debug, Default, Clone)]
pub(crate) struct Member {
    pub(crate) epoch: i32,
    pub(crate) heartbeats: u64,
    /// What it says it owns.
    pub(crate) owned: Vec<(String, Vec<i32>)>,
    pub(crate) left_with: Option<i32>,
    target: Vec<i32>,
    told: Option<Vec<i32>>,
    fence: bool,
}

struct State {
    rng: rand_chacha::ChaCha8Rng,
    faults: Faults,
    logs: BTreeMap<(String, i32), Log>,
    /// Bytes of records sent on fetch streams.
    bytes_sent: u64,
    streams_opened: u64,
    topic: String,
    /// In the order in which they joined.
    members: Vec<(String, Member)>,
    committed: BTreeMap<(String, i32), i64>,
    commits: u64,
}

struct Node {
    state: Mutex<State>,
    changed: Notify,
    port: watch::Sender<u16>,
    /// Of the server itself.
    direct_port: watch::Sender<u16>,
}

struct Service(Arc<Node>);

/// A running node and the proxy through which clients reach it.
pub(crate) struct FakeLog {
    node: Arc<Node>,
    address: SocketAddr,
    cut: watch::Sender<u64>,
}

impl FakeLog {
    /// Starts a node with one topic of so many partitions.
    pub(crate) async fn start(seed: u64, topic: &str, partitions: i32) -> Self {
        let logs = (0..partitions)
            .map(|p| ((topic.to_owned(), p), Log::default()))
            .collect();
        let state = State {
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
            faults: Faults::default(),
            logs,
            bytes_sent: 0,
            streams_opened: 0,
            topic: topic.to_owned(),
            members: Vec::new(),
            committed: BTreeMap::new(),
            commits: 0,
        };
        let node = Arc::new(Node {
            state: Mutex::new(state),
            changed: Notify::new(),
            port: watch::channel(0).0,
            direct_port: watch::channel(0).0,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(MetadataServiceServer::new(Service(Arc::clone(&node))))
            .add_service(FetchServiceServer::new(Service(Arc::clone(&node))))
            .add_service(GroupServiceServer::new(Service(Arc::clone(&node))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);

        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        node.port.send_replace(address.port());
        node.direct_port.send_replace(behind.port());
        let cut = watch::Sender::new(0);
        tokio::spawn(proxy(front, behind, cut.subscribe()));
        Self { node, address, cut }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on clients that ask are sent to the server itself: the proxy is slow.
    pub(crate) fn bypass_proxy(&self) {
        let port = *self.node.direct_port.borrow();
        self.node.port.send_replace(port);
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.node.state.lock().faults = faults;
    }

    /// Breaks every connection.
    pub(crate) fn cut_connections(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Appends a batch of `count` records whose values are their offsets, with timestamps of ten
    /// times the offset.
    pub(crate) fn append(&self, partition: i32, codec: Codec, count: i64) {
        self.append_sized(partition, codec, count, 0);
    }

    /// The same with `padding` bytes behind the offset and a blank.
    pub(crate) fn append_sized(&self, partition: i32, codec: Codec, count: i64, padding: usize) {
        let mut state = self.node.state.lock();
        let key = (state.topic.clone(), partition);
        let log = state.logs.get_mut(&key).unwrap();
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            size_limit: 16 << 20,
            ..BatchOptions::default()
        });
        for offset in log.end..log.end + count {
            let value = format!("{offset} {}", "x".repeat(padding));
            let record = NewRecord {
                timestamp_ms: offset * 10,
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            builder.append(&record).unwrap();
        }
        let built = builder.build(&mut Compressor::new()).unwrap();
        let mut bytes = BytesMut::from(&built[..]);
        let header = stamp_header(&built, Offset(log.end), LeaderEpoch(0));
        bytes[..header.len()].copy_from_slice(&header);
        let next = log.end + count;
        log.batches
            .push((log.end, next, (next - 1) * 10, bytes.freeze()));
        log.end = next;
        drop(state);
        self.node.changed.notify_waiters();
    }

    /// Removes what lies below an offset.
    pub(crate) fn raise_start(&self, partition: i32, offset: i64) {
        let mut state = self.node.state.lock();
        let key = (state.topic.clone(), partition);
        let log = state.logs.get_mut(&key).unwrap();
        log.start = offset;
        log.batches.retain(|(_, next, _, _)| *next > offset);
    }

    pub(crate) fn bytes_sent(&self) -> u64 {
        self.node.state.lock().bytes_sent
    }

    pub(crate) fn streams_opened(&self) -> u64 {
        self.node.state.lock().streams_opened
    }

    /// What the `n`-th member to join is to own.
    pub(crate) fn target(&self, n: usize, partitions: &[i32]) {
        self.node.state.lock().members[n].1.target = partitions.to_vec();
    }

    /// Answers the next heartbeat of the `n`-th member with `FENCED_MEMBER_EPOCH`.
    pub(crate) fn fence(&self, n: usize) {
        self.node.state.lock().members[n].1.fence = true;
    }

    pub(crate) fn member(&self, n: usize) -> Option<Member> {
        self.node
            .state
            .lock()
            .members
            .get(n)
            .map(|(_, member)| member.clone())
    }

    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        let state = self.node.state.lock();
        state
            .committed
            .get(&(state.topic.clone(), partition))
            .copied()
    }

    pub(crate) fn commit(&self, partition: i32, offset: i64) {
        let mut state = self.node.state.lock();
        let key = (state.topic.clone(), partition);
        state.committed.insert(key, offset);
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
            let count = state.logs.keys().filter(|(topic, _)| topic == name).count();
            let known = count > 0;
            let missing = ErrorCode::UnknownTopicOrPartition.code();
            v1::TopicMetadata {
                name: name.clone(),
                topic_id: vec![1; 16].into(),
                error_code: if known { 0 } else { missing },
                partitions: (0..count as i32)
                    .map(|partition| v1::PartitionMetadata {
                        partition,
                        leader_id: 1,
                        ..v1::PartitionMetadata::default()
                    })
                    .collect(),
                ..v1::TopicMetadata::default()
            }
        });
        Ok(Response::new(v1::GetMetadataResponse {
            cluster_id: "fake".to_owned(),
            controller_id: 1,
            nodes: vec![v1::Node {
                node_id: 1,
                host: "127.0.0.1".to_owned(),
                port: i32::from(*self.0.port.borrow()),
                rack: String::new(),
            }],
            topics: topics.collect(),
        }))
    }
}

#[tonic::async_trait]
impl FetchService for Service {
    type FetchStreamStream = ReceiverStream<Result<v1::FetchStreamResponse, Status>>;

    async fn fetch(
        &self,
        _request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        Err(Status::unimplemented("consumers stream"))
    }

    async fn fetch_stream(
        &self,
        request: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(1);
        self.0.state.lock().streams_opened += 1;
        let stream_state = FetchStream {
            node: Arc::clone(&self.0),
            sessions: BTreeMap::new(),
            credit: 0,
            response_bytes_max: 0,
        };
        tokio::spawn(stream_state.serve(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let state = self.0.state.lock();
        let partitions = request.into_inner().partitions.into_iter().map(|asked| {
            let key = (asked.topic.clone(), asked.partition);
            let mut result = v1::ListOffsetsResult {
                topic: asked.topic,
                partition: asked.partition,
                offset: -1,
                timestamp_ms: -1,
                ..v1::ListOffsetsResult::default()
            };
            match (state.logs.get(&key), asked.timestamp_ms) {
                (None, _) => result.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                (Some(log), -1) => result.offset = log.end,
                (Some(log), -2) => result.offset = log.start,
                (Some(log), time) => {
                    let first = (time + 9) / 10;
                    if first < log.end {
                        result.offset = first.max(log.start);
                    }
                }
            }
            result
        });
        Ok(Response::new(v1::ListOffsetsResponse {
            partitions: partitions.collect(),
        }))
    }
}

#[derive(Debug, Clone)]
struct Session {
    topic: String,
    partition: i32,
    offset: i64,
}

/// One fetch stream.
struct FetchStream {
    node: Arc<Node>,
    sessions: BTreeMap<u64, Session>,
    credit: i64,
    response_bytes_max: usize,
}

impl FetchStream {
    async fn serve(
        mut self,
        mut requests: Streaming<v1::FetchStreamRequest>,
        answers: mpsc::Sender<Result<v1::FetchStreamResponse, Status>>,
    ) {
        let node = Arc::clone(&self.node);
        loop {
            let changed = node.changed.notified();
            while let Some(answer) = self.next_answer() {
                let ends = answer.is_err();
                if answers.send(answer).await.is_err() || ends {
                    return;
                }
            }
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Some(stale) = self.take_request(request)
                            && answers.send(Ok(stale)).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
                () = changed => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// Returns an answer for a session that has just ended, now and then.
    fn take_request(&mut self, request: v1::FetchStreamRequest) -> Option<v1::FetchStreamResponse> {
        if let Some(open) = request.open {
            self.response_bytes_max = open.response_bytes_max.max(1) as usize;
        }
        self.credit += request.credit_bytes;
        for gone in request.remove {
            self.sessions
                .retain(|_, s| s.topic != gone.topic || s.partition != gone.partition);
        }
        let mut stale = None;
        for new in request.assign {
            let replaced: Vec<u64> = self
                .sessions
                .iter()
                .filter(|(_, s)| s.topic == new.topic && s.partition == new.partition)
                .map(|(id, _)| *id)
                .collect();
            for id in replaced {
                let old = self.sessions.remove(&id)?;
                let mut state = self.node.state.lock();
                let chance = state.faults.stale;
                if state.strikes(chance)
                    && let Some(records) = state.read(id, &old, self.response_bytes_max)
                {
                    self.credit -= records.records.len() as i64;
                    state.bytes_sent += records.records.len() as u64;
                    stale = Some(response(records, self.credit));
                }
            }
            let session = Session {
                topic: new.topic,
                partition: new.partition,
                offset: new.fetch_offset,
            };
            self.sessions.insert(new.session, session);
        }
        stale
    }

    /// What to send now, if anything.
    fn next_answer(&mut self) -> Option<Result<v1::FetchStreamResponse, Status>> {
        if self.credit <= 0 || self.sessions.is_empty() {
            return None;
        }
        let mut state = self.node.state.lock();
        let faults = state.faults;
        let first = state.rng.random_range(0..self.sessions.len());
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids.iter().cycle().skip(first).take(ids.len()) {
            let session = &self.sessions[id];
            let Some(mut records) = state.read(*id, session, self.response_bytes_max) else {
                continue;
            };
            if records.error_code != 0 {
                self.sessions.remove(id);
                return Some(Ok(response(records, self.credit)));
            }
            if state.strikes(faults.stream_breaks) {
                return Some(Err(Status::unavailable("the node fell over")));
            }
            if state.strikes(faults.not_leader) {
                self.sessions.remove(id);
                records.error_code = ErrorCode::NotLeaderOrFollower.code();
                records.records = Bytes::new();
                return Some(Ok(response(records, self.credit)));
            }
            if state.strikes(faults.damage) {
                let mut bytes = BytesMut::from(&records.records[..]);
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                records.records = bytes.freeze();
            }
            self.credit -= records.records.len() as i64;
            state.bytes_sent += records.records.len() as u64;
            if let Some(session) = self.sessions.get_mut(id) {
                session.offset = records.next_offset;
            }
            return Some(Ok(response(records, self.credit)));
        }
        None
    }
}

fn response(records: v1::PartitionRecords, credit: i64) -> v1::FetchStreamResponse {
    v1::FetchStreamResponse {
        partitions: vec![records],
        credit_left_bytes: credit,
    }
}

impl State {
    fn strikes(&mut self, chance: u32) -> bool {
        self.rng.random_range(0..1_000) < chance
    }

    /// The next batches for a session: at least one, or an error, or nothing yet.
    fn read(&self, id: u64, session: &Session, bytes_max: usize) -> Option<v1::PartitionRecords> {
        let mut records = v1::PartitionRecords {
            topic: session.topic.clone(),
            partition: session.partition,
            session: id,
            next_offset: session.offset,
            ..v1::PartitionRecords::default()
        };
        let Some(log) = self.logs.get(&(session.topic.clone(), session.partition)) else {
            records.error_code = ErrorCode::UnknownTopicOrPartition.code();
            return Some(records);
        };
        records.high_watermark = log.end;
        records.last_stable_offset = log.end;
        records.log_start_offset = log.start;
        if session.offset < log.start || session.offset > log.end {
            records.error_code = ErrorCode::OffsetOutOfRange.code();
            "outside".clone_into(&mut records.error_message);
            return Some(records);
        }
        let mut bytes = BytesMut::with_capacity(bytes_max);
        let first = log
            .batches
            .partition_point(|batch| batch.1 <= session.offset);
        for (_, next, _, batch) in &log.batches[first..] {
            if !bytes.is_empty() && bytes.len() + batch.len() > bytes_max {
                break;
            }
            bytes.extend_from_slice(batch);
            records.next_offset = *next;
        }
        records.records = bytes.freeze();
        (!records.records.is_empty()).then_some(records)
    }
}

#[tonic::async_trait]
impl GroupService for Service {
    async fn consumer_group_heartbeat(
        &self,
        request: Request<v1::ConsumerGroupHeartbeatRequest>,
    ) -> Result<Response<v1::ConsumerGroupHeartbeatResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.state.lock();
        let topic = state.topic.clone();
        if !state.members.iter().any(|(id, _)| *id == request.member_id) {
            state
                .members
                .push((request.member_id.clone(), Member::default()));
        }
        let found = state
            .members
            .iter_mut()
            .find(|(id, _)| *id == request.member_id);
        let (_, member) = found.unwrap();
        member.heartbeats += 1;
        let mut answer = v1::ConsumerGroupHeartbeatResponse {
            member_id: request.member_id,
            heartbeat_interval_ms: 20,
            ..v1::ConsumerGroupHeartbeatResponse::default()
        };
        if request.member_epoch < 0 {
            member.left_with = Some(request.member_epoch);
            return Ok(Response::new(answer));
        }
        if request.member_epoch == 0 {
            member.epoch += 1;
            member.told = None;
        } else if std::mem::take(&mut member.fence) || request.member_epoch != member.epoch {
            answer.error_code = ErrorCode::FencedMemberEpoch.code();
            return Ok(Response::new(answer));
        }
        if let Some(owned) = request.owned {
            member.owned = owned
                .topics
                .into_iter()
                .map(|topic| (topic.topic, topic.partitions))
                .collect();
        }
        answer.member_epoch = member.epoch;
        if member.told.as_ref() != Some(&member.target) {
            member.told = Some(member.target.clone());
            let topics = vec![v1::AssignedTopic {
                topic_id: vec![1; 16].into(),
                topic,
                partitions: member.target.clone(),
            }];
            answer.assignment = Some(v1::Assignment { topics });
        }
        Ok(Response::new(answer))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.state.lock();
        state.commits += 1;
        // Every third commit meets a coordinator that is still loading.
        let loading = state.commits.is_multiple_of(3);
        let member = state
            .members
            .iter()
            .find(|(id, _)| *id == request.member_id);
        let outside = request.member_id.is_empty() && request.member_epoch == -1;
        let known = outside || member.is_some_and(|(_, m)| m.epoch == request.member_epoch);
        let code = match (known, loading) {
            (false, _) => ErrorCode::StaleMemberEpoch,
            (true, true) => ErrorCode::CoordinatorLoadInProgress,
            (true, false) => ErrorCode::None,
        };
        let mut results = Vec::new();
        for offset in request.offsets {
            if code == ErrorCode::None {
                let key = (offset.topic.clone(), offset.partition);
                state.committed.insert(key, offset.offset);
            }
            results.push(v1::OffsetResult {
                topic: offset.topic,
                partition: offset.partition,
                error_code: code.code(),
                error_message: String::new(),
            });
        }
        Ok(Response::new(v1::CommitOffsetsResponse { results }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let state = self.0.state.lock();
        let offsets = request.into_inner().partitions.into_iter().map(|asked| {
            let key = (asked.topic.clone(), asked.partition);
            v1::CommittedOffset {
                topic: asked.topic,
                partition: asked.partition,
                offset: state.committed.get(&key).copied().unwrap_or(-1),
                leader_epoch: -1,
                ..v1::CommittedOffset::default()
            }
        });
        let offsets = offsets.collect();
        Ok(Response::new(v1::FetchOffsetsResponse {
            offsets,
            ..v1::FetchOffsetsResponse::default()
        }))
    }

    async fn list_groups(
        &self,
        _request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        Err(Status::unimplemented("not for consumers"))
    }

    async fn describe_groups(
        &self,
        _request: Request<v1::DescribeGroupsRequest>,
    ) -> Result<Response<v1::DescribeGroupsResponse>, Status> {
        Err(Status::unimplemented("not for consumers"))
    }

    async fn delete_groups(
        &self,
        _request: Request<v1::DeleteGroupsRequest>,
    ) -> Result<Response<v1::DeleteGroupsResponse>, Status> {
        Err(Status::unimplemented("not for consumers"))
    }

    async fn delete_offsets(
        &self,
        _request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        Err(Status::unimplemented("not for consumers"))
    }
}
