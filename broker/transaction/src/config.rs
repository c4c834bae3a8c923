//! Settings of a coordinator, under Kafka's names.

/// How a coordinator treats its transactions. Built and checked by the caller, the same for all
/// shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: the longest time-out that a producer may ask for.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: an id that is idle this long is forgotten.
    pub expiration_ms: i64,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            expiration_ms: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}
