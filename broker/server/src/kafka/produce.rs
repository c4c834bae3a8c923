//! `Produce`: appends batches; answered when they are as durable as was asked for.
//!
//! Handling ends when all batches of the request are queued, in order; what comes back then is a
//! [`PendingProduce`], so that a client may have many requests under way on one connection. Writers
//! and flushers fill it in; the connection is woken once, when the last batch is answered. A batch that
//! is not durable in time is answered with `REQUEST_TIMED_OUT`.
//!
//! With `acks=0` nothing is answered; a batch that is refused, now or when it is written, closes the
//! connection, which is all that such a producer can notice.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use conveyor_kafka::{ApiKey, Gather, Text};
use conveyor_record::{BatchHeader, Codec, Decompressor};
use futures::future::join_all;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::apis::encode;
use super::{Answer, KafkaCall, KafkaService, RequestError};
use crate::node::{Node, Refusal};
use crate::partition::{Acknowledge, Acks, Admission, AppendResult, Appended, Permits, Reply};
use crate::records::produce::{CheckedBatch, RefusedBatch, check, time_limit, timed_out};
use crate::request::Quota;
use crate::transaction::{Asked, TransactionHost};

/// The first version whose producers know zstd.
const ZSTD_SINCE: i16 = 7;
/// The first version whose producers know `TRANSACTION_ABORTABLE`.
const ABORTABLE_SINCE: i16 = 11;
/// The first version by which partitions join a transaction with their first record (KIP-890).
const SECOND_PROTOCOL_SINCE: i16 = 12;
/// The first version that names topics by id.
const IDS_SINCE: i16 = 13;

/// Checks and queues the batches of a request.
pub(super) async fn produce(
    service: &Arc<KafkaService>,
    call: KafkaCall,
    correlation_id: i32,
    request: ProduceRequest,
) -> Result<Answer, RequestError> {
    let acks = acks(request.acks);
    let deadline = Instant::now() + time_limit(request.timeout_ms);
    let count = request
        .topic_data
        .iter()
        .map(|topic| topic.partition_data.len())
        .sum();
    let mut intake = Intake {
        node: &service.node,
        transactions: &service.transactions,
        transactional_id: request.transactional_id,
        call: &call,
        acks,
        deadline,
        answers: Answers::new(count),
        decompressor: Decompressor::new(),
        next: 0,
        bytes: 0,
    };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut taken = Vec::with_capacity(count);
    for topic in request.topic_data {
        let place = topics.len();
        topics.push(intake.topic(topic, place, &mut taken));
    }
    if let Some(acks) = acks {
        intake.queue_all(taken, acks, &mut topics).await;
    }
    let (answers, bytes) = (intake.answers, intake.bytes);
    let mute = call.charge(Quota::Produce, bytes);
    let is_answered = acks != Some(Acks::None);
    if !is_answered {
        check_unacknowledged(&call, &topics)?;
    }
    let pending = PendingProduce {
        throttle_time_ms: mute.as_millis() as i32,
        call,
        correlation_id,
        topics,
        answers,
        is_answered,
        deadline,
        expired: false,
    };
    Ok(Answer::Produce { pending, mute })
}

/// The acknowledgement level of a request; `None` for a number that stands for none.
fn acks(number: i16) -> Option<Acks> {
    Some(match number {
        -1 => Acks::All,
        0 => Acks::None,
        1 => Acks::Leader,
        _ => return None,
    })
}

/// Nobody is told that all is well; the first refusal is why the connection is closed.
fn check_unacknowledged(call: &KafkaCall, topics: &[QueuedTopic]) -> Result<(), RequestError> {
    let first = topics
        .iter()
        .find_map(|topic| topic.refused.values().next());
    first.map_or(Ok(()), |refused| {
        Err(unacknowledged(call, refused.refusal.clone()))
    })
}

