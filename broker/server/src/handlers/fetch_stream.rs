//! `FetchStream`: batches as they become readable, as long as the client grants credit.
//!
//! One task serves a stream. Partitions that have something to read stand in a queue; each turn takes
//! up to one response's bytes from those in front and puts who has more at the back, so that a
//! partition far behind does not starve the others. Without credit, or while the client does not
//! take what was sent, nothing is read; nor is anything while the node's memory for fetched records is
//! used up. A partition that has nothing to read is woken by its move.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    FetchStreamOpen, FetchStreamPartition, FetchStreamRequest, FetchStreamResponse,
    PartitionRecords, TopicPartition,
};
use conveyor_log::ReadChunk;
use conveyor_record::Offset;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{isolation, partition_records};
use crate::fetch_memory::Room;
use crate::listener::Inbound;
use crate::node::{Node, Refusal};
use crate::partition::{Partition, WakeSet, Watch};
use crate::records::read::{self, Isolation, ReadRequest};
use crate::request::{Call, Operation, Quota};

/// Responses that may wait for the connection.
const RESPONSES_WAITING: usize = 1;
/// Bytes of records in a response when the client does not say: large enough to be cheap, small
/// enough for fairness and for HTTP/2.
const RESPONSE_BYTES: usize = 512 * 1024;
/// Partitions that one stream may have.
const PARTITIONS_MAX: usize = 100_000;
/// Partitions told of in one response. A client that has more errors waiting is not heard until it
/// has taken some.
const ENTRIES_MAX: usize = 1_000;
/// Keys of removed partitions that may stand in the queue before it is swept.
const DEAD_KEYS_MAX: usize = 1_000;
/// Most credit that a client can pile up.
const CREDIT_MAX: i64 = 1 << 40;
/// Longest wait for `min_bytes`.
const WAIT_MAX: Duration = Duration::from_secs(30);

type Outbound = mpsc::Sender<Result<FetchStreamResponse, Status>>;

/// Starts the task and returns the stream of its responses.
pub(crate) fn start(
    node: &Arc<Node>,
    call: Call,
    inbound: Inbound<FetchStreamRequest>,
) -> impl Stream<Item = Result<FetchStreamResponse, Status>> + Send + use<> {
    let (outbound, responses) = mpsc::channel(RESPONSES_WAITING);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let stopping = node.stopping.clone();
        let mut session = Session::new(node, call);
        let end = tokio::select! {
            end = session.run(inbound, &outbound) => end,
            () = stopping.cancelled() => Err(Status::unavailable("the node is stopping; connect again")),
        };
        if let Err(status) = end {
            // The client may be gone already; then nobody wants to know.
            drop(outbound.send(Err(status)).await);
        }
    });
    ReceiverStream::new(responses)
}

/// A partition that the client reads.
struct Reading {
    partition: Arc<Partition>,
    offset: Offset,
    session: u64,
    /// Whether it stands in the queue.
    queued: bool,
    /// Set while less than `min_bytes` is there: when it is sent all the same.
    due: Option<Instant>,
    told_high_watermark: Option<Offset>,
    _watch: Watch,
}

struct Session {
    node: Arc<Node>,
    call: Call,
    isolation: Isolation,
    response_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
    opened: bool,
    credit: i64,
    wake: Arc<WakeSet>,
    readings: HashMap<u64, Reading>,
    keys: HashMap<(String, i32), u64>,
    next_key: u64,
    ready: VecDeque<u64>,
    /// Partitions that wait for `min_bytes`, by when they are due; the times are those in `readings`.
    waiting: BTreeSet<(Instant, u64)>,
    /// Errors to be told with the next response.
    failures: Vec<PartitionRecords>,
}

