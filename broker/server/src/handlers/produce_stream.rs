//! `ProduceStream`: batches in, acknowledgements out, for as long as the client likes.
//!
//! One task reads: it checks each batch, takes its share of the stream's window and of the data
//! directory's room, and queues it; while either is used up, or the client leaves too many of its
//! acknowledgements unread, it reads no further, and HTTP/2 flow control holds the client back.
//! Writers and flushers put acknowledgements into the [`AckQueue`]; the response stream takes all
//! that are there at a time, so that under load one response carries many. Batches of one partition
//! are queued in the order read, and acknowledged in that order. A batch that is not durable in time
//! is acknowledged with `REQUEST_TIMED_OUT`; what becomes of it later is not told any more.
//!
//! A batch of a transaction waits for its coordinator's leave, and others are read meanwhile, so that
//! the leaves for several partitions share a sync; what was read behind it waits behind it.
//!
//! Once the response stream is dropped, as when the client is gone, the task ends, whatever it is
//! waiting for.

use std::collections::HashMap;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::produce_stream_request::Message;
use conveyor_grpc::v1::{
    ProduceStreamAck, ProduceStreamBatch, ProduceStreamLimits, ProduceStreamOpen,
    ProduceStreamRequest, ProduceStreamResponse,
};
use conveyor_record::{Codec, Decompressor};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::produce::{acks, append, record_error};
use super::{Services, no_error};
use crate::listener::Inbound;
use crate::node::Refusal;
use crate::partition::{Acknowledge, Acks, Admission, AppendResult, Appended, Permits, Reply};
use crate::records::produce::{self, CheckedBatch, RefusedBatch};
use crate::request::{Call, Quota};

/// Memory that acknowledgements may take which the client has not read, about 6,000 of them. What
/// is in the stream's window may come on top.
const UNREAD_ACK_BYTES_MAX: usize = 512 * 1024;
/// Batches that may wait for their transaction's leave; their bytes are bounded by the window.
const ADMITTING_MAX: usize = 256;

/// Acknowledgements on their way back to one stream.
#[derive(Debug, Default)]
struct AckQueue {
    state: Mutex<AckState>,
    /// Wakes the response stream.
    waker: AtomicWaker,
    /// Wakes the reading task: acknowledgements were taken, or nobody will take any more.
    taken: Notify,
}

#[derive(Debug, Default)]
struct AckState {
    limits: Option<ProduceStreamLimits>,
    acks: Vec<ProduceStreamAck>,
    /// Memory that `acks` take.
    ack_bytes: usize,
    throttle: Duration,
    /// Batches queued and not acknowledged yet, in the order queued.
    outstanding: HashMap<u64, Instant>,
    /// Set when nothing more is read: how the stream ends once all is acknowledged.
    end: Option<Result<(), Status>>,
    /// The client is gone; nobody takes acknowledgements any more.
    abandoned: bool,
}

impl AckState {
    fn push(&mut self, ack: ProduceStreamAck) {
        // A message may name whatever topic the client made up.
        self.ack_bytes += size_of::<ProduceStreamAck>() + ack.error_message.len();
        self.acks.push(ack);
    }

    fn take(&mut self) -> Vec<ProduceStreamAck> {
        self.ack_bytes = 0;
        mem::take(&mut self.acks)
    }
}

impl Acknowledge for AckQueue {
    fn acknowledge(&self, correlation_id: u64, result: AppendResult) {
        self.settle(correlation_id, result.map_err(RefusedBatch::from));
    }
}

impl AckQueue {
    /// Answers a batch that was expected, unless that has been done.
    fn settle(&self, correlation_id: u64, outcome: Result<Appended, RefusedBatch>) {
        self.update(|state| {
            if state.outstanding.remove(&correlation_id).is_some() {
                state.push(ack(correlation_id, outcome));
            }
        });
    }

    fn acknowledge_at_once(&self, correlation_id: u64, outcome: Result<Appended, RefusedBatch>) {
        self.update(|state| state.push(ack(correlation_id, outcome)));
    }

    /// Notes a batch that will be acknowledged; false if its number is in use.
    fn expect(&self, correlation_id: u64) -> bool {
        let mut state = self.state.lock();
        state
            .outstanding
            .insert(correlation_id, Instant::now())
            .is_none()
    }

