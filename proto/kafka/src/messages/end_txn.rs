//! `EndTxn`: commits or aborts a transaction.

use crate::table::message;
use crate::text::Text;

message! {
    /// The transaction and how it shall end.
    EndTxnRequest [0-5, flexible 3+] {
        transactional_id: Text [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        committed: bool [0+],
    }
}

message! {
    /// The outcome; from version 5 on the producer's next epoch.
    EndTxnResponse [0-5, flexible 3+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        producer_id: i64 [5+, ignorable] = -1,
        producer_epoch: i16 [5+, ignorable] = -1,
    }
}
