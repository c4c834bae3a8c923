//! `AddOffsetsToTxn`: enlists a group's offsets in a transaction.

use crate::table::message;
use crate::text::Text;

message! {
    /// The transaction and the group.
    AddOffsetsToTxnRequest [0-4, flexible 3+] {
        transactional_id: Text [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        group_id: Text [0+],
    }
}

message! {
    /// The outcome.
    AddOffsetsToTxnResponse [0-4, flexible 3+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
    }
}
