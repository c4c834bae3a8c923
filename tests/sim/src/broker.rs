//! A broker: a disk, and while it runs a data directory, a log and a replica for each partition.
//!
//! It is the shell around the rules, as the real broker will be: it carries out what they command and
//! decides nothing itself. [`lifecycle`] starts and stops it, [`metadata`] follows the controller,
//! [`leading`] and [`following`] are the two sides of replication, [`shadow`] is the oracle's
//! knowledge of each log.

use std::collections::BTreeMap;

use conveyor_controller::brokers::registration::DiskState;
use conveyor_log::disk::SimDisk;
use conveyor_log::{DataDir, GroupCommit, Log, LogReader};
use conveyor_record::{LeaderEpoch, NodeId, Offset};
use conveyor_replication::{EpochHistory, FetchRequest, Incarnation, LogState, Replica};

use crate::Micros;
use crate::clock::NodeClock;
use crate::controller::Image;
use crate::message::{Address, PartitionId};

mod following;
mod leading;
mod lifecycle;
mod metadata;
pub mod shadow;

pub(crate) use lifecycle::SYNC_TIME;
use shadow::Shadow;

/// Where every simulated disk has its data directory.
pub const DIRECTORY: &str = "/data";

/// The topic of all partitions.
pub const TOPIC: &str = "orders";

/// One broker, up or down.
#[derive(Debug)]
pub struct BrokerNode {
    /// Its id.
    pub node: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    /// The first start with that disk: 1, or later if an earlier disk was lost.
    pub first_start: u64,
    /// Its clock.
    pub clock: NodeClock,
    /// It stands still until then.
    pub paused_until: Micros,
    /// How long a round of syncs takes at most.
    pub sync_time: Micros,
    /// Counts its starts.
    pub start: u64,
    /// What is known of its logs, up or down.
    pub shadows: BTreeMap<PartitionId, Shadow>,
    running: Option<Running>,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Running {
    dir: DataDir,
    commit: GroupCommit,
    copies: BTreeMap<PartitionId, Copy>,
    /// Known once it has registered.
    me: Option<Incarnation>,
    /// What the disk held at the start.
    found: DiskState,
    image: Image,
    metadata_asked: Option<Micros>,
    registration_asked: Option<Micros>,
    heartbeat_sent: Option<Micros>,
    /// A round of syncs is under way.
    syncing: bool,
    dirty: bool,
    /// Something beside the logs could not be written: the process ends.
    failed: bool,
}

/// A partition's log and role.
#[derive(Debug)]
pub(crate) struct Copy {
    log: Log,
    reader: LogReader,
    replica: Option<Replica>,
    /// Fetches that wait for records.
    parked: Vec<Parked>,
    /// Producers that wait for their records to be committed.
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Parked {
    from: Address,
    request: FetchRequest,
    since: Micros,
    high_watermark: Offset,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    from: Address,
    batch: u64,
    base: Offset,
    end: Offset,
}

/// A log's epochs as the rules want to see them.
struct Epochs<'a>(&'a LogReader);

impl EpochHistory for Epochs<'_> {
    fn last_epoch(&self) -> Option<LeaderEpoch> {
        let (start, end) = (self.0.log_start_offset(), self.0.log_end_offset());
        // Not the latest of the history: an epoch is noted before its first record.
        (start < end)
            .then(|| self.0.leader_epoch_at(end - 1))
            .flatten()
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let found = self.0.end_offset_for_epoch(epoch)?;
        Some((found.leader_epoch, found.end_offset))
    }
}

impl Copy {
    fn new(log: Log) -> Self {
        Self {
            reader: log.reader(),
            log,
            replica: None,
            parked: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn state(&self) -> LogState {
        LogState {
            start: self.reader.log_start_offset(),
            end: self.reader.log_end_offset(),
            synced: self.reader.synced_offset(),
            high_watermark: self.reader.high_watermark(),
            last_epoch: Epochs(&self.reader)
                .last_epoch()
                .unwrap_or(LeaderEpoch::NONE),
        }
    }
}

impl BrokerNode {
    /// Whether an earlier disk of it was lost.
    pub const fn was_wiped(&self) -> bool {
        self.first_start > 1
    }

    /// Its end of the network.
    pub const fn address(&self) -> Address {
        Address::Broker(self.node)
    }

    /// Whether it runs.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The start, end and high watermark of its copy of a partition, while it runs.
    pub fn log_state(&self, partition: PartitionId) -> Option<LogState> {
        let running = self.running.as_ref()?;
        running.copies.get(&partition).map(Copy::state)
    }

    /// The leadership it has of a partition, while it runs.
    pub fn leadership(&self, partition: PartitionId) -> Option<&conveyor_replication::Leader> {
        let running = self.running.as_ref()?;
        running.copies.get(&partition)?.replica.as_ref()?.leader()
    }

    /// A reader of its copy of a partition, while it runs.
    pub fn reader(&self, partition: PartitionId) -> Option<LogReader> {
        let running = self.running.as_ref()?;
        running
            .copies
            .get(&partition)
            .map(|copy| copy.reader.clone())
    }

    /// How far it has applied the metadata, while it runs.
    pub fn applied(&self) -> Option<(i64, &Image)> {
        let running = self.running.as_ref()?;
        Some((running.image.offset(), &running.image))
    }
}