    /// Whether nothing is read any more and nothing is on its way, or nobody wants to know.
    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.abandoned || (state.end.is_some() && state.outstanding.is_empty())
    }

    /// Returns once the client has read enough of its acknowledgements, or is gone.
    async fn room(&self) {
        self.until(|state| state.abandoned || state.ack_bytes < UNREAD_ACK_BYTES_MAX)
            .await;
    }

    /// Returns once nobody takes acknowledgements any more.
    async fn abandoned(&self) {
        self.until(|state| state.abandoned).await;
    }

    /// Returns once `condition` holds; it is looked at whenever acknowledgements were taken.
    async fn until(&self, condition: impl Fn(&AckState) -> bool) {
        loop {
            let mut taken = pin!(self.taken.notified());
            // Registered before looking, so that nothing in between is missed.
            taken.as_mut().enable();
            if condition(&self.state.lock()) {
                return;
            }
            taken.await;
        }
    }

    /// Gives up batches that have waited for too long.
    fn expire(&self, limit: Duration) {
        let now = Instant::now();
        self.update(|state| {
            let mut outstanding = mem::take(&mut state.outstanding);
            outstanding.retain(|&correlation_id, queued| {
                let in_time = now.duration_since(*queued) < limit;
                if !in_time {
                    let refusal = produce::timed_out("the partition");
                    state.push(ack(correlation_id, Err(refusal.into())));
                }
                in_time
            });
            state.outstanding = outstanding;
        });
    }

    fn update(&self, change: impl FnOnce(&mut AckState)) {
        {
            let mut state = self.state.lock();
            if state.abandoned {
                return;
            }
            change(&mut state);
        }
        self.waker.wake();
    }
}

fn ack(correlation_id: u64, outcome: Result<Appended, RefusedBatch>) -> ProduceStreamAck {
    match outcome {
        Ok(appended) => ProduceStreamAck {
            correlation_id,
            error_code: no_error(),
            error_message: String::new(),
            base_offset: appended.base_offset.value(),
            log_append_timestamp_ms: appended.log_append_timestamp_ms,
            log_start_offset: appended.log_start_offset.value(),
            record_errors: Vec::new(),
        },
        Err(RefusedBatch {
            refusal,
            record_errors,
        }) => ProduceStreamAck {
            correlation_id,
            error_code: refusal.code.code(),
            error_message: refusal.message,
            base_offset: -1,
            log_append_timestamp_ms: -1,
            log_start_offset: -1,
            record_errors: record_errors.into_iter().map(record_error).collect(),
        },
    }
}

/// The responses of one stream: all acknowledgements that are there, whenever it is asked.
#[derive(Debug)]
pub(crate) struct AckStream {
    queue: Arc<AckQueue>,
    call: Arc<Call>,
    /// Whether the task has let others run since it found acknowledgements.
    yielded: bool,
}

impl Stream for AckStream {
    type Item = Result<ProduceStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Registered before looking, so that an acknowledgement in between wakes this task again.
        self.queue.waker.register(context.waker());
        let this = &mut *self;
        let mut state = this.queue.state.lock();
        if !state.acks.is_empty() && !mem::replace(&mut this.yielded, true) {
            // Whoever answers a group answers its batches one by one: one more turn finds them all,
            // and a response costs far more than a turn.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.yielded = false;
        if state.limits.is_some() || !state.acks.is_empty() {
            let response = ProduceStreamResponse {
                limits: state.limits.take(),
                acks: state.take(),
                throttle_time_ms: mem::take(&mut state.throttle).as_millis() as i32,
            };
            drop(state);
            this.queue.taken.notify_waiters();
            this.call
                .metrics()
                .count_outcomes(response.acks.iter().map(|ack| ack.error_code));
            return Poll::Ready(Some(Ok(response)));
        }
        if !state.outstanding.is_empty() || state.end.is_none() {
            return Poll::Pending;
        }
        match state.end.replace(Ok(())) {
            Some(Err(status)) => Poll::Ready(Some(Err(status))),
            _ => Poll::Ready(None),
        }
    }
}

impl Drop for AckStream {
    fn drop(&mut self) {
        {
            let mut state = self.queue.state.lock();
            state.abandoned = true;
            drop(state.take());
            state.outstanding = HashMap::new();
        }
        self.queue.taken.notify_waiters();
    }
}

/// Starts the task that reads, and returns the stream of its answers.
pub(crate) fn start(
    services: &Services,
    call: Call,
    inbound: Inbound<ProduceStreamRequest>,
) -> AckStream {
    let queue = Arc::new(AckQueue::default());
    let call = Arc::new(call);
    let intake = Intake {
        services: services.clone(),
        call: Arc::clone(&call),
        queue: Arc::clone(&queue),
        window: Arc::new(Semaphore::new(services.node.config.produce_window_bytes)),
        decompressor: Decompressor::new(),
        limit: produce::time_limit(0),
        transactional_id: None,
        admitting: FuturesOrdered::new(),
    };
    tokio::spawn(intake.run(inbound));
    AckStream {
        queue,
        call,
        yielded: false,
    }
}

