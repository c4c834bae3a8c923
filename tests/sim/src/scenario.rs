//! What a run is like: drawn from the seed, so that runs differ in kind and not only in detail.

use conveyor_log::disk::SimRng;
use conveyor_record::NodeId;
use conveyor_replication::{Durability, ReplicationConfig};

use crate::faults::FaultKind;
use crate::{MS, Micros, SECOND};

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many brokers; their ids are 1 and up.
    pub brokers: i32,
    /// How many partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replication_factor: usize,
    /// Settings of replication.
    pub replication: ReplicationConfig,
    /// How many producers.
    pub producers: usize,
    /// Pause between a producer's batches.
    pub think_time: Micros,
    /// How long things go wrong.
    pub chaos: Micros,
    /// Mean time between two faults.
    pub fault_interval: Micros,
    /// The kinds of faults of this run.
    pub faults: Vec<FaultKind>,
    /// Missed heartbeats after which a broker is fenced.
    pub session_timeout_ms: i64,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Most bytes in a fetch answer.
    pub fetch_bytes: usize,
    /// Most clock skew, in parts per million.
    pub skew_ppm: i64,
    /// Bytes a log may have above its recovery point.
    pub recovery_bytes: u64,
}

impl Scenario {
    /// Draws one.
    pub fn draw(rng: &mut SimRng) -> Self {
        let brokers = if rng.one_in(4) {
            4 + rng.below(2) as i32
        } else {
            3
        };
        // Any subset of faults, and now and then just one kind: what hides behind others shows.
        let mut faults: Vec<FaultKind> = FaultKind::ALL
            .iter()
            .copied()
            .filter(|_| !rng.one_in(3))
            .collect();
        if rng.one_in(6) || faults.is_empty() {
            faults = vec![FaultKind::ALL[rng.below(FaultKind::ALL.len() as u64) as usize]];
        }
        let min_insync_replicas = if rng.one_in(6) { 1 } else { 2 };
        Self {
            brokers,
            partitions: 1 + rng.below(2) as u32,
            replication_factor: 3,
            replication: ReplicationConfig {
                min_insync_replicas,
                durability: Durability::Fsync,
                sync_lag_ms: 500 + rng.below(1_500) as i64,
                fetch_timeout_ms: 700,
                proposal_retry_ms: 300,
                fetch_backoff_ms: 50,
                ..ReplicationConfig::default()
            },
            producers: 1 + rng.below(2) as usize,
            think_time: (5 + rng.below(60) as Micros) * MS,
            chaos: (4 + rng.below(6) as Micros) * SECOND,
            fault_interval: (80 + rng.below(700) as Micros) * MS,
            faults,
            session_timeout_ms: 400 + rng.below(1_600) as i64,
            segment_bytes: 600 + rng.below(6_000),
            fetch_bytes: 200 + rng.below(3_000) as usize,
            skew_ppm: rng.below(20_000) as i64,
            recovery_bytes: 500 + rng.below(8_000),
        }
    }

    /// The ids of the brokers.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.brokers).map(NodeId)
    }
}
