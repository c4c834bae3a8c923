//! Settings of a coordinator, under Kafka's names.

/// How a coordinator treats its groups. Built and checked by the caller, the same for all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.consumer.session.timeout.ms`: a member that is silent this long is removed.
    pub session_timeout_ms: i64,
    /// `group.consumer.heartbeat.interval.ms`: what members are told to keep to.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members that a group may have.
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first members of a classic group wait for
    /// others.
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`: the shortest session a classic member may ask for.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: the longest session a classic member may ask for.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members that a classic group may have.
    pub classic_max_size: usize,
    /// `offset.metadata.max.bytes`: size of the text kept with an offset, in bytes.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets are kept once their group is
    /// empty, or once it no longer subscribes to their topic.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often that is looked at.
    pub offsets_retention_check_interval_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: 10_000,
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            classic_max_size: 10_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
