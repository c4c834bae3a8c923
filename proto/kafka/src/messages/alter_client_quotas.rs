//! `AlterClientQuotas`: sets and removes quotas.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The changes by entity.
    AlterClientQuotasRequest [0-1, flexible 1+] {
        entries: Vec<EntryData> [0+],
        validate_only: bool [0+],
    }
}

structure! {
    /// An element of [`AlterClientQuotasRequest::entries`].
    EntryData {
        entity: Vec<EntityData> [0+],
        ops: Vec<OpData> [0+],
    }
}

structure! {
    /// An element of [`EntryData::entity`].
    EntityData {
        entity_type: Text [0+],
        entity_name: Option<Text> [0+],
    }
}

structure! {
    /// An element of [`EntryData::ops`].
    OpData {
        key: Text [0+],
        value: f64 [0+],
        remove: bool [0+],
    }
}

message! {
    /// The outcome by entity.
    AlterClientQuotasResponse [0-1, flexible 1+] {
        throttle_time_ms: i32 [0+],
        entries: Vec<EntryDataResult> [0+],
    }
}

structure! {
    /// An element of [`AlterClientQuotasResponse::entries`].
    EntryDataResult {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        entity: Vec<EntityData> [0+],
    }
}
