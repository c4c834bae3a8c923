//! What the log consists of, and what stands in for its beginning: entries and snapshots.

use bytes::Bytes;

use crate::membership::Membership;

/// Longest data of one entry in bytes. A proposal above it is refused, a stored or received entry
/// above it is taken for damage.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Longest state of a snapshot in bytes.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// What an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Bytes of the application; none for the first entry of a leader's term.
    Data,
    /// A change of the members.
    Membership,
}

/// One entry of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position in the log; the first is 1.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// What it carries.
    pub kind: EntryKind,
    /// The bytes that it carries.
    pub data: Bytes,
}

/// A place in the log, with the term that makes it certain which entry is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The term of the entry.
    pub term: u64,
    /// The index of the entry.
    pub index: u64,
}

/// The state up to and including one entry, in place of the entries up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry whose effect it includes.
    pub last: LogPosition,
    /// The members at that entry.
    pub membership: Membership,
    /// The application's state; empty before anything was applied.
    pub data: Bytes,
}

/// What a node must remember before it says anything that depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// The voter id it has voted for in that term, 0 for none.
    pub vote: u64,
    /// Up to where the log was known to be committed. A hint: it may lag behind after a crash.
    pub commit: u64,
}
