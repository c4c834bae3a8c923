//! The records that keep transactions, as values.
//!
//! One kind, Kafka's `TransactionLogKey` and `TransactionLogValue`; a missing value is a tombstone.
//! Their bytes are described in `codec`. Compaction keeps the last record of each key, so each
//! record says all there is to say about its transactional id.

use crate::{TransactionMetadata, codec};

/// One record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub transactional_id: String,
    /// What is known of it; `None` forgets it.
    pub value: Option<TransactionMetadata>,
}

/// A record's bytes, to be stored as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// The key, by which the topic is compacted.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Record {
    pub(crate) fn new(transactional_id: &str, value: TransactionMetadata) -> Self {
        Self {
            transactional_id: transactional_id.to_owned(),
            value: Some(value),
        }
    }

    pub(crate) fn tombstone(transactional_id: &str) -> Self {
        Self {
            transactional_id: transactional_id.to_owned(),
            value: None,
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> EncodedRecord {
        EncodedRecord {
            key: codec::encode_key(&self.transactional_id),
            value: self.value.as_ref().map(codec::encode_value),
        }
    }

    /// Reads a stored record. `Ok(None)` is a kind that this version does not know and passes over.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, DecodeError> {
        codec::decode(key, value)
    }
}

/// Why the bytes of a record make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early.
    #[error("{field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// The bytes it needs.
        needed: usize,
        /// The bytes there are.
        left: usize,
    },
    /// A field holds what it must not.
    #[error("{field} holds {reason}")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something follows the last field.
    #[error("{left} bytes follow the record's last field")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A value of a version this one cannot read.
    #[error("value has version {version}, up to {supported} can be read")]
    UnsupportedVersion {
        /// Its version.
        version: i16,
        /// The highest known.
        supported: i16,
    },
}
