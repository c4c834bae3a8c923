//! The answer for one partition of a fetch, unary or stream.

use bytes::Bytes;
use conveyor_grpc::v1::{AbortedTransaction, PartitionRecords};
use conveyor_log::{AbortedTransaction as Aborted, ReadChunk};

use super::no_error;
use crate::node::Refusal;
use crate::partition::Partition;
use crate::records::read::Positions;

/// The answer with what was read.
pub(super) fn records(
    partition: &Partition,
    chunk: ReadChunk,
    aborted: Vec<Aborted>,
    session: u64,
) -> PartitionRecords {
    let positions = Positions::of(partition);
    PartitionRecords {
        topic: partition.topic().to_string(),
        partition: partition.index(),
        error_code: no_error(),
        error_message: String::new(),
        high_watermark: positions.high_watermark.value(),
        last_stable_offset: positions.last_stable_offset.value(),
        log_start_offset: positions.log_start_offset.value(),
        aborted_transactions: aborted
            .into_iter()
            .map(|aborted| AbortedTransaction {
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
    let positions = partition.map_or(Positions::UNKNOWN, Positions::of);
    PartitionRecords {
        topic: place.0.to_owned(),
        partition: place.1,
        error_code: refusal.code.code(),
        error_message: refusal.message,
        high_watermark: positions.high_watermark.value(),
        last_stable_offset: positions.last_stable_offset.value(),
        log_start_offset: positions.log_start_offset.value(),
        aborted_transactions: Vec::new(),
        session,
        next_offset: fetch_offset,
        records: Bytes::new(),
    }
}
