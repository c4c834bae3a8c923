//! Control batches: the markers that end a transaction.
//!
//! A control batch holds one record. Its key is `version i16 | type i16`, the value of an end
//! marker `version i16 | coordinator epoch i32`, as in Kafka's `EndTransactionMarker`. Types that
//! are not known here are kept as a number, since later versions of Kafka have more.

use bytes::Bytes;

use crate::builder::{BatchBuilder, BatchOptions, NewRecord};
use crate::compression::Compressor;
use crate::error::{BatchError, InvalidRecord};
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::RecordView;

const VERSION: i16 = 0;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's open transaction was aborted.
    Abort,
    /// The producer's open transaction was committed.
    Commit,
    /// Something else, to be skipped.
    Other(i16),
}

impl ControlType {
    /// The type with this id.
    pub const fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        }
    }

    /// Its id in the key of the record.
    pub const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }
}

/// A control record, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// What it says.
    pub control_type: ControlType,
    /// Epoch of the transaction coordinator that wrote it, or -1 for other types.
    pub coordinator_epoch: i32,
}

/// Reads the record of a control batch.
///
/// # Errors
/// [`InvalidRecord`] when key or value are not those of a control record.
pub fn read_control_record(record: &RecordView<'_>) -> Result<ControlRecord, BatchError> {
    let fault = |reason| InvalidRecord {
        index: record.offset_delta,
        reason,
    };
    let key = record
        .key
        .and_then(<[u8]>::first_chunk::<4>)
        .ok_or_else(|| fault("control record has no key of 4 bytes"))?;
    let [v0, v1, t0, t1] = *key;
    if i16::from_be_bytes([v0, v1]) < VERSION {
        return Err(fault("control record has a negative key version").into());
    }
    let control_type = ControlType::from_id(i16::from_be_bytes([t0, t1]));
    let coordinator_epoch = match control_type {
        ControlType::Other(_) => -1,
        ControlType::Abort | ControlType::Commit => {
            let value = record
                .value
                .and_then(<[u8]>::first_chunk::<6>)
                .ok_or_else(|| fault("end marker has no value of 6 bytes"))?;
            let [v0, v1, epoch @ ..] = *value;
            if i16::from_be_bytes([v0, v1]) < VERSION {
                return Err(fault("end marker has a negative version").into());
            }
            i32::from_be_bytes(epoch)
        }
    };
    Ok(ControlRecord {
        control_type,
        coordinator_epoch,
    })
}

/// Builds the batch that ends a producer's transaction in one partition; offset and leader epoch
/// are set when it is appended.
///
/// # Errors
/// None that a marker can cause; the builder's are passed on.
pub fn build_end_txn_marker(
    marker: ControlRecord,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    timestamp_ms: i64,
) -> Result<Bytes, BatchError> {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&VERSION.to_be_bytes());
    key[2..].copy_from_slice(&marker.control_type.id().to_be_bytes());
    let mut value = [0; 6];
    value[..2].copy_from_slice(&VERSION.to_be_bytes());
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());

    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch,
        is_transactional: true,
        is_control: true,
        ..BatchOptions::default()
    });
    builder.append(&NewRecord {
        timestamp_ms,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    })?;
    builder.build(&mut Compressor::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchView;
    use crate::compression::Decompressor;
    use crate::{AppendOrigin, ProduceRules, validate_produce};

    fn only_record<T>(batch: &Bytes, read: impl Fn(&RecordView<'_>) -> T) -> T {
        let mut decompressor = Decompressor::new();
        let view = BatchView::parse(batch).unwrap();
        let mut records = view.records(&mut decompressor, 100).unwrap();
        let result = read(&records.next().unwrap().unwrap());
        assert!(records.next().is_none());
        result
    }

    #[test]
    fn markers_read_back_as_written() {
        for control_type in [ControlType::Abort, ControlType::Commit] {
            let marker = ControlRecord {
                control_type,
                coordinator_epoch: 12,
            };
            let batch =
                build_end_txn_marker(marker, ProducerId(7), ProducerEpoch(2), 1000).unwrap();
            assert_eq!(only_record(&batch, read_control_record), Ok(marker));

            let header = *BatchView::parse(&batch).unwrap().header();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!(header.base_sequence, crate::NO_SEQUENCE);
            let rules = ProduceRules {
                origin: AppendOrigin::Coordinator,
                now_ms: 1000,
                ..ProduceRules::default()
            };
            assert!(validate_produce(&batch, &rules, &mut Decompressor::new()).is_ok());
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        let marker = ControlRecord {
            control_type: ControlType::Commit,
            coordinator_epoch: 3,
        };
        let batch = build_end_txn_marker(marker, ProducerId(7), ProducerEpoch(2), 1000).unwrap();
        only_record(&batch, |record| {
            assert_eq!(record.key, Some(&[0, 0, 0, 1][..]));
            assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 3][..]));
        });
    }

    #[test]
    fn other_types_are_kept_and_broken_ones_refused() {
        let read = |key: Option<&[u8]>, value: Option<&[u8]>| {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder
                .append(&NewRecord {
                    timestamp_ms: 0,
                    key,
                    value,
                    headers: &[],
                })
                .unwrap();
            let batch = builder.build(&mut Compressor::new()).unwrap();
            only_record(&batch, read_control_record)
        };
        let leader_change = read(Some(&[0, 0, 0, 2]), Some(b"whatever")).unwrap();
        assert_eq!(leader_change.control_type, ControlType::Other(2));
        assert!(read(None, None).is_err());
        assert!(read(Some(&[0, 0, 0]), None).is_err());
        assert!(read(Some(&[0, 0, 0, 1]), None).is_err());
        assert!(read(Some(&[0, 0, 0, 1]), Some(&[0; 5])).is_err());
        assert!(read(Some(&[0xff, 0xff, 0, 1]), Some(&[0; 6])).is_err());
        assert!(read(Some(&[0, 0, 0, 1]), Some(&[0xff, 0xff, 0, 0, 0, 1])).is_err());
    }
}
