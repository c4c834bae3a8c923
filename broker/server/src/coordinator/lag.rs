//! How far a group is behind: in records, and in seconds by the age of the next record to read.

use std::sync::Arc;

use conveyor_group::CommittedOffset;
use conveyor_grpc::{ErrorCode, v1};
use conveyor_log::LogReader;
use conveyor_record::Offset;

use crate::node::{Node, Refusal};
use crate::partition::Partition;

/// The most records whose age one request looks up; the lag in seconds of more partitions is told
/// as unknown. Each look-up reads one batch.
pub(super) const LOOKUPS_MAX: usize = 1_000;
const UNKNOWN_SECONDS: f64 = -1.0;

/// What is known of a group in one partition.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) offset: Option<CommittedOffset>,
    /// Who owns the partition; empty for nobody.
    pub(super) member_id: String,
}

/// Measures the lag in each partition. `lookups` is what is left of [`LOOKUPS_MAX`].
pub(super) async fn measure(
    node: &Arc<Node>,
    places: Vec<((String, i32), Committed)>,
    lookups: &mut usize,
) -> Result<Vec<v1::GroupLag>, Refusal> {
    let (own, mut left) = (Arc::clone(node), *lookups);
    let work = move || {
        let now_ms = own.now_ms();
        let lags: Vec<v1::GroupLag> = places
            .into_iter()
            .map(|((topic, partition), committed)| {
                let found = own.partitions().get(&topic, partition).ok();
                lag(
                    topic,
                    partition,
                    committed,
                    found.as_deref(),
                    now_ms,
                    &mut left,
                )
            })
            .collect();
        (lags, left)
    };
    let (lags, left) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        let message = format!("the measuring was given up: {error}");
        Refusal::new(ErrorCode::UnknownServerError, message)
    })?;
    *lookups = left;
    Ok(lags)
}

fn lag(
    topic: String,
    partition: i32,
    committed: Committed,
    found: Option<&Partition>,
    now_ms: i64,
    lookups: &mut usize,
) -> v1::GroupLag {
    let end = found.map_or(Offset::NONE, |found| found.reader().high_watermark());
    let offset = committed
        .offset
        .as_ref()
        .map_or(Offset::NONE, |committed| committed.offset);
    let is_known = end.is_some() && offset.is_some();
    let records = if is_known { (end - offset).max(0) } else { -1 };
    let seconds = match found {
        Some(found) if records > 0 => seconds(found.reader(), offset, now_ms, lookups),
        _ if records == 0 => 0.0,
        _ => UNKNOWN_SECONDS,
    };
    v1::GroupLag {
        topic,
        partition,
        committed_offset: offset.value(),
        end_offset: end.value(),
        lag_records: records,
        lag_seconds: seconds,
        member_id: committed.member_id,
        metadata: committed
            .offset
            .map(|committed| committed.metadata)
            .unwrap_or_default(),
    }
}

/// The age of the next record to read: the one committed, or the first there is when that is gone.
fn seconds(reader: &LogReader, committed: Offset, now_ms: i64, lookups: &mut usize) -> f64 {
    if *lookups == 0 {
        return UNKNOWN_SECONDS;
    }
    *lookups -= 1;
    let from = committed.max(reader.log_start_offset());
    match reader.timestamp_at(from) {
        // A producer's clock may run ahead of ours.
        Ok(Some(next)) => now_ms.saturating_sub(next.timestamp_ms).max(0) as f64 / 1_000.0,
        Ok(None) => 0.0,
        Err(error) => {
            tracing::warn!(partition = %reader.partition(), %error, "lag in seconds is not known");
            UNKNOWN_SECONDS
        }
    }
}