/// Gives up late batches, a quarter of their time late at most; returns once nothing more will come.
async fn expire_late(queue: &AckQueue, limit: Duration) {
    let step = (limit / 4).max(Duration::from_millis(10));
    while !queue.is_settled() {
        tokio::time::sleep(step).await;
        queue.expire(limit);
    }
}

/// The reading side of one stream.
struct Intake {
    services: Services,
    call: Arc<Call>,
    queue: Arc<AckQueue>,
    window: Arc<Semaphore>,
    decompressor: Decompressor,
    /// How long a batch may wait for its acknowledgement.
    limit: Duration,
    /// Whose transactional batches come on this stream.
    transactional_id: Option<Arc<str>>,
    /// Batches whose transaction is asked, and those behind them, in the order read.
    admitting: FuturesOrdered<BoxFuture<'static, Admitted>>,
}

/// A batch whose transaction, if it is of one, has answered.
struct Admitted {
    taken: Taken,
    admission: Result<Option<Admission>, Refusal>,
}

/// A batch that holds its share of the stream's window.
struct Taken {
    correlation_id: u64,
    checked: CheckedBatch,
    window: OwnedSemaphorePermit,
    acks: Acks,
}

impl Intake {
    async fn run(self, inbound: Inbound<ProduceStreamRequest>) {
        let stopping = self.services.node.stopping.clone();
        let queue = Arc::clone(&self.queue);
        let limit = self.read_to_end(inbound).await;
        // What is still on its way may be late too.
        tokio::select! {
            () = expire_late(&queue, limit) => {}
            () = queue.abandoned() => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Reads as long as there is anything to read and anybody to answer, and lets go of all that
    /// reading needs; returns how long what is on its way may take.
    async fn read_to_end(mut self, mut inbound: Inbound<ProduceStreamRequest>) -> Duration {
        let stopping = self.services.node.stopping.clone();
        let queue = Arc::clone(&self.queue);
        let end = tokio::select! {
            end = self.read(&mut inbound) => end,
            () = queue.abandoned() => Ok(()),
            () = stopping.cancelled() => Err(Status::unavailable("the node is stopping; connect again")),
        };
        queue.update(|state| state.end = Some(end));
        self.limit
    }

    async fn read(&mut self, inbound: &mut Inbound<ProduceStreamRequest>) -> Result<(), Status> {
        let Some(first) = inbound.message().await? else {
            return Ok(());
        };
        let Some(Message::Open(open)) = first.message else {
            return Err(Status::invalid_argument(
                "the first message of a produce stream must be open",
            ));
        };
        self.limit = produce::time_limit(open.timeout_ms);
        let acks = self.open(open)?;
        let (queue, limit) = (Arc::clone(&self.queue), self.limit);
        tokio::select! {
            end = self.take_all(inbound, acks) => end,
            () = expire_late(&queue, limit) => Ok(()),
        }
    }

    /// Reads until the client has no more.
    async fn take_all(
        &mut self,
        inbound: &mut Inbound<ProduceStreamRequest>,
        acks: Acks,
    ) -> Result<(), Status> {
        while let Some(request) = self.next(inbound).await? {
            match request.message {
                Some(Message::Batch(batch)) => self.take(batch, acks).await?,
                Some(Message::Open(_)) => {
                    return Err(Status::invalid_argument("a produce stream is opened once"));
                }
                None => {
                    return Err(Status::invalid_argument(
                        "a message holds neither open nor batch",
                    ));
                }
            }
            // What has arrived is read without waiting: others on this thread get their turn here.
            tokio::task::consume_budget().await;
            self.queue.room().await;
        }
        while let Some(admitted) = self.admitting.next().await {
            enqueue(&self.queue, admitted).await;
        }
        Ok(())
    }

    /// The next message; queues what gets its leave meanwhile.
    async fn next(
        &mut self,
        inbound: &mut Inbound<ProduceStreamRequest>,
    ) -> Result<Option<ProduceStreamRequest>, Status> {
        loop {
            let may_read = self.admitting.len() < ADMITTING_MAX;
            tokio::select! {
                biased;
                Some(admitted) = self.admitting.next(), if !self.admitting.is_empty() => {
                    enqueue(&self.queue, admitted).await;
                }
                message = inbound.message(), if may_read => return message,
            }
        }
    }

    fn open(&mut self, open: ProduceStreamOpen) -> Result<Acks, Status> {
        let acks = acks(open.acks)
            .ok_or_else(|| Status::invalid_argument(format!("acks {} is not known", open.acks)))?;
        let id = open.transactional_id;
        self.transactional_id = (!id.is_empty()).then(|| id.into());
        let node = &self.services.node;
        let limits = ProduceStreamLimits {
            window_bytes: node.config.produce_window_bytes as i64,
            batch_bytes_max: node.batch_bytes_max() as i32,
        };
        self.queue.update(|state| state.limits = Some(limits));
        Ok(acks)
    }

    async fn take(&mut self, message: ProduceStreamBatch, acks: Acks) -> Result<(), Status> {
        let ProduceStreamBatch {
            correlation_id,
            topic,
            partition,
            batch,
        } = message;
        let size = batch.len();
        let place = (topic.as_str(), partition);
        let checked = produce::check(
            &self.services.node,
            &self.call,
            place,
            batch,
            acks,
            &mut self.decompressor,
        );
        self.decompressor.trim();
        let costly = match &checked {
            Ok(checked) => checked.batch.validated.meta.codec != Codec::None,
            Err(_) => true, // it may have been decompressed before it was refused
        };
        match checked {
            Err(refused) => self.queue.acknowledge_at_once(correlation_id, Err(refused)),
            Ok(checked) => {
                let Some(window) = self.window_share(size).await else {
                    self.queue
                        .acknowledge_at_once(correlation_id, Err(stopping()));
                    return Ok(());
                };
                if acks == Acks::None {
                    self.queue
                        .acknowledge_at_once(correlation_id, Ok(Appended::UNKNOWN));
                } else if !self.queue.expect(correlation_id) {
                    let text = format!("correlation id {correlation_id} is not acknowledged yet");
                    return Err(Status::invalid_argument(text));
                }
                let taken = Taken {
                    correlation_id,
                    checked,
                    window,
                    acks,
                };
                self.admit(taken).await;
            }
        }
        self.pause(size).await;
        if costly {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Queues a batch, or has its transaction asked first.
    async fn admit(&mut self, taken: Taken) {
        let is_plain = taken.checked.transaction().is_none();
        if is_plain && self.admitting.is_empty() {
            let admission = Ok(None);
            return enqueue(&self.queue, Admitted { taken, admission }).await;
        }
        let (services, call) = (self.services.clone(), Arc::clone(&self.call));
        let id = self.transactional_id.clone();
        self.admitting.push_back(Box::pin(async move {
            let admission = services.admit(&call, &taken.checked, id.as_deref()).await;
            Admitted { taken, admission }
        }));
    }

    /// The batch's share of the window; waits for it, and for those that hold it and wait for leave.
    async fn window_share(&mut self, size: usize) -> Option<OwnedSemaphorePermit> {
        let share = size.min(self.services.node.config.produce_window_bytes) as u32;
        loop {
            if let Ok(window) = Arc::clone(&self.window).try_acquire_many_owned(share) {
                return Some(window);
            }
            let Some(admitted) = self.admitting.next().await else {
                break;
            };
            enqueue(&self.queue, admitted).await;
        }
        let window = Arc::clone(&self.window).acquire_many_owned(share);
        window.await.ok()
    }

    /// Makes a quota felt: the next message is read later.
    async fn pause(&mut self, size: usize) {
        let pause = self.call.charge(Quota::Produce, size);
        if !pause.is_zero() {
            self.queue.update(|state| state.throttle = pause);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Queues a batch that has its leave, once there is room in its directory.
async fn enqueue(queue: &Arc<AckQueue>, admitted: Admitted) {
    let Taken {
        correlation_id,
        checked,
        window,
        acks,
    } = admitted.taken;
    let admission = match admitted.admission {
        Ok(admission) => admission,
        Err(refusal) => return queue.settle(correlation_id, Err(refusal.into())),
    };
    // Not before: the coordinator's own records need room too.
    let size = checked.batch.bytes.len();
    let Some(room) = checked.partition.permit(size).await else {
        return queue.settle(correlation_id, Err(stopping()));
    };
    let reply = if acks == Acks::None {
        Reply::Nobody
    } else {
        let queue: Arc<dyn Acknowledge> = Arc::clone(queue) as _;
        Reply::Numbered(queue, correlation_id)
    };
    let permits = Permits::new(Some(room), Some(window));
    append(checked, admission, acks, reply, permits);
}

fn stopping() -> RefusedBatch {
    Refusal::new(ErrorCode::NotLeaderOrFollower, "the node is stopping").into()
}