fn unacknowledged(call: &KafkaCall, refusal: Refusal) -> RequestError {
    call.outcome(refusal.code);
    RequestError::Unacknowledged {
        reason: refusal.message,
    }
}

/// Takes the batches of one request.
struct Intake<'a> {
    node: &'a Node,
    transactions: &'a TransactionHost,
    transactional_id: Option<Text>,
    call: &'a KafkaCall,
    acks: Option<Acks>,
    deadline: Instant,
    answers: Arc<Answers>,
    decompressor: Decompressor,
    /// The number of the next batch.
    next: usize,
    bytes: usize,
}

/// A batch that may be queued once its transaction agrees.
struct Taken {
    /// The place of its topic in the request.
    topic: usize,
    number: usize,
    checked: CheckedBatch,
}

impl Intake<'_> {
    /// Checks the batches of a topic; `taken` gets those that may be queued.
    fn topic(
        &mut self,
        topic: TopicProduceData,
        place: usize,
        taken: &mut Vec<Taken>,
    ) -> QueuedTopic {
        let name = self.name(&topic);
        let mut queued = QueuedTopic {
            name: topic.name,
            id: topic.topic_id,
            partitions: Vec::with_capacity(topic.partition_data.len()),
            first: self.next,
            refused: BTreeMap::new(),
        };
        for wanted in topic.partition_data {
            let number = self.next;
            self.next += 1;
            queued.partitions.push(wanted.index);
            let checked = match &name {
                Ok(name) => self.partition(name, wanted),
                Err(refusal) => Err(refusal.clone().into()),
            };
            match checked {
                Ok(checked) => taken.push(Taken {
                    topic: place,
                    number,
                    checked,
                }),
                Err(refused) => self.refuse(&mut queued, number, refused),
            }
        }
        queued
    }

    fn refuse(&self, topic: &mut QueuedTopic, number: usize, refused: RefusedBatch) {
        topic.refused.insert(number, refused);
        self.answers.settle(1);
    }

    /// Queues the batches in order. The transactions' leaves are asked for together, so that they
    /// share a sync.
    async fn queue_all(&self, taken: Vec<Taken>, acks: Acks, topics: &mut [QueuedTopic]) {
        let asked = taken.iter().map(|taken| self.admission(&taken.checked));
        let admissions = join_all(asked).await;
        for (taken, admission) in taken.into_iter().zip(admissions) {
            let number = taken.number;
            let queued = match admission {
                Ok(admission) => self.queue(taken.checked, admission, acks, number).await,
                Err(refusal) => Err(refusal.into()),
            };
            if let Err(refused) = queued {
                self.refuse(&mut topics[taken.topic], number, refused);
            }
        }
    }

    /// The topic's name; in versions with ids, that of the topic with this id.
    fn name(&self, topic: &TopicProduceData) -> Result<Text, Refusal> {
        if self.call.version < IDS_SINCE {
            return Ok(topic.name.clone());
        }
        let image = self.node.metadata.image();
        let found = image.topic_by_id(topic.topic_id);
        found.map(|found| Text::from(&found.name)).ok_or_else(|| {
            let message = format!("no topic has the id {}", topic.topic_id);
            Refusal::new(ErrorCode::UnknownTopicId, message)
        })
    }

    fn partition(
        &mut self,
        topic: &str,
        wanted: PartitionProduceData,
    ) -> Result<CheckedBatch, RefusedBatch> {
        let Some(acks) = self.acks else {
            let message = "acks must be -1, 0 or 1";
            return Err(Refusal::new(ErrorCode::InvalidRequiredAcks, message).into());
        };
        let bytes = one_batch(wanted.records)?;
        self.bytes += bytes.len();
        if self.call.version < ZSTD_SINCE && sent_codec(&bytes) == Some(Codec::Zstd) {
            let message = format!("zstd needs Produce version {ZSTD_SINCE}");
            return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message).into());
        }
        let place = (topic, wanted.index);
        let checked = check(
            self.node,
            self.call,
            place,
            bytes,
            acks,
            &mut self.decompressor,
        )?;
        self.decompressor.trim();
        Ok(checked)
    }

    /// Leave for a batch of a transaction.
    async fn admission(&self, checked: &CheckedBatch) -> Result<Option<Admission>, Refusal> {
        let id = self.transactional_id.as_ref().map(Text::as_str);
        let asked = match self.call.version {
            SECOND_PROTOCOL_SINCE.. => Asked::Add,
            version => Asked::Verify {
                knows_abortable: version >= ABORTABLE_SINCE,
            },
        };
        self.transactions
            .admit_batch(self.call, checked, id, asked)
            .await
    }

    async fn queue(
        &self,
        checked: CheckedBatch,
        admission: Option<Admission>,
        acks: Acks,
        number: usize,
    ) -> Result<(), RefusedBatch> {
        let CheckedBatch { partition, batch } = checked;
        let room = timeout_at(self.deadline, partition.permit(batch.bytes.len())).await;
        let Ok(room) = room else {
            return Err(timed_out(partition.name()).into());
        };
        let permits = Permits::new(room, None);
        let reply = Reply::Numbered(Arc::clone(&self.answers) as _, number as u64);
        match admission {
            Some(admission) => admission.append(batch, acks, reply, permits),
            None => partition.append(batch, acks, reply, permits),
        }
        Ok(())
    }
}

