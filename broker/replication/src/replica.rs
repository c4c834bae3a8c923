//! What one broker is to one partition: leader, follower or neither, by the controller's latest word.
//!
//! Metadata reaches a broker as a log that it replays, from an old place after a restart. So an
//! assignment may be older than one that was acted on, and older than this incarnation of the broker:
//! a leadership from before a restart must not be taken up again, since the log may have lost its
//! tail meanwhile. Invariant: (leader epoch, partition epoch) never go back, and nothing is led or
//! followed by metadata from before the own registration.

use std::collections::BTreeMap;

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, mutants};

use crate::config::ReplicationConfig;
use crate::follower::Follower;
use crate::leader::{Leader, LeaderCommand};

/// One life of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Which broker.
    pub node: NodeId,
    /// Which registration of it.
    pub epoch: BrokerEpoch,
}

/// What the controller says of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerState {
    /// Its present incarnation.
    pub epoch: BrokerEpoch,
    /// Whether it may join in-sync sets: neither fenced nor shutting down (KIP-841).
    pub eligible: bool,
}

/// What the controller says of all brokers.
pub type Brokers = BTreeMap<NodeId, BrokerState>;

/// What the controller has decided of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Who has a copy, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Who is in sync.
    pub in_sync: Vec<NodeId>,
    /// Who leads, or -1.
    pub leader: NodeId,
    /// The term of that leader.
    pub leader_epoch: LeaderEpoch,
    /// The version of this record.
    pub partition_epoch: PartitionEpoch,
    /// The leader was chosen from outside the in-sync set, by hand, accepting loss (KIP-704): its
    /// followers may have to cut what was committed.
    pub recovering: bool,
}

/// Where a log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Log start offset.
    pub start: Offset,
    /// Log end offset.
    pub end: Offset,
    /// Everything below is on disk.
    pub synced: Offset,
    /// Everything below is known to be committed.
    pub high_watermark: Offset,
    /// Epoch of the last record, or -1 in an empty log.
    pub last_epoch: LeaderEpoch,
}

/// What a broker does for a partition.
#[derive(Debug, Clone)]
pub enum Role {
    /// Nothing: there is no leader, or no copy belongs here.
    Idle,
    /// It leads.
    Leader(Box<Leader>),
    /// It follows.
    Follower(Box<Follower>),
}

/// What a piece of metadata changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChange {
    /// It was older than what is known, or than the own registration.
    Ignored,
    /// The role is what it was.
    Same,
    /// A new leadership of this broker began.
    Leads,
    /// It follows a new leadership.
    Follows,
    /// It does nothing any more.
    Idles,
}

/// One broker's copy of one partition.
#[derive(Debug, Clone)]
pub struct Replica {
    me: Incarnation,
    /// Place of the own registration in the metadata.
    registered_at: i64,
    config: ReplicationConfig,
    latest: Option<(LeaderEpoch, PartitionEpoch)>,
    role: Role,
}

impl Replica {
    /// A copy without a role. `registered_at` is the place in the metadata from which on this
    /// incarnation of the broker is known.
    pub const fn new(me: Incarnation, registered_at: i64, config: ReplicationConfig) -> Self {
        Self {
            me,
            registered_at,
            config,
            latest: None,
            role: Role::Idle,
        }
    }

    /// What it does.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The leadership here, if this broker leads.
    pub fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Idle => None,
        }
    }

    /// The same, to tell it something.
    pub fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Idle => None,
        }
    }

    /// The following, if this broker follows.
    pub fn follower(&self) -> Option<&Follower> {
        match &self.role {
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Idle => None,
        }
    }

    /// The same, to tell it something.
    pub fn follower_mut(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Idle => None,
        }
    }

    /// Takes the state of the partition as of place `at` in the metadata.
    pub fn metadata_changed(
        &mut self,
        at: i64,
        state: &PartitionState,
        brokers: &Brokers,
        log: &LogState,
        now_ms: i64,
        out: &mut Vec<LeaderCommand>,
    ) -> RoleChange {
        let own_news = at >= self.registered_at || mutants::on("metadata-before-registration");
        let version = (state.leader_epoch, state.partition_epoch);
        if !own_news || self.latest.is_some_and(|latest| version < latest) {
            return RoleChange::Ignored;
        }
        let same_leadership = self
            .latest
            .is_some_and(|(epoch, _)| epoch == state.leader_epoch);
        self.latest = Some(version);
        let is_replica = state.replicas.contains(&self.me.node);
        if !is_replica || !state.leader.is_some() {
            return self.idle();
        }
        match &mut self.role {
            Role::Leader(leader) if same_leadership => {
                leader.metadata_changed(state, brokers, now_ms, out);
                RoleChange::Same
            }
            Role::Follower(_) if same_leadership => RoleChange::Same,
            _ if state.leader == self.me.node => {
                self.role = Role::Leader(Box::new(Leader::begin(
                    self.me,
                    self.config,
                    state,
                    brokers,
                    log,
                    now_ms,
                    out,
                )));
                RoleChange::Leads
            }
            _ => {
                self.role =
                    Role::Follower(Box::new(Follower::begin(self.me, self.config, state, log)));
                RoleChange::Follows
            }
        }
    }

    fn idle(&mut self) -> RoleChange {
        if matches!(self.role, Role::Idle) {
            return RoleChange::Same;
        }
        self.role = Role::Idle;
        RoleChange::Idles
    }
}

#[cfg(test)]
mod tests;
