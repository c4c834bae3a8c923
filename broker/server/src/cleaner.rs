//! The log cleaner: compacts topics whose `cleanup.policy` says so, one log after another.
//!
//! The engine decides what is worth cleaning and does it beside the owner; here are the thread, the
//! order (the dirtiest log first), the rate limit that keeps producers from feeling it, and the list
//! of logs that cannot be cleaned. Only planning and the swap at the end take the log's lock.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_log::LogError;
use conveyor_log::compaction::{
    Cleaner, CleanerConfig, CompactionError, CompactionPlan, CompactionStats,
};
use thiserror::Error;
use uuid::Uuid;

use crate::background::duration;
use crate::node::Node;
use crate::partition::Partition;

/// Why a log was not cleaned this time.
#[derive(Debug, Error)]
enum CleanError {
    #[error(transparent)]
    Compaction(#[from] CompactionError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl CleanError {
    /// Whether the log can be tried again later.
    fn is_retriable(&self) -> bool {
        match self {
            Self::Compaction(error) => error.is_retriable(),
            // The swap failed: that is the directory's matter, not the log's.
            Self::Log(_) => true,
        }
    }
}

/// Looks for logs worth compacting until `sleep` says that the node stops.
pub(crate) fn run(node: &Node, sleep: &dyn Fn(Duration) -> bool) {
    let mut cleaner = Cleaner::new(CleanerConfig {
        dedupe_buffer_bytes: node.config.cleaner_buffer_bytes,
        ..CleanerConfig::default()
    });
    let mut uncleanable = HashSet::new();
    let backoff = duration(node.config.cleaner_backoff_ms);
    while !sleep(backoff) {
        // What failed for a passing reason waits for the next round, and keeps no other log waiting.
        let mut skipped = uncleanable.clone();
        while let Some((partition, plan)) = dirtiest(node, &skipped) {
            match clean(node, &mut cleaner, &partition, &plan, sleep) {
                Ok(None) => return,
                Ok(Some(stats)) => report(&partition, &stats),
                Err(error) if error.is_retriable() => {
                    tracing::warn!(partition = %partition.name(), %error, "log is not compacted yet");
                    skipped.insert(LogKey::of(&partition));
                }
                Err(error) => {
                    tracing::error!(
                        partition = %partition.name(),
                        %error,
                        "log is not compacted again before the next start"
                    );
                    uncleanable.insert(LogKey::of(&partition));
                    skipped.insert(LogKey::of(&partition));
                }
            }
        }
    }
}

/// One log; a topic that is created again under the same name has others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LogKey {
    topic_id: Uuid,
    partition: i32,
}

impl LogKey {
    fn of(partition: &Partition) -> Self {
        Self {
            topic_id: partition.reader().topic_id(),
            partition: partition.index(),
        }
    }
}

/// The log with the most bytes to clean.
fn dirtiest(node: &Node, skipped: &HashSet<LogKey>) -> Option<(Arc<Partition>, CompactionPlan)> {
    let now_ms = node.now_ms();
    let compacted = node.partitions().online().into_iter().filter(|partition| {
        partition.config().cleanup_policy.compact
            && partition.directory().offline().is_none()
            && !skipped.contains(&LogKey::of(partition))
    });
    let plans = compacted.filter_map(|partition| {
        match partition.with_log(|log| log.plan_compaction(now_ms))? {
            Ok(plan) => Some((partition, plan?)),
            Err(error) => {
                tracing::warn!(partition = %partition.name(), %error, "no plan to compact the log");
                None
            }
        }
    });
    plans.max_by_key(|(_, plan)| plan.dirty_bytes())
}

/// Cleans one log; `None` when the node stops meanwhile.
fn clean(
    node: &Node,
    cleaner: &mut Cleaner,
    partition: &Partition,
    plan: &CompactionPlan,
    sleep: &dyn Fn(Duration) -> bool,
) -> Result<Option<CompactionStats>, CleanError> {
    let mut rate = Rate::new(node.config.cleaner_bytes_per_second);
    let mut stopped = false;
    let mut progress = |bytes: u64| {
        node.metrics.cleaner_bytes.add(bytes);
        stopped = sleep(rate.pause(bytes));
        !stopped
    };
    let cleaned = cleaner.clean(plan, &mut progress);
    if stopped {
        return Ok(None);
    }
    let cleaned = cleaned?;
    match partition.with_log(|log| log.install_compaction(cleaned)) {
        Some(installed) => Ok(Some(installed?)),
        // The topic was deleted meanwhile, and its files with it.
        None => Ok(Some(CompactionStats::default())),
    }
}

fn report(partition: &Partition, stats: &CompactionStats) {
    tracing::info!(
        partition = %partition.name(),
        bytes_before = stats.bytes_before,
        bytes_after = stats.bytes_after,
        records_before = stats.records_before,
        records_after = stats.records_after,
        map_was_full = stats.map_was_full,
        "log compacted"
    );
}

/// Spreads bytes over time.
struct Rate {
    bytes_per_second: f64,
    began: Instant,
    bytes: f64,
}

impl Rate {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            began: Instant::now(),
            bytes: 0.0,
        }
    }

    /// How long to wait so that the bytes so far keep to the rate.
    fn pause(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes as f64;
        let due = Duration::from_secs_f64(self.bytes / self.bytes_per_second);
        due.saturating_sub(self.began.elapsed())
    }
}
