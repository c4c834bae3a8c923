//! `DescribeClientQuotas`: quotas by filter.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The filter.
    DescribeClientQuotasRequest [0-1, flexible 1+] {
        components: Vec<ComponentData> [0+],
        strict: bool [0+],
    }
}

structure! {
    /// An element of [`DescribeClientQuotasRequest::components`].
    ComponentData {
        entity_type: Text [0+],
        match_type: i8 [0+],
        r#match: Option<Text> [0+],
    }
}

message! {
    /// The quotas that match.
    DescribeClientQuotasResponse [0-1, flexible 1+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        entries: Option<Vec<EntryData>> [0+],
    }
}

structure! {
    /// An element of [`DescribeClientQuotasResponse::entries`].
    EntryData {
        entity: Vec<EntityData> [0+],
        values: Vec<ValueData> [0+],
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
    /// An element of [`EntryData::values`].
    ValueData {
        key: Text [0+],
        value: f64 [0+],
    }
}
