//! Which batches belong to aborted transactions, and which markers are still needed, while a log is
//! walked in order.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{BatchView, ControlType, Offset, ProducerId};

use crate::index::AbortedEntry;
use crate::recovery::first_control;

/// A walk's view of the transactions.
#[derive(Debug, Default)]
pub(super) struct WalkedTransactions {
    /// Aborted transactions that begin further on, by first offset.
    coming: BTreeMap<(Offset, ProducerId), AbortedEntry>,
    /// Aborted transactions that have begun, and whether a batch of theirs was seen.
    aborted: BTreeMap<ProducerId, (AbortedEntry, bool)>,
    /// Producers with a transaction open that will commit.
    committed: BTreeSet<ProducerId>,
}

/// What a marker means for the cleaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// Batches of its transaction are (or were until now) in the log.
    Needed(Option<AbortedEntry>),
    /// Nothing of its transaction is left: it goes when its delete horizon has passed.
    Empty,
}

impl WalkedTransactions {
    /// A walk that begins at `start`; `aborted` are all transactions that it can meet.
    pub(super) fn expect(aborted: &[AbortedEntry], start: Offset) -> Self {
        let ahead = aborted.iter().filter(|entry| entry.last_offset >= start);
        Self {
            coming: ahead
                .map(|entry| ((entry.first_offset, entry.producer_id), *entry))
                .collect(),
            ..Self::default()
        }
    }

    /// A data batch: whether its transaction was aborted.
    pub(super) fn see_batch(&mut self, batch: &BatchView<'_>) -> bool {
        let header = batch.header();
        self.begin_up_to(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        if let Some((_, seen)) = self.aborted.get_mut(&header.producer_id) {
            *seen = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// A control batch.
    pub(super) fn see_marker(&mut self, batch: &BatchView<'_>) -> Marker {
        let header = batch.header();
        self.begin_up_to(header.last_offset());
        match first_control(batch).map(|control| control.control_type) {
            Some(ControlType::Abort) => match self.aborted.remove(&header.producer_id) {
                Some((entry, true)) => Marker::Needed(Some(entry)),
                _ => Marker::Empty,
            },
            Some(ControlType::Commit) if self.committed.remove(&header.producer_id) => {
                Marker::Needed(None)
            }
            Some(ControlType::Commit) => Marker::Empty,
            // A record that is not understood, or an emptied batch: leave it alone.
            Some(ControlType::Other(_)) | None => Marker::Needed(None),
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.coming.first_entry()
            && entry.key().0 <= offset
        {
            let begun = entry.remove();
            self.aborted.insert(begun.producer_id, (begun, false));
        }
    }
}
