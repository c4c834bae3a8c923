//! What time does: transactions that are open too long are aborted, idle ids are forgotten.

use crate::end::WriteMarkers;
use crate::{Record, TransactionCoordinator, TransactionMetadata, Transition};

/// Records that one look writes at most; the next look goes on.
const RECORDS_MAX: usize = 1_000;

impl TransactionCoordinator {
    /// Aborts the transactions whose time is over. Their producers lose their epoch, so that nothing
    /// of theirs can come after the markers.
    pub fn abort_timed_out(&self, now_ms: i64) -> Transition<Vec<WriteMarkers>> {
        let mut records = Vec::new();
        let mut markers = Vec::new();
        let timed_out = self.transactions.iter().filter(|(_, transaction)| {
            transaction
                .deadline_ms()
                .is_some_and(|deadline| deadline <= now_ms)
        });
        for (id, transaction) in timed_out.take(RECORDS_MAX) {
            let next = transaction.fenced(now_ms);
            markers.push(WriteMarkers::of(id, &next));
            records.push(Record::new(id, next));
        }
        Transition {
            records,
            response: markers,
        }
    }

    /// When the first open transaction times out, in ms since the epoch.
    pub fn next_timeout_ms(&self) -> Option<i64> {
        let deadlines = self.transactions.values();
        deadlines.filter_map(TransactionMetadata::deadline_ms).min()
    }

    /// Forgets ids that have been idle for `transactional.id.expiration.ms`; answers how many.
    pub fn expire_ids(&self, now_ms: i64) -> Transition<usize> {
        let deadline = now_ms.saturating_sub(self.config.expiration_ms);
        let idle = self.transactions.iter().filter(|(_, transaction)| {
            transaction.state.is_idle() && transaction.last_update_ms <= deadline
        });
        let records: Vec<Record> = idle
            .take(RECORDS_MAX)
            .map(|(id, _)| Record::tombstone(id))
            .collect();
        Transition {
            response: records.len(),
            records,
        }
    }
}
