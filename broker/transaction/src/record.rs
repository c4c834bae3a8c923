//! The records that keep transactions, as values.
//!
//! One kind, Kafka's `TransactionLogKey` and `TransactionLogValue`; a missing value is a tombstone.
//! Their bytes are described in `codec`. Compaction keeps the last record of each key, so each
//! record says all there is to say about its transactional id.

use conveyor_record::fields::{DecodeError, EncodedRecord};

use crate::{TransactionMetadata, codec};

/// One record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub transactional_id: String,
    /// What is known of it; `None` forgets it.
    pub value: Option<TransactionMetadata>,
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
