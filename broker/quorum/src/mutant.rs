//! Deliberate mistakes, each one that somebody could make, which the simulation must find.
//!
//! Without the feature `mutants`, [`active`] is `false` for all and the compiler removes them. A
//! mutant is chosen per thread, so that simulations with and without one can run side by side.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Term and vote are written but not synced before the messages that depend on them leave.
    VoteNotSynced,
    /// Entries are written but not synced before they are acknowledged.
    EntriesNotSynced,
    /// A failed sync is taken for a good one.
    SyncErrorIgnored,
    /// A snapshot's bytes are not synced before the log behind it is cut.
    SnapshotNotSynced,
    /// The folder is not synced after a new log file or snapshot was named.
    FolderNotSynced,
    /// A node whose disk was wiped goes on under its former voter id.
    WipedVoterKeepsId,
    /// Messages that must wait for the disk leave before.
    MessagesBeforeSync,
    /// Linearizable reads are answered by a leader that has not asked anybody.
    ReadWithoutQuorum,
    /// A CRC error below the synced position is taken for a torn tail and cut.
    DamageCut,
    /// What another leader's entries replace is overwritten while the superblock still vouches for it.
    OverwrittenWhileVouchedFor,
    /// The superblock has one copy a generation instead of two.
    OneCopy,
    /// A state found in the page cache at start is not written again before it is relied on.
    FoundStateTrusted,
    /// That a change of the members is committed is not made durable before it takes effect.
    ChangeForgotten,
    /// A learner is promoted before it has what is committed.
    PromotedBehind,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::VoteNotSynced,
        Self::EntriesNotSynced,
        Self::SyncErrorIgnored,
        Self::SnapshotNotSynced,
        Self::FolderNotSynced,
        Self::WipedVoterKeepsId,
        Self::MessagesBeforeSync,
        Self::ReadWithoutQuorum,
        Self::DamageCut,
        Self::OverwrittenWhileVouchedFor,
        Self::OneCopy,
        Self::FoundStateTrusted,
        Self::ChangeForgotten,
        Self::PromotedBehind,
    ];
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Chooses the mistake that this thread makes from now on.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Whether this thread makes the mistake.
    pub fn active(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{active, choose};

/// Whether the mistake is made: never without the feature.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn active(_: Mutant) -> bool {
    false
}
