//! Settings of replication, named as in Kafka where Kafka has them.

/// What an acknowledgement with `acks=all` stands for (`conveyor.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced on every in-sync replica.
    Fsync,
    /// In the page cache of every in-sync replica, Kafka's own promise.
    Replicated,
}

/// Settings of one partition's replication. Times are milliseconds by a clock that does not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// `min.insync.replicas`; at least 1. More than there are replicas counts as all of them.
    pub min_insync_replicas: usize,
    /// `conveyor.durability`.
    pub durability: Durability,
    /// `conveyor.replica.sync.lag.ms`: a follower whose *synced* position has not reached the
    /// leader's end for so long is put out of the in-sync set; holds with [`Durability::Fsync`]. A
    /// leader whose own disk is that slow gives up leadership.
    pub sync_lag_ms: i64,
    /// `replica.lag.time.max.ms`: the same for the *fetched* position, with
    /// [`Durability::Replicated`].
    pub fetch_lag_ms: i64,
    /// How long the leader waits for an answer to a proposal before it sends it again, and after a
    /// refusal before it tries another.
    pub proposal_retry_ms: i64,
    /// How long a follower waits for an answer before it asks again; longer than the leader lets a
    /// fetch wait for records.
    pub fetch_timeout_ms: i64,
    /// How long a follower waits after an answer that brought it nothing because of an error
    /// (`replica.fetch.backoff.ms`).
    pub fetch_backoff_ms: i64,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self {
            min_insync_replicas: 1,
            durability: Durability::Fsync,
            sync_lag_ms: 2_000,
            fetch_lag_ms: 30_000,
            proposal_retry_ms: 500,
            fetch_timeout_ms: 2_000,
            fetch_backoff_ms: 100,
        }
    }
}

impl ReplicationConfig {
    /// The lag of the counted position after which a replica is not in sync.
    pub const fn lag_ms(&self) -> i64 {
        match self.durability {
            Durability::Fsync => self.sync_lag_ms,
            Durability::Replicated => self.fetch_lag_ms,
        }
    }
}
