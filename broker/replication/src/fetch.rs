//! What a follower and its leader say to each other. Records travel beside it; here are their places.

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, Offset};

/// A follower asks for what follows its log, and thereby says how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRequest {
    /// Who asks.
    pub replica: NodeId,
    /// Its incarnation (KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// The leadership it believes in.
    pub leader_epoch: LeaderEpoch,
    /// Counts the follower's requests of this leadership; the answer repeats it.
    pub sequence: u64,
    /// Its log end offset: all below is in its page cache.
    pub fetch_offset: Offset,
    /// Epoch of its last record, or -1 with an empty log (KIP-595).
    pub last_epoch: LeaderEpoch,
    /// All below is on its disk; at most `fetch_offset`.
    pub synced_offset: Offset,
}

/// A follower tells that its disk has caught up, while its fetch waits at the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncReport {
    /// Who tells.
    pub replica: NodeId,
    /// Its incarnation.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub leader_epoch: LeaderEpoch,
    /// All below is on its disk.
    pub synced_offset: Offset,
}

/// What a leader makes of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchVerdict {
    /// The logs agree up to the offset asked for: records from there on may be sent, also none yet.
    Serve {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start offset.
        log_start: Offset,
    },
    /// The logs part before the offset asked for (`DivergingEpoch` of KIP-595). The largest epoch of
    /// the leader not above the follower's last one, and where it ends.
    Diverging {
        /// That epoch.
        epoch: LeaderEpoch,
        /// Its end offset at the leader.
        end_offset: Offset,
    },
    /// The leader no longer has what follows the follower's log, or the follower's empty log lies
    /// beyond the leader's end: begin anew at the log start (`OFFSET_OUT_OF_RANGE`).
    OutOfRange {
        /// The leader's log start offset.
        log_start: Offset,
    },
    /// The follower believes in an older leadership (`FENCED_LEADER_EPOCH`).
    FencedLeaderEpoch,
    /// The follower knows of a newer leadership (`UNKNOWN_LEADER_EPOCH`).
    UnknownLeaderEpoch,
    /// This broker does not lead the partition (`NOT_LEADER_OR_FOLLOWER`).
    NotLeader,
    /// The follower's incarnation has been replaced (`STALE_BROKER_EPOCH`).
    StaleBrokerEpoch,
    /// The follower is not among the replicas (`REPLICA_NOT_AVAILABLE`).
    NotReplica,
}

/// The records that came with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset behind the last one.
    pub next_offset: Offset,
}

/// The answer to a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchAnswer {
    /// The `sequence` of the request.
    pub sequence: u64,
    /// The leadership under which it was given.
    pub leader_epoch: LeaderEpoch,
    /// What the leader made of the request.
    pub verdict: FetchVerdict,
    /// The records, if any came.
    pub records: Option<RecordSpan>,
}
