//! `InitProducerId`: gives a producer its id and epoch.

use crate::table::message;
use crate::text::Text;

message! {
    /// The transactional id, or none for a producer that is only idempotent.
    InitProducerIdRequest [0-5, flexible 2+] {
        transactional_id: Option<Text> [0+],
        transaction_timeout_ms: i32 [0+],
        producer_id: i64 [3+] = -1,
        producer_epoch: i16 [3+] = -1,
    }
}

message! {
    /// The producer id and its epoch.
    InitProducerIdResponse [0-5, flexible 2+] {
        throttle_time_ms: i32 [0+, ignorable],
        error_code: i16 [0+],
        producer_id: i64 [0+] = -1,
        producer_epoch: i16 [0+],
    }
}
