//! What a store of read models promises.
//!
//! One transaction holds the rows, and for each partition the position after them and the epoch of
//! its owner. A store therefore equals the fold of its sources up to its positions at any moment,
//! whatever was killed when; on start its position wins over the group's offset.
//!
//! **Fencing.** Before an instance applies records of a partition it *claims* it with its member
//! epoch of the consumer group. The group gives a partition to another member only in a higher
//! epoch, so an instance that was frozen, lost its partitions and wakes up finds a higher epoch in
//! the store and can write nothing more.

use std::fmt;
use std::sync::Arc;

use conveyor_record::Offset;
use futures::future::BoxFuture;

use crate::projection::Declaration;
use crate::record::TopicPartition;
use crate::rows::{Change, Rows};
use crate::table::{Row, RowKey, Table};

/// The member epoch with which an instance claimed a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerEpoch(pub i64);

impl fmt::Display for OwnerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a projection's rows have come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first offset that is not in the rows.
    pub next_offset: Offset,
    /// Who may write.
    pub owner_epoch: OwnerEpoch,
}

/// One step of a position, as part of a transaction. The store refuses it unless it stands at
/// `from` and the owner's epoch is still `owner_epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where the store must stand before; `None`: nothing of this partition is in it yet.
    pub from: Option<Offset>,
    /// Where it stands afterwards.
    pub to: Offset,
    /// The epoch of the claim.
    pub owner_epoch: OwnerEpoch,
}

/// What the fold of a batch came to.
#[derive(Debug)]
pub enum Outcome {
    /// Write these rows, and the positions of the [`Unit`].
    Commit(Vec<Change>),
    /// Write nothing.
    Abort,
}

/// The fold of a batch. It runs inside the transaction, is pure, quick, and may run on the store's
/// own thread. A store whose transaction lost a race against another instance begins it again with
/// fresh rows: only the last run counts.
pub type FoldRows = Box<dyn FnMut(Rows) -> Outcome + Send + Sync>;

/// One transaction: check the positions, load the rows, fold, write rows and positions.
///
/// Instances that own different partitions may touch the same rows. What they do comes to the same
/// as one transaction after the other: a row that a fold has seen, or has seen to be absent, is still
/// so when the transaction is written.
pub struct Unit {
    /// Whose rows.
    pub declaration: Arc<Declaration>,
    /// The partitions that move on; never empty.
    pub advances: Vec<Advance>,
    /// The rows to load, without repetition.
    pub keys: Vec<RowKey>,
    /// What to do with them.
    pub fold: FoldRows,
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("projection", &self.declaration.stored_name())
            .field("advances", &self.advances)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// A store of read models.
pub trait Store: Send + Sync + 'static {
    /// What it is and where, for people: `sqlite /var/lib/conveyor/read.db`.
    fn describe(&self) -> String;

    /// Creates the projection's tables if they are missing; refuses tables of another version or
    /// shape.
    fn prepare<'a>(&'a self, declaration: &'a Declaration)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes this instance the owner of some partitions and returns where the store stands in each
    /// (no entry: nothing of it is in the store yet). Refused with [`StoreError::Fenced`] when a
    /// higher epoch owns one of them, unless `take_over`.
    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>>;

    /// Does one transaction; returns whether it wrote.
    fn transact(&self, unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Where the projection stands, in partition order; nowhere, in a store where it was never
    /// prepared.
    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>>;

    /// All rows of one of the projection's tables, in key order: to compare and to copy, not to
    /// serve queries from. The whole table is held in memory.
    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>>;
}

/// Why a store did not do what was asked. What was asked has then not happened, in no part.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or is busy. Nothing is wrong with the records: wait, try again.
    #[error("store {store} is not available: {reason}")]
    Unavailable {
        /// Which store.
        store: String,
        /// What it said.
        reason: String,
    },
    /// Another instance owns the partition.
    #[error(
        "{projection} no longer owns {topic_partition}: the store knows owner epoch {stored}, this \
         instance has {offered}; if the consumer group was deleted and made anew, stop all \
         instances and start one with --take-over"
    )]
    Fenced {
        /// Whose partition.
        projection: String,
        /// Which.
        topic_partition: TopicPartition,
        /// The owner's epoch.
        stored: OwnerEpoch,
        /// Ours.
        offered: OwnerEpoch,
    },
    /// The store does not stand where the batch begins: it would be applied twice, or with a gap.
    #[error(
        "{projection} stands at {found:?} of {topic_partition} and not at {expected:?}: the batch \
         does not follow on"
    )]
    NotAtPosition {
        /// Whose position.
        projection: String,
        /// Which partition.
        topic_partition: TopicPartition,
        /// Where the store stands.
        found: Option<Offset>,
        /// Where the batch begins.
        expected: Option<Offset>,
    },
    /// The tables are not what the projection declares; the reason names the mend.
    #[error("store {store} does not fit projection {projection}: {reason}")]
    Schema {
        /// Which store.
        store: String,
        /// Which projection.
        projection: String,
        /// What differs and what to do.
        reason: String,
    },
    /// The store refused what should have been right; trying again would not help.
    #[error("store {store} failed: {reason}")]
    Failed {
        /// Which store.
        store: String,
        /// What it said.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the caller is not, or no longer, the owner it takes itself for: it must claim anew.
    pub const fn is_claim_lost(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::NotAtPosition { .. })
    }
}
