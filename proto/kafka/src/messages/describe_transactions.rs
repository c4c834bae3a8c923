//! `DescribeTransactions`: state of transactions by transactional id.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The transactional ids.
    DescribeTransactionsRequest [0-0, flexible 0+] {
        transactional_ids: Vec<Text> [0+],
    }
}

message! {
    /// The transactions.
    DescribeTransactionsResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        transaction_states: Vec<TransactionState> [0+],
    }
}

structure! {
    /// An element of [`DescribeTransactionsResponse::transaction_states`].
    TransactionState {
        error_code: i16 [0+],
        transactional_id: Text [0+],
        transaction_state: Text [0+],
        transaction_timeout_ms: i32 [0+],
        transaction_start_time_ms: i64 [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        topics: Vec<TopicData> [0+],
    }
}

structure! {
    /// An element of [`TransactionState::topics`].
    TopicData {
        topic: Text [0+],
        partitions: Vec<i32> [0+],
    }
}