/// Refuses what is not one batch. Its length alone is looked at here.
fn one_batch(records: Option<Bytes>) -> Result<Bytes, Refusal> {
    const LENGTH: std::ops::Range<usize> = 8..12;
    let records = records.unwrap_or_default();
    let refused = |what: &str| {
        let message = format!("{what}: a partition needs exactly one batch");
        Err(Refusal::new(ErrorCode::InvalidRecord, message))
    };
    if records.is_empty() {
        return refused("no records");
    }
    let length = records
        .get(LENGTH)
        .and_then(|bytes| bytes.first_chunk::<4>());
    let length = length.map(|bytes| i32::from_be_bytes(*bytes));
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if length < records.len() - LENGTH.end => refused("bytes follow the batch"),
        _ => Ok(records),
    }
}

/// How the producer has compressed a batch, if its header says something that there is.
fn sent_codec(batch: &[u8]) -> Option<Codec> {
    BatchHeader::parse(batch).ok()?.codec().ok()
}

/// The answers of a request's batches, as they come.
#[derive(Debug)]
struct Answers {
    state: Mutex<AnswerState>,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct AnswerState {
    /// By number; `None` for those that have not come, or were never waited for.
    results: Vec<Option<AppendResult>>,
    /// How many are still to come.
    missing: usize,
}

impl Answers {
    fn new(count: usize) -> Arc<Self> {
        let state = AnswerState {
            results: vec![None; count],
            missing: count,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            waker: AtomicWaker::new(),
        })
    }

    /// So many fewer will come: their batches were refused before they were queued.
    fn settle(&self, count: usize) {
        self.state.lock().missing -= count;
    }

    fn are_complete(&self) -> bool {
        self.state.lock().missing == 0
    }
}

impl Acknowledge for Answers {
    fn acknowledge(&self, number: u64, result: AppendResult) {
        let complete = {
            let mut state = self.state.lock();
            let place = usize::try_from(number).ok();
            if let Some(place) = place.and_then(|place| state.results.get_mut(place)) {
                *place = Some(result);
            }
            state.missing -= 1;
            state.missing == 0
        };
        if complete {
            self.waker.wake();
        }
    }
}

/// A topic of the request, its batches queued or refused.
#[derive(Debug)]
struct QueuedTopic {
    name: Text,
    id: Uuid,
    /// Partition numbers in the order of the request.
    partitions: Vec<i32>,
    /// The number of the first batch; the others follow.
    first: usize,
    /// Batches that were refused at once, by number.
    refused: BTreeMap<usize, RefusedBatch>,
}

