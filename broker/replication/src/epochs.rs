//! Which leader epoch ends where: the one question that replication asks of a log.

use conveyor_record::{LeaderEpoch, Offset};

/// The epochs of the records in a log, as the log's owner keeps them (`leader-epoch-checkpoint`).
pub trait EpochHistory {
    /// Epoch of the last record, `None` in an empty log.
    fn last_epoch(&self) -> Option<LeaderEpoch>;

    /// The largest epoch that is not greater than `epoch`, and where it ends: at the start of the
    /// next one, or at the log's end. If the log knows none so old, `epoch` itself and the start of
    /// its first. `None` if `epoch` is greater than all, or nothing is known.
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

/// A history written out: epochs with their first offsets, ascending, and the log's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedEpochs {
    /// Epoch and first offset.
    pub entries: Vec<(LeaderEpoch, Offset)>,
    /// Log end offset.
    pub end: Offset,
}

impl EpochHistory for ListedEpochs {
    fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if self.last_epoch().is_none_or(|last| epoch > last) {
            return None;
        }
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let end = self
            .entries
            .get(after)
            .map_or(self.end, |(_, start)| *start);
        let found = after
            .checked_sub(1)
            .map_or(epoch, |index| self.entries[index].0);
        Some((found, end))
    }
}
