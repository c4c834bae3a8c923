//! The structures; names and numbers are those of `eraftpb.proto`, since `raft` uses them by name.

use bytes::Bytes;

use crate::accessors::accessors;

/// What an entry carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// Data of the application, or nothing: the mark of a new term.
    #[default]
    EntryNormal,
    /// A [`ConfChange`].
    EntryConfChange,
    /// A [`ConfChangeV2`].
    EntryConfChangeV2,
}

/// The kind of a message.
#[allow(missing_docs, reason = "the names are those of Raft's own messages")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MessageType {
    #[default]
    MsgHup,
    MsgBeat,
    MsgPropose,
    MsgAppend,
    MsgAppendResponse,
    MsgRequestVote,
    MsgRequestVoteResponse,
    MsgSnapshot,
    MsgHeartbeat,
    MsgHeartbeatResponse,
    MsgUnreachable,
    MsgSnapStatus,
    MsgCheckQuorum,
    MsgTransferLeader,
    MsgTimeoutNow,
    MsgReadIndex,
    MsgReadIndexResp,
    MsgRequestPreVote,
    MsgRequestPreVoteResponse,
}

/// How a change of the members is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeTransition {
    /// In one step if one member changes, else through a joint configuration that ends by itself.
    #[default]
    Auto,
    /// Through a joint configuration that ends by itself.
    Implicit,
    /// Through a joint configuration that the application ends.
    Explicit,
}

/// What happens to one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeType {
    /// It becomes a voter.
    #[default]
    AddNode,
    /// It leaves.
    RemoveNode,
    /// It becomes a learner: it gets the log and has no vote.
    AddLearnerNode,
}

/// One entry of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it carries.
    pub entry_type: EntryType,
    /// The term in which it was appended.
    pub term: u64,
    /// Its position in the log, from 1.
    pub index: u64,
    /// What it carries, as bytes.
    pub data: Bytes,
    /// Not used by us.
    pub context: Bytes,
    /// Not used by anybody.
    pub sync_log: bool,
}

accessors!(Entry {
    copy entry_type: EntryType, get_entry_type set_entry_type mut_entry_type take_entry_type;
    copy term: u64, get_term set_term mut_term take_term;
    copy index: u64, get_index set_index mut_index take_index;
    bytes data: Bytes, get_data set_data mut_data take_data;
    bytes context: Bytes, get_context set_context mut_context take_context;
});

/// The members at some index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Members whose vote counts.
    pub voters: Vec<u64>,
    /// Members that only get the log.
    pub learners: Vec<u64>,
    /// The voters of the configuration that is being left, if one is.
    pub voters_outgoing: Vec<u64>,
    /// Members that become learners once it has been left.
    pub learners_next: Vec<u64>,
    /// Whether it is left without being asked.
    pub auto_leave: bool,
}

accessors!(ConfState {
    list voters: Vec<u64>, get_voters set_voters mut_voters take_voters;
    list learners: Vec<u64>, get_learners set_learners mut_learners take_learners;
    list voters_outgoing: Vec<u64>, get_voters_outgoing set_voters_outgoing mut_voters_outgoing take_voters_outgoing;
    list learners_next: Vec<u64>, get_learners_next set_learners_next mut_learners_next take_learners_next;
    copy auto_leave: bool, get_auto_leave set_auto_leave mut_auto_leave take_auto_leave;
});

/// What a snapshot stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The members at its index.
    pub conf_state: ConfState,
    /// The last entry it includes.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
}

accessors!(SnapshotMetadata {
    message conf_state: ConfState, get_conf_state set_conf_state mut_conf_state take_conf_state;
    copy index: u64, get_index set_index mut_index take_index;
    copy term: u64, get_term set_term mut_term take_term;
});

/// The state up to some index, in place of the entries up to there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The state as bytes.
    pub data: Bytes,
    /// What it stands for.
    pub metadata: SnapshotMetadata,
}

accessors!(Snapshot {
    bytes data: Bytes, get_data set_data mut_data take_data;
    message metadata: SnapshotMetadata, get_metadata set_metadata mut_metadata take_metadata;
});

