//! `ListTransactions`: the transactions that a broker coordinates.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// Filters by state, producer, age and name.
    ListTransactionsRequest [0-2, flexible 0+] {
        state_filters: Vec<Text> [0+],
        producer_id_filters: Vec<i64> [0+],
        duration_filter: i64 [1+] = -1,
        transactional_id_pattern: Option<Text> [2+],
    }
}

message! {
    /// The transactions and their states.
    ListTransactionsResponse [0-2, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        unknown_state_filters: Vec<Text> [0+],
        transaction_states: Vec<TransactionState> [0+],
    }
}

structure! {
    /// An element of [`ListTransactionsResponse::transaction_states`].
    TransactionState {
        transactional_id: Text [0+],
        producer_id: i64 [0+],
        transaction_state: Text [0+],
    }
}
