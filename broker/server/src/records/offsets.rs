//! Offsets by position or by time (`ListOffsets`).

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_log::{ReadError, TimestampOffset};
use conveyor_record::{LeaderEpoch, Offset};

use super::read::{Isolation, check_epoch};
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::request::{Call, Operation};

/// The end of what the consumer may see.
pub(crate) const LATEST: i64 = -1;
/// The first record.
pub(crate) const EARLIEST: i64 = -2;
/// The record with the greatest timestamp.
pub(crate) const MAX_TIMESTAMP: i64 = -3;
/// The first record on local disks.
pub(crate) const EARLIEST_LOCAL: i64 = -4;
/// The last record that was copied to remote storage.
pub(crate) const LATEST_TIERED: i64 = -5;

/// An offset that was looked for; `NONE` in all its parts if there is no such record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundOffset {
    pub(crate) offset: Offset,
    /// Timestamp of the record in ms, if it was found by time, else -1.
    pub(crate) timestamp_ms: i64,
    /// Epoch of the leader that appended it; of the present leader for the end.
    pub(crate) leader_epoch: LeaderEpoch,
}

impl FoundOffset {
    /// There is no such record.
    pub(crate) const NONE: Self = Self {
        offset: Offset::NONE,
        timestamp_ms: -1,
        leader_epoch: LeaderEpoch::NONE,
    };

    fn at(offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self {
            offset,
            timestamp_ms: -1,
            leader_epoch,
        }
    }
}

/// The offset that `timestamp_ms` stands for: the first record that is not older, or one of the
/// negative numbers above. A client with another idea of the leader is refused.
pub(crate) async fn look_up(
    node: &Node,
    call: &Call,
    place: (&str, i32),
    current_leader_epoch: i32,
    timestamp_ms: i64,
    isolation: Isolation,
) -> Result<FoundOffset, Refusal> {
    let partition = node.partition_for(call, Operation::Describe, place.0, place.1)?;
    check_epoch(&partition, current_leader_epoch)?;
    match timestamp_ms {
        LATEST => Ok(FoundOffset::at(
            isolation.bound(&partition),
            partition.leader_epoch(),
        )),
        EARLIEST | EARLIEST_LOCAL => Ok(earliest(&partition)),
        // Nothing is ever copied to remote storage.
        LATEST_TIERED => Ok(FoundOffset::NONE),
        time if time >= MAX_TIMESTAMP => by_time(partition, time, isolation).await,
        time => {
            let message = format!("{}: timestamp {time} stands for nothing", partition.name());
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// The epoch is that of the offset: a consumer that starts there tells it with its first fetch.
fn earliest(partition: &Partition) -> FoundOffset {
    let start = partition.reader().log_start_offset();
    let epoch = partition.reader().leader_epoch_at(start);
    FoundOffset::at(start, epoch.unwrap_or_else(|| partition.leader_epoch()))
}

/// Looks into index and log, on a thread that may wait for the disk.
async fn by_time(
    partition: Arc<Partition>,
    timestamp_ms: i64,
    isolation: Isolation,
) -> Result<FoundOffset, Refusal> {
    let search = move || -> Result<Option<TimestampOffset>, ReadError> {
        let bound = isolation.bound(&partition);
        if timestamp_ms == MAX_TIMESTAMP {
            partition.reader().offset_of_max_timestamp(bound)
        } else {
            partition.reader().offset_for_timestamp(timestamp_ms, bound)
        }
    };
    let found = tokio::task::spawn_blocking(search)
        .await
        .map_err(|error| {
            Refusal::new(
                ErrorCode::UnknownServerError,
                format!("the search was given up: {error}"),
            )
        })??;
    Ok(found.map_or(FoundOffset::NONE, |found| FoundOffset {
        offset: found.offset,
        timestamp_ms: found.timestamp_ms,
        leader_epoch: found.leader_epoch,
    }))
}