/// A request whose batches are on their way to the disk.
#[derive(Debug)]
pub(crate) struct PendingProduce {
    call: KafkaCall,
    correlation_id: i32,
    throttle_time_ms: i32,
    topics: Vec<QueuedTopic>,
    answers: Arc<Answers>,
    /// False with `acks=0`.
    is_answered: bool,
    deadline: Instant,
    expired: bool,
}

impl PendingProduce {
    /// Whether it can be answered.
    pub(crate) fn is_done(&self) -> bool {
        self.expired || self.answers.are_complete()
    }

    /// Returns once it can be answered: all its batches are, or its time is over. Cancel-safe.
    pub(crate) async fn done(&mut self) {
        let answers = &self.answers;
        let complete = poll_fn(|context| {
            answers.waker.register(context.waker());
            if answers.are_complete() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        if timeout_at(self.deadline, complete).await.is_err() {
            self.expired = true;
        }
    }

    /// The reply, if there is to be one; what has not been answered by now is not acknowledged any
    /// more.
    pub(crate) fn finish(self) -> Result<Option<Gather>, RequestError> {
        let Self {
            call,
            correlation_id,
            throttle_time_ms,
            topics,
            answers,
            is_answered,
            ..
        } = self;
        let mut results = std::mem::take(&mut answers.state.lock().results);
        if !is_answered {
            // One that is still on its way when the time is over is not lost, only slow.
            let failed = results.into_iter().flatten().find_map(Result::err);
            let Some(failure) = failed else {
                call.outcome(ErrorCode::None);
                return Ok(None);
            };
            return Err(unacknowledged(&call, failure.into()));
        }
        let topics = topics
            .into_iter()
            .map(|topic| answered(&call, topic, &mut results));
        let response = ProduceResponse {
            responses: topics.collect(),
            throttle_time_ms,
            ..ProduceResponse::default()
        };
        encode(&call, ApiKey::Produce, correlation_id, &response).map(Some)
    }
}

fn answered(
    call: &KafkaCall,
    mut topic: QueuedTopic,
    results: &mut [Option<AppendResult>],
) -> TopicProduceResponse {
    let mut partition_responses = Vec::with_capacity(topic.partitions.len());
    for (number, index) in (topic.first..).zip(topic.partitions) {
        let outcome = match topic.refused.remove(&number) {
            Some(refused) => Err(refused),
            None => match results.get_mut(number).and_then(Option::take) {
                Some(result) => result.map_err(RefusedBatch::from),
                None => Err(timed_out(&format!("{}-{index}", topic.name)).into()),
            },
        };
        partition_responses.push(partition_response(call, index, outcome));
    }
    TopicProduceResponse {
        name: topic.name,
        topic_id: topic.id,
        partition_responses,
    }
}

fn partition_response(
    call: &KafkaCall,
    index: i32,
    outcome: Result<Appended, RefusedBatch>,
) -> PartitionProduceResponse {
    match outcome {
        Ok(appended) => PartitionProduceResponse {
            index,
            error_code: call.code(ErrorCode::None),
            base_offset: appended.base_offset.value(),
            log_append_time_ms: appended.log_append_timestamp_ms,
            log_start_offset: appended.log_start_offset.value(),
            ..PartitionProduceResponse::default()
        },
        Err(RefusedBatch {
            refusal,
            record_errors,
        }) => PartitionProduceResponse {
            index,
            error_code: call.code(refusal.code),
            base_offset: -1,
            record_errors: record_errors
                .into_iter()
                .map(|error| BatchIndexAndErrorMessage {
                    batch_index: error.index,
                    batch_index_error_message: Some(error.message.into()),
                })
                .collect(),
            error_message: Some(refusal.message.into()),
            ..PartitionProduceResponse::default()
        },
    }
}
