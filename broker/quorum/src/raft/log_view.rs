//! The log as raft-rs reads it: what the store has synced, kept in memory.
//!
//! raft-rs cannot go on when a read of its log fails, so its reads do not touch the disk: the entries
//! since the last snapshot stay in memory, which the node bounds by asking for snapshots and by
//! refusing proposals when they do not come. The bytes are shared with messages and with what is
//! handed out.

use std::collections::VecDeque;

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::convert::{conf_state, to_raft_entry, to_raft_snapshot};
use crate::entry::{Entry, HardState, LogPosition, Snapshot};
use crate::membership::Membership;

/// Memory that one entry takes beside its data, about.
const ENTRY_OVERHEAD_BYTES: u64 = 96;

#[derive(Debug)]
pub(super) struct LogView {
    /// State for the start only; afterwards raft-rs keeps its own.
    hard_state: HardState,
    /// The members and the place of the newest snapshot; `None` in a learner that has not got its
    /// first one.
    snapshot: Option<(LogPosition, Membership)>,
    /// The same snapshot in raft-rs's form, made once, since each send asks for it.
    to_send: eraftpb::Snapshot,
    /// The entry before the first one that is here.
    base: LogPosition,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl LogView {
    pub(super) fn new(
        hard_state: HardState,
        snapshot: Option<Snapshot>,
        base: LogPosition,
        entries: Vec<Entry>,
    ) -> Self {
        let bytes = entries.iter().map(size).sum();
        let mut view = Self {
            hard_state,
            snapshot: None,
            to_send: eraftpb::Snapshot::default(),
            base,
            entries: entries.into(),
            bytes,
        };
        if let Some(snapshot) = snapshot {
            view.take(snapshot);
        }
        view
    }

    fn take(&mut self, snapshot: Snapshot) {
        self.to_send = to_raft_snapshot(&snapshot);
        self.snapshot = Some((snapshot.last, snapshot.membership));
    }

    pub(super) fn membership(&self) -> Membership {
        self.snapshot
            .as_ref()
            .map(|(_, membership)| membership.clone())
            .unwrap_or_default()
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |(last, _)| last.index)
    }

    fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// Memory of the entries that are here.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn replace(&mut self, snapshot: Snapshot) {
        self.base = snapshot.last;
        self.entries.clear();
        self.bytes = 0;
        self.take(snapshot);
    }

    /// Appends entries that the store has written, in place of those they replace.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else {
            return;
        };
        let keep = first.index.saturating_sub(self.base.index + 1) as usize;
        for entry in self.entries.drain(keep.min(self.entries.len())..) {
            self.bytes -= size(&entry);
        }
        self.bytes += entries.iter().map(size).sum::<u64>();
        self.entries.extend(entries);
    }

    /// Takes a newer snapshot and forgets the entries up to `through`.
    pub(super) fn compact(&mut self, snapshot: Snapshot, through: u64) {
        self.take(snapshot);
        while let Some(entry) = self.entries.front() {
            if entry.index > through {
                break;
            }
            self.base = LogPosition {
                term: entry.term,
                index: entry.index,
            };
            self.bytes -= size(entry);
            self.entries.pop_front();
        }
    }

    /// See [`crate::consensus::Consensus::log_behind`].
    pub(super) fn behind(&self, index: u64) -> (LogPosition, Vec<Entry>) {
        let skip = index.saturating_sub(self.base.index) as usize;
        let skip = skip.min(self.entries.len());
        let before = skip
            .checked_sub(1)
            .and_then(|place| self.entries.get(place));
        let base = before.map_or(self.base, |entry| LogPosition {
            term: entry.term,
            index: entry.index,
        });
        (base, self.entries.range(skip..).cloned().collect())
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = index.checked_sub(self.base.index + 1)?;
        self.entries.get(place as usize).map(|entry| entry.term)
    }
}

fn size(entry: &Entry) -> u64 {
    entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state = eraftpb::HardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit,
        };
        Ok(RaftState::new(hard_state, conf_state(&self.membership())))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.base.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 || low > high {
            return Err(StorageError::Unavailable.into());
        }
        let mut left = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::new();
        let first = (low - self.base.index - 1) as usize;
        for entry in self.entries.range(first..first + (high - low) as usize) {
            // At least one, however large.
            if !found.is_empty() && size(entry) > left {
                break;
            }
            left = left.saturating_sub(size(entry));
            found.push(to_raft_entry(entry));
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.base.index {
            return Err(StorageError::Compacted.into());
        }
        Ok(self.term_of(index).ok_or(StorageError::Unavailable)?)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot_index() == 0 || self.snapshot_index() < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.to_send.clone())
    }
}
