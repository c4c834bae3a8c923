//! Compaction as the owner sees it: what may be cleaned, and the swap that ends it.

use std::sync::Arc;

use conveyor_record::Offset;

use super::Log;
use crate::compaction::{
    Cleaned, CleanedGroup, CompactionPlan, CompactionStats, LastOfProducer, remove_cleaned,
};
use crate::error::{DiskError, LogError};
use crate::folder::{self, CLEANED, SWAP, swap_log_name};
use crate::health::WriteFailure;
use crate::index::AbortedEntry;
use crate::segment::{LOG, Segment};

impl Log {
    /// What a compaction would clean now; `None` if `cleanup.policy` does not ask for it or it is not
    /// worth it yet (`min.cleanable.dirty.ratio`, `max.compaction.lag.ms`).
    pub fn plan_compaction(&self, now_ms: i64) -> Result<Option<CompactionPlan>, LogError> {
        if !self.config.cleanup_policy.compact {
            return Ok(None);
        }
        let all = Arc::clone(&self.shared.segments());
        let count = self.cleanable_segments(&all, now_ms)?;
        if count == 0 {
            return Ok(None);
        }
        let segments = all[..count].to_vec();
        let known = self.shared.dir.checkpoints.clean_offset(self.partition());
        let first_dirty = known.unwrap_or(Offset::ZERO).max(segments[0].base());
        let end = all[count].base();
        if first_dirty >= end || !self.is_worth_it(&segments, first_dirty, now_ms)? {
            return Ok(None);
        }
        let aborted = aborted_from(&all, segments[0].base())?;
        let producers = self.producers.iter().map(|(id, producer)| {
            let last_offset = producer.batches.back().map(|batch| batch.last_offset);
            (
                *id,
                LastOfProducer {
                    last_offset,
                    epoch: producer.epoch,
                },
            )
        });
        Ok(Some(CompactionPlan {
            dir: Arc::clone(&self.shared.dir),
            home: Arc::clone(&self.shared.home),
            producers: producers.collect(),
            segments,
            aborted,
            end,
            first_dirty,
            now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            segment_bytes: self.config.segment_limit(),
            index_interval_bytes: self.config.index_interval_bytes,
        }))
    }

