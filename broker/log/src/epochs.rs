//! Which leader epoch began at which offset: the history that decides where replicas diverge.
//!
//! Kept in memory and in `leader-epoch-checkpoint`, which is written, durably, before the first
//! batch of a new epoch is. Invariant: epochs and start offsets both grow from entry to entry.

use std::path::{Path, PathBuf};

use conveyor_record::{LeaderEpoch, Offset};

use crate::checkpoint::{encode_epochs, invalid, parse_epochs, read_text};
use crate::disk::{Disk, write_atomically};
use crate::error::{DiskError, OpenError};

pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// The epochs of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Reads the checkpoint; no entries if it is not there.
    pub(crate) fn read(disk: &dyn Disk, folder: &Path) -> Result<Self, OpenError> {
        let path = file(folder);
        let Some(text) = read_text(disk, &path)? else {
            return Ok(Self::default());
        };
        let entries = parse_epochs(&text).map_err(|what| invalid(&path, what))?;
        let ascending = entries
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        if !ascending {
            return Err(invalid(&path, "epochs are not ascending".to_owned()));
        }
        Ok(Self { entries })
    }

    pub(crate) fn write(&self, disk: &dyn Disk, folder: &Path) -> Result<(), DiskError> {
        let path = file(folder);
        write_atomically(disk, &path, &encode_epochs(&self.entries))
            .map_err(|error| DiskError::new("write", &path, error))
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that `epoch` begins at `start`, if it is newer than all. Returns whether it was noted.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if !epoch.is_some() || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // An epoch without a batch of its own is replaced by the one that starts at the same offset.
        while self
            .entries
            .last()
            .is_some_and(|(_, last_start)| *last_start >= start)
        {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// Forgets what begins at or beyond `end`. Returns whether anything did.
    pub(crate) fn truncate_to(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        self.entries.len() != before
    }

    /// Forgets epochs that ended at or below `start`; the one that holds it begins there now.
    pub(crate) fn truncate_before(&mut self, start: Offset) -> bool {
        let first = self.entries.partition_point(|(_, entry)| *entry <= start);
        if first == 0 {
            return false;
        }
        let changed = first > 1 || self.entries[0].1 != start;
        self.entries.drain(..first - 1);
        self.entries[0].1 = start;
        changed
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The largest epoch that is not greater than `epoch`, and where it ends. `log_end` is the end of
    /// the latest. `None` if nothing is known of it.
    pub(crate) fn end_offset(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if self.latest().is_none_or(|latest| epoch > latest) {
            return None;
        }
        let after = self.entries.partition_point(|(entry, _)| *entry <= epoch);
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        let found = if after == 0 {
            epoch
        } else {
            self.entries[after - 1].0
        };
        Some((found, end))
    }

    /// Epoch of the batch at `offset`, if it is known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|index| self.entries[index].0)
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs {
            entries: entries
                .iter()
                .map(|(e, o)| (LeaderEpoch(*e), Offset(*o)))
                .collect(),
        }
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(1, 0), (3, 10), (4, 20)]);
        let end = |epoch| epochs.end_offset(LeaderEpoch(epoch), Offset(33));
        assert_eq!(end(0), Some((LeaderEpoch(0), Offset(0))));
        assert_eq!(end(1), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(end(2), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(end(4), Some((LeaderEpoch(4), Offset(33))));
        assert_eq!(end(5), None);
        assert_eq!(
            LeaderEpochs::default().end_offset(LeaderEpoch(0), Offset(0)),
            None
        );
    }

    #[test]
    fn older_epochs_are_not_assigned_and_empty_ones_are_replaced() {
        let mut log = epochs(&[(1, 0)]);
        assert!(!log.assign(LeaderEpoch(1), Offset(5)));
        assert!(!log.assign(LeaderEpoch(-1), Offset(5)));
        assert!(log.assign(LeaderEpoch(2), Offset(5)));
        assert!(log.assign(LeaderEpoch(3), Offset(5)));
        assert_eq!(log, epochs(&[(1, 0), (3, 5)]));
    }

    #[test]
    fn truncation_works_from_both_ends() {
        let mut log = epochs(&[(1, 0), (3, 10), (4, 20)]);
        assert!(log.truncate_to(Offset(20)));
        assert!(!log.truncate_to(Offset(20)));
        assert_eq!(log, epochs(&[(1, 0), (3, 10)]));
        assert!(log.truncate_before(Offset(15)));
        assert_eq!(log, epochs(&[(3, 15)]));
        assert!(!log.truncate_before(Offset(15)));
        assert_eq!(log.epoch_at(Offset(14)), None);
        assert_eq!(log.epoch_at(Offset(15)), Some(LeaderEpoch(3)));
    }
}
