//! From fetched bytes to records.
//!
//! A [`Chunk`] is what one message brought for one partition: whole batches. It is read step by
//! step, so that a poll of few records does not decompress more than it needs, and one batch is
//! decompressed once. Skips what lies below the position, control batches, and under `read_committed`
//! the batches of aborted transactions. Knows no sockets, and no partition but the one whose bytes
//! it holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conveyor_grpc::v1;
use conveyor_record::batch::OwnedBatches;
use conveyor_record::{
    Batch, BatchError, ControlType, Decompressor, LeaderEpoch, Offset, Record, Records,
    read_control_record,
};

use super::config::{ConsumerConfig, IsolationLevel};

/// Reads batches by the consumer's settings; owns the decompression contexts.
#[derive(Debug)]
pub(super) struct Decoder {
    decompressor: Decompressor,
    decompressed_bytes_max: usize,
    check_crcs: bool,
    isolation_level: IsolationLevel,
}

impl Decoder {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        Self {
            decompressor: Decompressor::new(),
            decompressed_bytes_max: config.batch_decompressed_bytes_max,
            check_crcs: config.check_crcs,
            isolation_level: config.isolation_level,
        }
    }
}

/// The batches of one message for one partition, and how far they have been read.
#[derive(Debug)]
pub(super) struct Chunk {
    batches: OwnedBatches,
    aborted: AbortedTransactions,
    current: Option<Current>,
    /// The offset after the last batch, as the node says.
    end: Offset,
}

/// The batch being read.
#[derive(Debug)]
struct Current {
    records: Records,
    next_offset: Offset,
    leader_epoch: LeaderEpoch,
}

/// Where a partition stands after some reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The next record to read.
    pub(super) position: Offset,
    /// The term of the leader of the last batch seen.
    pub(super) leader_epoch: LeaderEpoch,
}

impl Chunk {
    pub(super) fn new(records: Bytes, end: Offset, aborted: Vec<v1::AbortedTransaction>) -> Self {
        Self {
            batches: OwnedBatches::new(records),
            aborted: AbortedTransactions::new(aborted),
            current: None,
            end,
        }
    }

    /// Appends up to `limit` records to `out` and moves `progress` on; returns whether the chunk is
    /// read to its end. On an error `progress` names the place, and `out` keeps what came before.
    pub(super) fn read(
        &mut self,
        decoder: &mut Decoder,
        progress: &mut Progress,
        limit: usize,
        out: &mut Vec<Record>,
    ) -> Result<bool, BatchError> {
        let full = out.len().saturating_add(limit);
        while out.len() < full {
            let Some(current) = &mut self.current else {
                if self.next_batch(decoder, progress)? {
                    continue;
                }
                progress.position = progress.position.max(self.end);
                return Ok(true);
            };
            let Some(record) = current.records.next() else {
                progress.position = progress.position.max(current.next_offset);
                self.current = None;
                continue;
            };
            let record = record?;
            if record.offset >= progress.position {
                progress.position = record.offset.next();
                progress.leader_epoch = current.leader_epoch;
                out.push(record);
            }
        }
        Ok(false)
    }

    /// Makes the next batch worth reading the current one; `false` at the end of the chunk.
    fn next_batch(
        &mut self,
        decoder: &mut Decoder,
        progress: &mut Progress,
    ) -> Result<bool, BatchError> {
        for batch in self.batches.by_ref() {
            let batch = batch?;
            let next_offset = batch.header().next_offset();
            if next_offset <= progress.position {
                // Control batches below the position still end transactions.
                self.aborted.pass(&batch, decoder)?;
                continue;
            }
            if decoder.check_crcs {
                batch.verify_crc()?;
            }
            if self.aborted.pass(&batch, decoder)? {
                progress.position = next_offset;
                progress.leader_epoch = batch.header().leader_epoch;
                continue;
            }
            let limit = decoder.decompressed_bytes_max;
            self.current = Some(Current {
                records: batch.records(&mut decoder.decompressor, limit)?,
                next_offset,
                leader_epoch: batch.header().leader_epoch,
            });
            return Ok(true);
        }
        Ok(false)
    }
}

/// Which producers' transactions are aborted at the batch being looked at.
#[derive(Debug, Default)]
struct AbortedTransactions {
    /// First offset of each aborted transaction that has not begun yet, and its producers.
    ahead: BTreeMap<i64, Vec<i64>>,
    open: BTreeSet<i64>,
}

impl AbortedTransactions {
    fn new(aborted: Vec<v1::AbortedTransaction>) -> Self {
        let mut ahead: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for transaction in aborted {
            ahead
                .entry(transaction.first_offset)
                .or_default()
                .push(transaction.producer_id);
        }
        Self {
            ahead,
            open: BTreeSet::new(),
        }
    }

    /// Takes note of a batch, in log order; returns whether its records are to be left out.
    fn pass(&mut self, batch: &Batch, decoder: &mut Decoder) -> Result<bool, BatchError> {
        let header = batch.header();
        let committed_only = decoder.isolation_level == IsolationLevel::ReadCommitted;
        if header.attributes.is_control() {
            if committed_only && is_abort_marker(batch, decoder)? {
                self.begin_up_to(header.last_offset());
                self.open.remove(&header.producer_id.value());
            }
            return Ok(true);
        }
        if !committed_only || !header.attributes.is_transactional() {
            return Ok(false);
        }
        self.begin_up_to(header.last_offset());
        Ok(self.open.contains(&header.producer_id.value()))
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(first) = self.ahead.first_entry()
            && *first.key() <= offset.value()
        {
            self.open.extend(first.remove());
        }
    }
}

fn is_abort_marker(batch: &Batch, decoder: &mut Decoder) -> Result<bool, BatchError> {
    let limit = decoder.decompressed_bytes_max;
    let mut records = batch.view().records(&mut decoder.decompressor, limit)?;
    // Compaction may leave a control batch without its record.
    let Some(record) = records.next() else {
        return Ok(false);
    };
    Ok(read_control_record(&record?)?.control_type == ControlType::Abort)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
