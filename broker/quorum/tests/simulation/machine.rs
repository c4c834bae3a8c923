//! One machine: a disk, a clock, and the process that hosts a member of the quorum.

use std::collections::BTreeMap;
use std::path::Path;

use conveyor_log::disk::SimDisk;
use conveyor_quorum::node::ReadId;
use conveyor_quorum::raft::RaftConfig;
use conveyor_quorum::{EmptyStore, Formation, LogPosition, NodeConfig, QuorumNode, VoterId};
use uuid::Uuid;

pub(crate) const DIR: &str = "/data/quorum";
pub(crate) const TICK_MS: i64 = 20;

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

pub(crate) fn config(seed: u64) -> NodeConfig {
    NodeConfig {
        tick_ms: TICK_MS,
        raft: RaftConfig {
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed,
            message_bytes_max: 4 << 10,
            messages_in_flight_max: 8,
            uncommitted_bytes_max: 64 << 10,
            log_bytes_max: 1 << 20,
        },
        snapshot_after_entries: 25,
        keep_entries: 6,
        snapshot_retry_ticks: 40,
    }
}

/// What the process is at.
#[derive(Debug)]
pub(crate) enum Life {
    /// Not there.
    Down,
    /// Has an empty folder.
    Forming(Box<(EmptyStore, Formation)>),
    /// A member.
    Running(Box<QuorumNode>),
    /// Refuses to start on a damaged disk.
    Refused,
    /// Does not belong to the cluster.
    Away,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node_id: i32,
    pub(crate) disk: SimDisk,
    pub(crate) life: Life,
    /// Counts processes.
    pub(crate) lives: u64,
    pub(crate) directory_id: Uuid,
    /// Whether somebody has flipped a bit of this disk.
    pub(crate) tampered: bool,
    /// Whether the process stands still.
    pub(crate) frozen: bool,
    /// Packets that wait for it to go on.
    pub(crate) inbox: Vec<(i32, super::network::Packet)>,
    /// Its clock: thousandths of true speed, and how far it is off.
    pub(crate) speed: i64,
    pub(crate) offset_ms: i64,
    pub(crate) applied: u64,
    pub(crate) state: u64,
    /// Where a voter was last heard from.
    pub(crate) routes: BTreeMap<VoterId, i32>,
    /// What a read must see.
    pub(crate) reads: BTreeMap<ReadId, u64>,
    /// Who asked to be taken in, by the place of the proposal.
    pub(crate) joining: BTreeMap<LogPosition, (i32, Uuid)>,
    /// Whether work waits for a later moment.
    pub(crate) pump_planned: bool,
}

impl Machine {
    pub(crate) fn new(node_id: i32, seed: u64) -> Self {
        Self {
            node_id,
            disk: SimDisk::new(seed),
            life: Life::Away,
            lives: 0,
            directory_id: Uuid::nil(),
            tampered: false,
            frozen: false,
            inbox: Vec::new(),
            speed: 1_000,
            offset_ms: 0,
            applied: 0,
            state: 0,
            routes: BTreeMap::new(),
            reads: BTreeMap::new(),
            joining: BTreeMap::new(),
            pump_planned: false,
        }
    }

    /// What its clock says.
    pub(crate) fn clock(&self, now_ms: i64) -> i64 {
        now_ms * self.speed / 1_000 + self.offset_ms
    }

    pub(crate) fn node(&mut self) -> Option<&mut QuorumNode> {
        match &mut self.life {
            Life::Running(node) => Some(node),
            _ => None,
        }
    }

    /// Who its disk says it is, while it runs.
    pub(crate) fn voter_id(&self) -> Option<VoterId> {
        match &self.life {
            Life::Running(node) => Some(node.identity().voter_id),
            _ => None,
        }
    }

    /// The process is gone with all it remembered.
    pub(crate) fn forget(&mut self) {
        self.life = Life::Down;
        self.frozen = false;
        self.inbox.clear();
        self.routes.clear();
        self.reads.clear();
        self.joining.clear();
    }
}