impl Session {
    fn new(node: Arc<Node>, call: Call) -> Self {
        Self {
            response_bytes: RESPONSE_BYTES.min(response_bytes_max(&node)),
            node,
            call,
            isolation: Isolation::Uncommitted,
            min_bytes: 0,
            max_wait: Duration::ZERO,
            opened: false,
            credit: 0,
            wake: Arc::new(WakeSet::default()),
            readings: HashMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    async fn run(
        &mut self,
        mut inbound: Inbound<FetchStreamRequest>,
        outbound: &Outbound,
    ) -> Result<(), Status> {
        let wake = Arc::clone(&self.wake);
        loop {
            let can_send = !self.failures.is_empty() || (self.credit > 0 && !self.ready.is_empty());
            let can_hear = self.failures.len() < ENTRIES_MAX;
            let due = self.waiting.first().map(|(due, _)| *due);
            tokio::select! {
                biased;
                request = inbound.message(), if can_hear => match request? {
                    Some(request) => self.apply(request)?,
                    // The client has nothing more to say, so it will grant no more credit.
                    None => return Ok(()),
                },
                moved = wake.moved() => {
                    for key in moved {
                        self.enqueue(key);
                    }
                }
                () = sleep_until(due), if due.is_some() => self.enqueue_due(),
                permit = outbound.reserve(), if can_send => {
                    let Ok(permit) = permit else { return Ok(()) };
                    let response = tokio::select! {
                        response = self.next_response() => response,
                        // The client need not be waited for when memory is.
                        () = outbound.closed() => return Ok(()),
                    };
                    if let Some(response) = response {
                        let bytes = response.partitions.iter().map(|part| part.records.len()).sum();
                        permit.send(Ok(response));
                        let pause = self.call.charge(Quota::Fetch, bytes);
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                    }
                }
            }
        }
    }

    fn apply(&mut self, request: FetchStreamRequest) -> Result<(), Status> {
        match (request.open, self.opened) {
            (Some(open), false) => self.open(&open)?,
            (Some(_), true) => {
                return Err(Status::invalid_argument("a fetch stream is opened once"));
            }
            (None, false) => {
                return Err(Status::invalid_argument(
                    "the first message of a fetch stream must open it",
                ));
            }
            (None, true) => {}
        }
        if request.credit_bytes < 0 {
            return Err(Status::invalid_argument("credit cannot be taken back"));
        }
        self.credit = self
            .credit
            .saturating_add(request.credit_bytes)
            .min(CREDIT_MAX);
        for place in request.remove {
            self.remove(place);
        }
        for wanted in request.assign {
            self.assign(wanted)?;
        }
        Ok(())
    }

    fn open(&mut self, open: &FetchStreamOpen) -> Result<(), Status> {
        self.isolation = isolation(open.isolation_level).ok_or_else(|| {
            Status::invalid_argument(format!(
                "isolation level {} is not known",
                open.isolation_level
            ))
        })?;
        if let Ok(bytes) = usize::try_from(open.response_bytes_max)
            && bytes > 0
        {
            self.response_bytes = bytes.min(response_bytes_max(&self.node));
        }
        self.min_bytes = usize::try_from(open.min_bytes)
            .unwrap_or(0)
            .min(self.response_bytes);
        let wait = u64::try_from(open.max_wait_ms).unwrap_or(0);
        self.max_wait = Duration::from_millis(wait).min(WAIT_MAX);
        self.opened = true;
        Ok(())
    }

    fn remove(&mut self, place: TopicPartition) {
        if let Some(key) = self.keys.remove(&(place.topic, place.partition)) {
            self.forget(key);
        }
    }

    /// Takes a key out of everything but `keys`.
    fn forget(&mut self, key: u64) -> Option<Reading> {
        let reading = self.readings.remove(&key)?;
        if let Some(due) = reading.due {
            self.waiting.remove(&(due, key));
        }
        // Swept now and then, since finding one key in the queue means a walk through it.
        if self.ready.len() > self.readings.len() + DEAD_KEYS_MAX {
            self.ready.retain(|key| self.readings.contains_key(key));
        }
        Some(reading)
    }

    fn assign(&mut self, wanted: FetchStreamPartition) -> Result<(), Status> {
        let FetchStreamPartition {
            topic,
            partition,
            fetch_offset,
            current_leader_epoch,
            session,
        } = wanted;
        let found = self
            .node
            .partition_for(&self.call, Operation::Read, &topic, partition)
            .and_then(|found| read::check_epoch(&found, current_leader_epoch).map(|()| found));
        if let Some(former) = self.keys.remove(&(topic.clone(), partition)) {
            self.forget(former);
        }
        match found {
            Err(refusal) => {
                self.fail((&topic, partition), None, refusal, session, fetch_offset);
            }
            Ok(_) if self.readings.len() >= PARTITIONS_MAX => {
                return Err(Status::resource_exhausted(format!(
                    "more than {PARTITIONS_MAX} partitions on one fetch stream"
                )));
            }
            Ok(found) => {
                let key = self.next_key;
                self.next_key += 1;
                self.keys.insert((topic, partition), key);
                let reading = Reading {
                    _watch: found.watch(&self.wake, key),
                    partition: found,
                    offset: Offset(fetch_offset),
                    session,
                    queued: false,
                    due: None,
                    told_high_watermark: None,
                };
                self.readings.insert(key, reading);
                self.enqueue(key);
            }
        }
        Ok(())
    }

    fn fail(
        &mut self,
        place: (&str, i32),
        partition: Option<&Partition>,
        refusal: Refusal,
        session: u64,
        offset: i64,
    ) {
        self.call.outcome(refusal.code);
        self.failures.push(partition_records::failure(
            place, partition, refusal, session, offset,
        ));
    }

    fn enqueue(&mut self, key: u64) {
        if let Some(reading) = self.readings.get_mut(&key)
            && !reading.queued
        {
            reading.queued = true;
            self.ready.push_back(key);
        }
    }

    fn enqueue_due(&mut self) {
        let now = Instant::now();
        while let Some((due, key)) = self.waiting.first().copied()
            && due <= now
        {
            self.waiting.remove(&(due, key));
            self.enqueue(key);
        }
    }

    /// Takes turns until a response is full or nobody is left; `None` when there is nothing to tell.
    async fn next_response(&mut self) -> Option<FetchStreamResponse> {
        if !self.failures.is_empty() {
            // Told at once, by themselves: they need no memory to be waited for.
            return Some(self.told_failures());
        }
        let mut memory = None;
        let mut partitions = Vec::new();
        let mut room = self.response_bytes;
        // Who has more goes to the back of the queue, but gets no second turn in this response.
        let mut turns = self.ready.len();
        while turns > 0
            && room > 0
            && self.credit > 0
            && partitions.len() + self.failures.len() < ENTRIES_MAX
        {
            turns -= 1;
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            if memory.is_none() && self.has_records(key) {
                // All of the response's room at once, while it holds none.
                memory = Some(self.node.fetch_memory.room(room).await);
            }
            if let Some(records) = self.turn(key, room, &mut memory).await {
                room = room.saturating_sub(records.records.len());
                self.credit -= records.records.len() as i64;
                partitions.push(records);
            }
        }
        partitions.append(&mut self.failures);
        (!partitions.is_empty()).then(|| FetchStreamResponse {
            partitions,
            credit_left_bytes: self.credit,
        })
    }

    fn told_failures(&mut self) -> FetchStreamResponse {
        let count = self.failures.len().min(ENTRIES_MAX);
        FetchStreamResponse {
            partitions: self.failures.drain(..count).collect(),
            credit_left_bytes: self.credit,
        }
    }

    /// Whether there is something that the client may see.
    fn has_records(&self, key: u64) -> bool {
        let reading = self.readings.get(&key);
        reading.is_some_and(|reading| self.isolation.bound(&reading.partition) > reading.offset)
    }

    /// One partition's turn: its records, its news, or nothing.
    /// Without memory nothing is read, which is when there was nothing before the turn.
    async fn turn(
        &mut self,
        key: u64,
        room: usize,
        memory: &mut Option<Room>,
    ) -> Option<PartitionRecords> {
        let reading = self.readings.get_mut(&key)?;
        reading.queued = false;
        let partition = Arc::clone(&reading.partition);
        let request = ReadRequest {
            from: reading.offset,
            bytes_max: if memory.is_some() { room } else { 0 },
            min_one_batch: memory.is_some() && room == self.response_bytes,
            isolation: self.isolation,
        };
        let read = if partition.is_closed() {
            Err(read::closed(&partition))
        } else {
            read::read(&partition, request).await
        };
        let read = read.and_then(|chunk| {
            let aborted = read::aborted(&partition, &chunk, self.isolation)?;
            Ok((chunk, aborted))
        });
        match read {
            Err(refusal) => {
                self.end_reading(key, refusal);
                None
            }
            Ok((mut chunk, aborted)) => {
                let reading = self.readings.get_mut(&key)?;
                let more = chunk.next_offset < self.isolation.bound(&partition);
                if chunk.bytes.is_empty() {
                    if more {
                        // The room left is too small for its next batch.
                        self.enqueue(key);
                        return None;
                    }
                    return news(reading, chunk);
                }
                if !more && hold_back(reading, chunk.bytes.len(), self.min_bytes, self.max_wait) {
                    self.waiting.extend(reading.due.map(|due| (due, key)));
                    return None;
                }
                if let Some(due) = reading.due.take() {
                    self.waiting.remove(&(due, key));
                }
                if let Some(memory) = memory {
                    chunk.bytes = memory.hold(chunk.bytes);
                }
                reading.offset = chunk.next_offset;
                let records =
                    partition_records::records(&partition, chunk, aborted, reading.session);
                reading.told_high_watermark = Some(Offset(records.high_watermark));
                if more {
                    self.enqueue(key);
                }
                self.count(&partition, &records);
                Some(records)
            }
        }
    }

    fn count(&self, partition: &Partition, records: &PartitionRecords) {
        self.call.outcome(ErrorCode::None);
        self.call
            .count_fetch(partition, Some(records.records.len()));
    }

    /// An error ends the partition's session; the client assigns it again to go on.
    fn end_reading(&mut self, key: u64, refusal: Refusal) {
        let Some(reading) = self.forget(key) else {
            return;
        };
        let partition = reading.partition;
        let place = (partition.topic().as_ref(), partition.index());
        self.keys.remove(&(place.0.to_owned(), place.1));
        self.node
            .metrics
            .topic(partition.topic())
            .failed_fetch_requests
            .increment();
        let offset = reading.offset.value();
        self.fail(place, Some(&partition), refusal, reading.session, offset);
    }
}

/// Largest response of this node, in bytes of records.
fn response_bytes_max(node: &Node) -> usize {
    node.config.fetch_max_bytes.min(node.fetch_memory.total())
}

/// Whether to wait for more than is there.
fn hold_back(reading: &mut Reading, bytes: usize, min_bytes: usize, max_wait: Duration) -> bool {
    if bytes >= min_bytes || max_wait.is_zero() {
        return false;
    }
    let now = Instant::now();
    now < *reading.due.get_or_insert(now + max_wait)
}

/// A partition without records tells its positions when they have moved.
fn news(reading: &mut Reading, chunk: ReadChunk) -> Option<PartitionRecords> {
    let high_watermark = reading.partition.reader().high_watermark();
    if reading.told_high_watermark == Some(high_watermark) {
        return None;
    }
    reading.told_high_watermark = Some(high_watermark);
    Some(partition_records::records(
        &reading.partition,
        chunk,
        Vec::new(),
        reading.session,
    ))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
