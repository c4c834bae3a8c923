//! One read of one partition for a consumer: bounds, epochs, blocks on the disk or not.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, PartitionRecords};
use conveyor_log::{ReadChunk, ReadError};
use conveyor_record::{LeaderEpoch, Offset};

use super::no_error;
use crate::node::Refusal;
use crate::partition::Partition;

/// Records below the bound that are taken to be in the page cache still: reading them does not
/// block, so it is done at once; anything older is read by a thread that may wait for the disk.
const TAIL_RECORDS: i64 = 8_192;
/// How often a read is tried again when a segment is removed under it.
const ATTEMPTS: usize = 3;

/// Which records a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Up to the high watermark.
    Uncommitted,
    /// Up to the last stable offset.
    Committed,
}

impl Isolation {
    /// From the number in a request; `None` for one that stands for nothing.
    pub(super) fn from_number(number: i32) -> Option<Self> {
        Some(match v1::IsolationLevel::try_from(number).ok()? {
            v1::IsolationLevel::Unspecified | v1::IsolationLevel::ReadUncommitted => {
                Self::Uncommitted
            }
            v1::IsolationLevel::ReadCommitted => Self::Committed,
        })
    }

    /// First offset that the consumer may not see.
    pub(super) fn bound(self, partition: &Partition) -> Offset {
        match self {
            Self::Uncommitted => partition.reader().high_watermark(),
            Self::Committed => partition.reader().last_stable_offset(),
        }
    }
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadRequest {
    pub(super) from: Offset,
    pub(super) bytes_max: usize,
    /// Whether the first batch comes whole even if it is larger than `bytes_max`.
    pub(super) min_one_batch: bool,
    pub(super) isolation: Isolation,
}

/// Refuses a client whose idea of the leader is older or newer than ours (KIP-320).
pub(super) fn check_epoch(partition: &Partition, client: i32) -> Result<(), Refusal> {
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

/// Reads, on this thread if it will not wait for the disk, else on one that may.
pub(super) async fn read(
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

/// The answer with what was read.
pub(super) fn records(
    partition: &Partition,
    chunk: ReadChunk,
    isolation: Isolation,
    session: u64,
) -> PartitionRecords {
    let reader = partition.reader();
    let aborted = if isolation == Isolation::Committed && !chunk.bytes.is_empty() {
        reader
            .aborted_transactions(chunk.first_offset, chunk.next_offset)
            .unwrap_or_default()
    } else {
        Vec::new()
    };
    PartitionRecords {
        topic: partition.topic().to_string(),
        partition: partition.index(),
        error_code: no_error(),
        error_message: String::new(),
        high_watermark: reader.high_watermark().value(),
        last_stable_offset: reader.last_stable_offset().value(),
        log_start_offset: reader.log_start_offset().value(),
        aborted_transactions: aborted
            .into_iter()
            .map(|aborted| v1::AbortedTransaction {
                producer_id: aborted.producer_id.value(),
                first_offset: aborted.first_offset.value(),
            })
            .collect(),
        session,
        next_offset: chunk.next_offset.value(),
        records: chunk.bytes,
    }
}

/// The answer that names what is wrong; positions are told when the partition is there.
pub(super) fn failure(
    place: (&str, i32),
    partition: Option<&Partition>,
    refusal: Refusal,
    session: u64,
    fetch_offset: i64,
) -> PartitionRecords {
    let reader = partition.map(Partition::reader);
    PartitionRecords {
        topic: place.0.to_owned(),
        partition: place.1,
        error_code: refusal.code.code(),
        error_message: refusal.message,
        high_watermark: reader.map_or(-1, |reader| reader.high_watermark().value()),
        last_stable_offset: reader.map_or(-1, |reader| reader.last_stable_offset().value()),
        log_start_offset: reader.map_or(-1, |reader| reader.log_start_offset().value()),
        aborted_transactions: Vec::new(),
        session,
        next_offset: fetch_offset,
        records: bytes::Bytes::new(),
    }
}

/// The partition is gone: its topic was deleted or the node stops.
pub(super) fn closed(partition: &Partition) -> Refusal {
    let message = format!("{} is closed: refresh metadata", partition.name());
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
}
