//! RecordBatch v2, the format in which records travel and lie on disk.
//!
//! This crate owns every byte of a batch: the 61-byte header, the records behind it, their
//! compression and the CRC-32C over them. Producers build batches with [`BatchBuilder`], the broker
//! checks them where they lie with [`validate_produce`] and sets base offset and leader epoch with
//! [`stamp_header`], recovery and followers use [`validate_stored`], consumers read records with
//! [`Batch::records`].
//!
//! It knows nothing of partitions, files, sockets or clocks: time comes in as an argument.
//!
//! ```text
//! byte   0            8        12              16      17    21         23                  27
//!        | base offset | length | leader epoch | magic | crc | attributes | last offset delta |
//! byte  27               35              43            51               53
//!        | base timestamp | max timestamp | producer id | producer epoch |
//! byte  53              57             61
//!        | base sequence | record count | records …
//! ```
//! All numbers are big-endian; the length counts what follows byte 12; the CRC covers what follows
//! byte 21, so that base offset and leader epoch can be set without touching it.
//!
//! ```
//! use bytes::Bytes;
//! use conveyor_record::{Batch, BatchBuilder, BatchOptions, Compressor, Decompressor, NewRecord};
//!
//! # fn main() -> Result<(), conveyor_record::BatchError> {
//! let mut builder = BatchBuilder::new(BatchOptions::default());
//! builder.append(&NewRecord {
//!     timestamp_ms: 1_700_000_000_000,
//!     key: Some(b"order-1"),
//!     value: Some(b"picked"),
//!     headers: &[("ce_type", Some(b"task.completed"))],
//! })?;
//! let bytes: Bytes = builder.build(&mut Compressor::new())?;
//!
//! let batch = Batch::parse(bytes)?;
//! for record in batch.records(&mut Decompressor::new(), 1 << 20)? {
//!     assert_eq!(record?.key.as_deref(), Some(&b"order-1"[..]));
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod batch;
pub mod builder;
pub mod checksum;
pub mod compression;
pub mod control;
pub mod error;
pub mod fields;
pub mod header;
pub mod ids;
pub mod meta;
pub mod mutants;
pub mod rebuild;
pub mod recompress;
pub mod record;
pub mod validate;
pub mod varint;

pub use batch::{Batch, BatchView, Batches, OwnedBatches};
pub use builder::{BatchBuilder, BatchOptions, NewRecord};
pub use compression::{Codec, Compressor, Decompressor};
pub use control::{ControlRecord, ControlType, build_end_txn_marker, read_control_record};
pub use error::BatchError;
pub use header::{Attributes, BatchHeader, HEADER_SIZE, TimestampType, stamp_header};
pub use ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId,
};
pub use meta::BatchMeta;
pub use rebuild::{RebuildOptions, Rebuilt, rebuild_batch};
pub use recompress::recompress;
pub use record::{Record, RecordHeader, RecordHeaderView, RecordView, RecordViews, Records};
pub use validate::{
    AppendOrigin, ProduceRules, ValidatedBatch, validate_produce, validate_stored,
    validate_stored_deep,
};

/// "No timestamp" in Kafka's format.
pub const NO_TIMESTAMP: i64 = -1;
/// "No sequence number" in Kafka's format: the batch does not come from an idempotent producer.
pub const NO_SEQUENCE: i32 = -1;
