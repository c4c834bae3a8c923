//! What a shard hosts: a pure coordinator, told in a trait, and what it may decide.
//!
//! A coordinator keeps its state in the records of one partition. It decides on requests and timers
//! without changing that state; the records that it returns change it, by [`Coordinator::replay`],
//! live as well as at load. What it keeps besides (timers, members that wait) begins anew with each
//! load. [`super::shard`] gives it a log, a clock, a view of the cluster and callers.

use std::fmt;

use conveyor_record::{ControlRecord, ProducerEpoch, ProducerId};

use crate::metadata_host::MetadataHost;

/// A producer whose transaction a batch belongs to or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransactionalProducer {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// The number under which an answer waits. Numbers are never used twice while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// A pure state machine over the records of one partition.
pub(crate) trait Coordinator: fmt::Debug + Send + Sized + 'static {
    /// One record of its log.
    type Record: fmt::Debug + Send + 'static;
    /// Its settings.
    type Config: Clone + Send + 'static;
    /// What it has to know of the cluster.
    type View: Send + 'static;
    /// An answer that is given later than its request was decided.
    type Reply: Send + 'static;
    /// What a timer found.
    type Expired: Send + 'static;
    /// Why a stored record makes no sense.
    type DecodeError: std::error::Error + Send + 'static;

    /// What it keeps, for messages: "group state".
    const KEEPS: &'static str;

    /// A coordinator without state.
    fn new(config: &Self::Config) -> Self;

    /// Key and value of a record; no value is a tombstone.
    fn encode(record: &Self::Record) -> (Vec<u8>, Option<Vec<u8>>);

    /// Reads a stored record; `None` is a kind to be passed over.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self::Record>, Self::DecodeError>;

    /// Applies a record; `producer` is set when it belongs to a transaction.
    fn replay(
        &mut self,
        record: &Self::Record,
        timestamp_ms: i64,
        producer: Option<TransactionalProducer>,
    );

    /// Applies a marker, which ends a producer's transaction in this partition. Only partitions that
    /// transactions write to ever see one.
    fn replay_marker(&mut self, producer: TransactionalProducer, marker: ControlRecord) {
        let _ = (producer, marker);
    }

    /// Starts the timers, when everything has been replayed. What has to be taken up again after a
    /// restart is best done by a timer that is due at once.
    fn start(&mut self, now_ms: i64);

    /// When [`Self::tick`] has something to do next.
    fn next_deadline(&self) -> Option<i64>;

    /// Handles one timer that is due; `None` when none is. What it found is given to the function
    /// the shard was started with, once the records are durable.
    fn tick(&mut self, now_ms: i64, view: &Self::View) -> Option<Decision<Self, Self::Expired>>;

    /// The cluster now.
    fn view(metadata: &MetadataHost) -> Self::View;

    /// The cluster has changed; `before` is `None` after a load, when anything may have.
    fn follow(&mut self, before: Option<&Self::View>, now: &Self::View) -> Vec<Self::Record> {
        let _ = (before, now);
        Vec::new()
    }
}

/// What a decision writes: one batch, or nothing.
#[derive(Debug)]
pub(crate) enum Write<R> {
    /// Records of the coordinator itself; nothing is written if there are none.
    Records(Vec<R>),
    /// Records that count once the producer's transaction is committed.
    Transactional {
        producer: TransactionalProducer,
        records: Vec<R>,
    },
    /// The end of the producer's transaction in this partition.
    Marker {
        producer: TransactionalProducer,
        marker: ControlRecord,
    },
}

impl<R> Write<R> {
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Records(records) | Self::Transactional { records, .. } => records.is_empty(),
            Self::Marker { .. } => false,
        }
    }
}

/// What was decided: what to write and replay, and who is told what once that is durable.
pub(crate) struct Decision<C: Coordinator, R> {
    /// Replayed at once, and written as one batch.
    pub(super) write: Write<C::Record>,
    /// Answers to requests that waited, this one perhaps included.
    pub(super) replies: Vec<(Ticket, C::Reply)>,
    /// The answer to this request.
    pub(super) response: R,
}

impl<C: Coordinator, R> Decision<C, R> {
    /// Writes records, and answers `response` when they are durable.
    pub(crate) fn new(records: Vec<C::Record>, response: R) -> Self {
        Self::write(Write::Records(records), response)
    }

    /// Writes nothing; the answer still waits for what was written before.
    pub(crate) fn nothing(response: R) -> Self {
        Self::new(Vec::new(), response)
    }

    /// Writes any batch.
    pub(crate) fn write(write: Write<C::Record>, response: R) -> Self {
        Self {
            write,
            replies: Vec::new(),
            response,
        }
    }

    /// Also answers requests that wait.
    pub(crate) fn with_replies(mut self, replies: Vec<(Ticket, C::Reply)>) -> Self {
        self.replies = replies;
        self
    }
}