impl Snapshot {
    /// Whether it is none: no entry has index 0.
    pub fn is_empty(&self) -> bool {
        self.metadata.index == 0
    }
}

/// A message between members, or from a node to itself.
#[allow(
    missing_docs,
    reason = "the meaning of a field depends on the kind of message"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub msg_type: MessageType,
    pub to: u64,
    pub from: u64,
    pub term: u64,
    pub log_term: u64,
    pub index: u64,
    pub entries: Vec<Entry>,
    pub commit: u64,
    pub commit_term: u64,
    pub snapshot: Snapshot,
    pub request_snapshot: u64,
    pub reject: bool,
    pub reject_hint: u64,
    pub context: Bytes,
    pub deprecated_priority: u64,
    pub priority: i64,
}

accessors!(Message {
    copy msg_type: MessageType, get_msg_type set_msg_type mut_msg_type take_msg_type;
    copy to: u64, get_to set_to mut_to take_to;
    copy from: u64, get_from set_from mut_from take_from;
    copy term: u64, get_term set_term mut_term take_term;
    copy log_term: u64, get_log_term set_log_term mut_log_term take_log_term;
    copy index: u64, get_index set_index mut_index take_index;
    list entries: Vec<Entry>, get_entries set_entries mut_entries take_entries;
    copy commit: u64, get_commit set_commit mut_commit take_commit;
    copy commit_term: u64, get_commit_term set_commit_term mut_commit_term take_commit_term;
    message snapshot: Snapshot, get_snapshot set_snapshot mut_snapshot take_snapshot;
    copy request_snapshot: u64, get_request_snapshot set_request_snapshot mut_request_snapshot take_request_snapshot;
    copy reject: bool, get_reject set_reject mut_reject take_reject;
    copy reject_hint: u64, get_reject_hint set_reject_hint mut_reject_hint take_reject_hint;
    bytes context: Bytes, get_context set_context mut_context take_context;
    copy deprecated_priority: u64, get_deprecated_priority set_deprecated_priority mut_deprecated_priority take_deprecated_priority;
    copy priority: i64, get_priority set_priority mut_priority take_priority;
});

/// What must be on disk before messages that depend on it leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HardState {
    /// The present term.
    pub term: u64,
    /// Whom this node has voted for in that term, 0 for nobody.
    pub vote: u64,
    /// Up to where entries are committed, as far as is known.
    pub commit: u64,
}

accessors!(HardState {
    copy term: u64, get_term set_term mut_term take_term;
    copy vote: u64, get_vote set_vote mut_vote take_vote;
    copy commit: u64, get_commit set_commit mut_commit take_commit;
});

/// The older form of a change of members; `raft` still reads it, we never write it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens to the member.
    pub change_type: ConfChangeType,
    /// The member.
    pub node_id: u64,
    /// The application's own words.
    pub context: Bytes,
    /// Not used by us.
    pub id: u64,
}

accessors!(ConfChange {
    copy change_type: ConfChangeType, get_change_type set_change_type mut_change_type take_change_type;
    copy node_id: u64, get_node_id set_node_id mut_node_id take_node_id;
    bytes context: Bytes, get_context set_context mut_context take_context;
});

/// What happens to one member within a [`ConfChangeV2`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What happens.
    pub change_type: ConfChangeType,
    /// The member.
    pub node_id: u64,
}

accessors!(ConfChangeSingle {
    copy change_type: ConfChangeType, get_change_type set_change_type mut_change_type take_change_type;
    copy node_id: u64, get_node_id set_node_id mut_node_id take_node_id;
});

/// A change of members: of one in one step, of several through a joint configuration. Without any
/// change it leaves the joint configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfChangeV2 {
    /// How it is carried out.
    pub transition: ConfChangeTransition,
    /// What happens to whom.
    pub changes: Vec<ConfChangeSingle>,
    /// The application's own words.
    pub context: Bytes,
}

accessors!(ConfChangeV2 {
    copy transition: ConfChangeTransition, get_transition set_transition mut_transition take_transition;
    list changes: Vec<ConfChangeSingle>, get_changes set_changes mut_changes take_changes;
    bytes context: Bytes, get_context set_context mut_context take_context;
});
