//! Which transactions are open or not yet decided for readers: what holds the last stable offset back.

use std::collections::BTreeMap;

use conveyor_record::{Offset, ProducerId};

use crate::producers::{CompletedTransaction, TransactionEvent};

/// The transactions of one log that readers of committed data must wait for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Transactions {
    /// First offset of each open transaction.
    open: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker is in the log but not yet below the high watermark: first offset to
    /// marker offset.
    undecided: BTreeMap<Offset, Offset>,
}

impl Transactions {
    pub(crate) fn apply(&mut self, event: TransactionEvent) {
        match event {
            TransactionEvent::Began {
                producer_id,
                first_offset,
            } => {
                self.open.insert(first_offset, producer_id);
            }
            TransactionEvent::Completed(completed) => {
                self.open.remove(&completed.first_offset);
                self.undecided
                    .insert(completed.first_offset, completed.marker_offset);
            }
        }
    }

    /// Forgets decided transactions and returns the last stable offset.
    pub(crate) fn last_stable_offset(&mut self, high_watermark: Offset) -> Offset {
        self.undecided.retain(|_, marker| *marker >= high_watermark);
        let first_open = self.open.keys().next();
        let first_undecided = self.undecided.keys().next();
        first_open
            .into_iter()
            .chain(first_undecided)
            .fold(high_watermark, |lso, first| lso.min(*first))
    }

    /// What the last stable offset will be when everything up to this marker is committed: goes
    /// into the transaction index.
    pub(crate) fn last_stable_after(&self, completed: &CompletedTransaction) -> Offset {
        let after = completed.marker_offset.next();
        let others = self
            .open
            .keys()
            .filter(|first| **first != completed.first_offset);
        others.min().map_or(after, |first| after.min(*first))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.undecided.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(producer: i64, first: i64) -> TransactionEvent {
        TransactionEvent::Began {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
        }
    }

    fn completed(producer: i64, first: i64, marker: i64) -> CompletedTransaction {
        CompletedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            marker_offset: Offset(marker),
            aborted: true,
        }
    }

    #[test]
    fn the_first_open_transaction_holds_readers_back_until_its_marker_is_committed() {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.last_stable_offset(Offset(100)), Offset(100));
        transactions.apply(began(1, 10));
        transactions.apply(began(2, 20));
        assert_eq!(transactions.last_stable_offset(Offset(100)), Offset(10));
        assert_eq!(
            transactions.last_stable_after(&completed(1, 10, 30)),
            Offset(20)
        );
        assert_eq!(
            transactions.last_stable_after(&completed(2, 20, 30)),
            Offset(10)
        );

        transactions.apply(TransactionEvent::Completed(completed(1, 10, 30)));
        assert_eq!(transactions.last_stable_offset(Offset(30)), Offset(10));
        assert_eq!(transactions.last_stable_offset(Offset(31)), Offset(20));
        transactions.apply(TransactionEvent::Completed(completed(2, 20, 31)));
        assert_eq!(transactions.last_stable_offset(Offset(32)), Offset(32));
        assert!(transactions.is_empty());
    }
}