    /// How many closed segments from the front are decided, durable and old enough.
    fn cleanable_segments(
        &self,
        segments: &[Arc<Segment>],
        now_ms: i64,
    ) -> Result<usize, LogError> {
        let limit = self
            .shared
            .last_stable_offset()
            .min(self.shared.recovery_point());
        let mut count = 0;
        while count + 1 < segments.len() && segments[count + 1].base() <= limit {
            if self.config.min_compaction_lag_ms > 0 {
                let segment = &segments[count];
                let latest = segment
                    .latest_timestamp()
                    .map_err(|error| segment.read_error(error))?;
                let youngest = latest.map_or(-1, |latest| latest.timestamp_ms);
                if youngest > now_ms.saturating_sub(self.config.min_compaction_lag_ms) {
                    break;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    fn is_worth_it(
        &self,
        segments: &[Arc<Segment>],
        first_dirty: Offset,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let total: u64 = segments.iter().map(|segment| segment.size()).sum();
        let dirty: u64 = segments
            .iter()
            .filter(|segment| segment.base() >= first_dirty)
            .map(|segment| segment.size())
            .sum();
        if dirty as f64 >= self.config.min_cleanable_dirty_ratio * total as f64 {
            return Ok(true);
        }
        let Some(lag_ms) = self.config.max_compaction_lag_ms else {
            return Ok(false);
        };
        let oldest = segments
            .iter()
            .find(|segment| segment.base() >= first_dirty);
        let Some(oldest) = oldest else {
            return Ok(false);
        };
        let latest = oldest
            .latest_timestamp()
            .map_err(|error| oldest.read_error(error))?;
        Ok(latest.is_some_and(|latest| now_ms.saturating_sub(latest.timestamp_ms) > lag_ms))
    }

    /// Swaps the cleaned segments in. Groups whose old segments were removed meanwhile (retention,
    /// truncation) are dropped. Readers go on in the old files until they ask again.
    pub fn install_compaction(&mut self, cleaned: Cleaned) -> Result<CompactionStats, LogError> {
        self.shared.dir.health.check()?;
        let Cleaned {
            groups,
            clean_to,
            stats,
        } = cleaned;
        if let Some(last) = groups.last() {
            self.allow_gaps_below(last.end)?;
        }
        let mut complete = true;
        for group in groups {
            if self.is_present(&group) {
                self.install_group(group)?;
            } else {
                complete = false;
                self.drop_group(&group);
            }
        }
        if complete {
            self.shared
                .dir
                .checkpoints
                .set_clean_offset(self.partition(), clean_to);
        }
        Ok(stats)
    }

    /// Removes the files of a compaction that will not be installed.
    pub fn discard_compaction(&mut self, cleaned: Cleaned) {
        for group in cleaned.groups {
            self.drop_group(&group);
        }
    }

    /// Whether all old segments of a group stand in a row in the log, as they did.
    fn is_present(&self, group: &CleanedGroup) -> bool {
        let segments = self.shared.segments();
        let start = segments.partition_point(|segment| segment.base() < group.old[0].base());
        let same = segments[start..]
            .iter()
            .zip(&group.old)
            .filter(|(now, then)| Arc::ptr_eq(now, then));
        let end = segments
            .get(start + group.old.len())
            .map(|next| next.base());
        same.count() == group.old.len() && end == Some(group.end)
    }

    fn install_group(&mut self, group: CleanedGroup) -> Result<(), WriteFailure> {
        let home = Arc::clone(&self.shared.home);
        let CleanedGroup { old, new, end } = group;
        let base = new.base();
        let cleaned = home.folder.join(swap_log_name(base, end, CLEANED));
        let decided = home
            .folder
            .join(swap_log_name(base, end, &format!("{LOG}{SWAP}")));
        // Until the rename is durable nothing is decided: a crash leaves one or the other.
        let failed = |error| {
            self.shared
                .dir
                .health
                .fail(DiskError::new("swap", &decided, error))
        };
        home.disk
            .rename(&cleaned, &decided)
            .and_then(|()| home.disk.sync_dir(&home.folder))
            .map_err(failed)?;
        let mut segments = (**self.shared.segments()).clone();
        let start = segments.partition_point(|segment| segment.base() < base);
        segments.splice(start..start + old.len(), [Arc::new(new)]);
        // Marked before the names change: a reader that opens a file late must not take the new one
        // for the old.
        for segment in &old {
            segment.mark_removed();
        }
        self.shared.set_segments(segments);
        let names = folder::list(&home).map_err(failed)?;
        folder::finish_swap(&home, base, end, &names)
            .and_then(|()| home.disk.sync_dir(&home.folder))
            .map_err(failed)?;
        for segment in &old[1..] {
            self.shared.remove_snapshot(segment.base());
        }
        self.changed = true;
        Ok(())
    }

    fn drop_group(&self, group: &CleanedGroup) {
        remove_cleaned(&self.shared.home, group.new.base(), group.end);
    }
}

/// The aborted transactions that reach beyond `start`. The entry of each lies with its marker,
/// often some segments behind its records, so those of all segments are asked for.
fn aborted_from(segments: &[Arc<Segment>], start: Offset) -> Result<Vec<AbortedEntry>, LogError> {
    let mut aborted = Vec::new();
    for segment in segments {
        let entries = segment.indexes().and_then(|indexes| {
            indexes
                .transaction
                .all()
                .map_err(|error| segment.disk_error("read index of", error))
        });
        let entries = entries.map_err(|error| segment.read_error(error))?;
        aborted.extend(
            entries
                .into_iter()
                .filter(|entry| entry.last_offset >= start),
        );
    }
    Ok(aborted)
}
