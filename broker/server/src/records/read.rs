//! One read of one partition for a consumer: bounds, epochs, blocks on the disk or not.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_log::{AbortedTransaction, EpochEndOffset, ReadChunk, ReadError};
use conveyor_record::{LeaderEpoch, Offset};

use crate::node::Refusal;
use crate::partition::Partition;

/// Records below the bound that are taken to be in the page cache still: reading them does not
/// block, so it is done at once; anything older is read by a thread that may wait for the disk.
const TAIL_RECORDS: i64 = 8_192;
/// How often a read is tried again when a segment is removed under it.
const ATTEMPTS: usize = 3;

/// Which records a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Up to the high watermark.
    Uncommitted,
    /// Up to the last stable offset.
    Committed,
}

impl Isolation {
    /// By Kafka's number; `None` for one that stands for nothing.
    pub(crate) fn from_kafka(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Uncommitted),
            1 => Some(Self::Committed),
            _ => None,
        }
    }

    /// First offset that the consumer may not see.
    pub(crate) fn bound(self, partition: &Partition) -> Offset {
        match self {
            Self::Uncommitted => partition.reader().high_watermark(),
            Self::Committed => partition.reader().last_stable_offset(),
        }
    }
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    pub(crate) from: Offset,
    pub(crate) bytes_max: usize,
    /// Whether the first batch comes whole even if it is larger than `bytes_max`.
    pub(crate) min_one_batch: bool,
    pub(crate) isolation: Isolation,
}

/// Refuses a client whose idea of the leader is older or newer than ours (KIP-320).
pub(crate) fn check_epoch(partition: &Partition, client: i32) -> Result<(), Refusal> {
    let (client, current) = (LeaderEpoch(client), partition.leader_epoch());
    if !client.is_some() || client == current {
        return Ok(());
    }
    let (code, what) = if client < current {
        (ErrorCode::FencedLeaderEpoch, "older")
    } else {
        (ErrorCode::UnknownLeaderEpoch, "newer")
    };
    let message = format!(
        "{}: leader epoch {client} is {what} than {current}: refresh metadata",
        partition.name()
    );
    Err(Refusal::new(code, message))
}

/// Where the records of a leader epoch end; `None` if the epoch is newer than any here.
pub(crate) fn end_of_epoch(partition: &Partition, epoch: LeaderEpoch) -> Option<EpochEndOffset> {
    let reader = partition.reader();
    if !epoch.is_some() {
        return None;
    }
    // The present leader may not have appended yet: its epoch begins and ends at the log end.
    if epoch == partition.leader_epoch() {
        return Some(EpochEndOffset {
            leader_epoch: epoch,
            end_offset: reader.log_end_offset(),
        });
    }
    reader.end_offset_for_epoch(epoch)
}

/// Reads, on this thread if it will not wait for the disk, else on one that may.
pub(crate) async fn read(
    partition: &Arc<Partition>,
    request: ReadRequest,
) -> Result<ReadChunk, Refusal> {
    let bound = request.isolation.bound(partition);
    if bound - request.from <= TAIL_RECORDS {
        return read_now(partition, request);
    }
    let own = Arc::clone(partition);
    let read = tokio::task::spawn_blocking(move || read_now(&own, request)).await;
    read.unwrap_or_else(|error| {
        let message = format!("{}: the read was given up: {error}", partition.name());
        Err(Refusal::new(ErrorCode::UnknownServerError, message))
    })
}

fn read_now(partition: &Partition, request: ReadRequest) -> Result<ReadChunk, Refusal> {
    let reader = partition.reader();
    let mut attempt = 1;
    loop {
        let bound = request.isolation.bound(partition);
        // Between the bound and the log end lies what is there but not to be seen yet.
        if request.from > bound && request.from <= reader.log_end_offset() {
            return Ok(empty(request.from));
        }
        match reader.read(
            request.from,
            bound,
            request.bytes_max,
            request.min_one_batch,
        ) {
            Err(ReadError::SegmentRemoved { .. }) if attempt < ATTEMPTS => attempt += 1,
            other => return other.map_err(Refusal::from),
        }
    }
}

fn empty(offset: Offset) -> ReadChunk {
    ReadChunk {
        bytes: bytes::Bytes::new(),
        first_offset: offset,
        next_offset: offset,
        batch_count: 0,
    }
}

/// How far a partition reaches, as consumers are told with every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_start_offset: Offset,
}

impl Positions {
    /// What is told of a partition that is not there.
    pub(crate) const UNKNOWN: Self = Self {
        high_watermark: Offset::NONE,
        last_stable_offset: Offset::NONE,
        log_start_offset: Offset::NONE,
    };

    /// Of a partition, now.
    pub(crate) fn of(partition: &Partition) -> Self {
        let reader = partition.reader();
        Self {
            high_watermark: reader.high_watermark(),
            last_stable_offset: reader.last_stable_offset(),
            log_start_offset: reader.log_start_offset(),
        }
    }
}

/// The aborted transactions whose records a consumer has to leave out of what was read.
pub(crate) fn aborted(
    partition: &Partition,
    chunk: &ReadChunk,
    isolation: Isolation,
) -> Result<Vec<AbortedTransaction>, Refusal> {
    if isolation == Isolation::Uncommitted || chunk.bytes.is_empty() {
        return Ok(Vec::new());
    }
    let reader = partition.reader();
    let aborted = reader.aborted_transactions(chunk.first_offset, chunk.next_offset)?;
    Ok(aborted)
}

/// The partition is gone: its topic was deleted or the node stops.
pub(crate) fn closed(partition: &Partition) -> Refusal {
    let message = format!("{} is closed: refresh metadata", partition.name());
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
}
