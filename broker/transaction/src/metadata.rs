//! What is known of one transactional id: its producer, its transaction, its state.

use std::collections::BTreeSet;
use std::fmt;

use conveyor_record::{ProducerEpoch, ProducerId};

/// The last epoch that a client may get is one below this: fencing can always go one higher.
const EPOCH_MAX: i16 = i16::MAX;

/// A producer id and one of its incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// The id.
    pub id: ProducerId,
    /// The incarnation.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// A producer by its numbers.
    pub const fn new(id: i64, epoch: i16) -> Self {
        Self {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
        }
    }

    /// The same id with the epoch that follows; `None` behind the last one.
    pub fn next_epoch(&self) -> Option<Self> {
        let epoch = self.epoch.value().checked_add(1)?;
        Some(Self::new(self.id.value(), epoch))
    }

    /// Whether no client may get a higher epoch: another id has to take over.
    pub const fn is_exhausted(&self) -> bool {
        self.epoch.value() >= EPOCH_MAX - 1
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {} epoch {}", self.id, self.epoch)
    }
}

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where a transactional id stands, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionState {
    /// It has a producer and never had a transaction with this one.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The transaction is committed; its markers are being written.
    PrepareCommit,
    /// The transaction is aborted; its markers are being written.
    PrepareAbort,
    /// All markers of a commit are written.
    CompleteCommit,
    /// All markers of an abort are written.
    CompleteAbort,
    /// It is being forgotten. Kafka's records can say so; here an id is there or not.
    Dead,
    /// Its producer is being fenced. Kafka's records can say so; here fencing is one step.
    PrepareEpochFence,
}

impl TransactionState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Its number in stored records.
    pub(crate) const fn code(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
            Self::Dead => 6,
            Self::PrepareEpochFence => 7,
        }
    }

    pub(crate) fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether the transaction is decided and its markers are not all written.
    pub const fn is_completing(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether there is no transaction.
    pub const fn is_idle(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort
        )
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which protocol of transactions a client speaks (feature `transaction.version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionVersion {
    /// The producer keeps its epoch from transaction to transaction.
    #[default]
    V0,
    /// As version 0 for clients; the records may have newer fields.
    V1,
    /// Every end of a transaction raises the epoch (KIP-890), so that nothing of one transaction
    /// can reach the next.
    V2,
}

impl TransactionVersion {
    /// The feature's level.
    pub const fn level(self) -> i16 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version of a level; levels above the highest known one count as that.
    pub(crate) const fn from_level(level: i16) -> Self {
        match level {
            ..1 => Self::V0,
            1 => Self::V1,
            2.. => Self::V2,
        }
    }

    /// Whether the end of a transaction raises the epoch.
    pub const fn bumps_epoch(self) -> bool {
        matches!(self, Self::V2)
    }
}

/// All that is kept of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMetadata {
    /// The producer that may write now. While a transaction is completing: who the markers name.
    pub producer: Producer,
    /// The epoch before the last bump that a client asked for and may ask for again; -1 when that
    /// client was fenced.
    pub last_producer_epoch: ProducerEpoch,
    /// The producer id before this one; -1 for none.
    pub previous_producer_id: ProducerId,
    /// Takes over when the transaction is completed, as the epochs of the id are used up; -1 for none.
    pub next_producer_id: ProducerId,
    /// How long a transaction may be open, in ms.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: TransactionState,
    /// The partitions of the transaction, those without their marker included.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction was opened, in ms since the epoch; -1 for none.
    pub start_ms: i64,
    /// When anything of this was last changed, in ms since the epoch.
    pub last_update_ms: i64,
    /// The protocol of the client that changed it last.
    pub client_version: TransactionVersion,
}

impl TransactionMetadata {
    /// A new id with its first producer.
    pub(crate) fn new(producer_id: ProducerId, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer {
                id: producer_id,
                epoch: ProducerEpoch(0),
            },
            last_producer_epoch: ProducerEpoch::NONE,
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
            client_version: TransactionVersion::V0,
        }
    }

    /// When an open transaction is over whatever its client does.
    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        (self.state == TransactionState::Ongoing)
            .then(|| self.start_ms.saturating_add(i64::from(self.timeout_ms)))
    }

    /// The state after an open transaction was aborted by the coordinator, which takes the epoch
    /// away from the client.
    pub(crate) fn fenced(&self, now_ms: i64) -> Self {
        Self {
            producer: self.producer.next_epoch().unwrap_or(self.producer),
            last_producer_epoch: ProducerEpoch::NONE,
            state: TransactionState::PrepareAbort,
            last_update_ms: now_ms,
            ..self.clone()
        }
    }

    /// The state once all markers are written.
    pub(crate) fn completed(&self, now_ms: i64) -> Self {
        let mut next = Self {
            state: match self.state {
                TransactionState::PrepareCommit => TransactionState::CompleteCommit,
                _ => TransactionState::CompleteAbort,
            },
            partitions: BTreeSet::new(),
            last_update_ms: now_ms,
            next_producer_id: ProducerId::NONE,
            ..self.clone()
        };
        if self.next_producer_id.is_some() {
            next.previous_producer_id = self.producer.id;
            next.producer = self.producer_after();
        }
        next
    }

    /// Who writes after the transaction.
    pub(crate) fn producer_after(&self) -> Producer {
        if self.next_producer_id.is_some() {
            return Producer {
                id: self.next_producer_id,
                epoch: ProducerEpoch(0),
            };
        }
        self.producer
    }
}
