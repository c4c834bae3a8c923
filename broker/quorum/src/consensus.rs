//! What the node asks of consensus: the few calls behind which raft-rs is.
//!
//! A round goes: tick, step and propose as often as one likes; then [`Consensus::ready`] gives what
//! to write and which messages may leave at once; the store writes and syncs and says so by a
//! [`Synced`]; only with that in hand does [`Consensus::synced`] give what had to wait for the disk:
//! the other messages, what is committed, and which reads may be answered. So the type of the
//! argument keeps the order that all of Raft's safety rests on.

use bytes::Bytes;

use crate::entry::{Entry, HardState, LogPosition, Snapshot};
use crate::membership::{Membership, MembershipError, MembershipRequest, VoterId};
use crate::message::Message;
use crate::store::Synced;

/// What to make durable in one round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// Term and vote, if they have changed or the commit index has.
    pub hard_state: Option<HardState>,
    /// Replaces the whole log.
    pub snapshot: Option<Snapshot>,
    /// Follow one another. The first may be below the end of the log: what it replaces goes.
    pub entries: Vec<Entry>,
}

/// What has to be done before consensus can go on.
#[derive(Debug, Default)]
pub struct Ready {
    /// May leave before anything is written: a leader's entries, so that its followers' syncs overlap
    /// with its own.
    pub messages: Vec<Message>,
    /// Must not leave before `write` is synced.
    pub(crate) after_sync: Vec<Message>,
    /// What to make durable.
    pub(crate) write: Write,
}

/// What is certain once a round was synced.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Messages that had to wait for the disk.
    pub messages: Vec<Message>,
    /// What was committed, in the order of the log.
    pub committed: Vec<Committed>,
    /// Rounds of reads that a majority has confirmed, each with the index that must have been applied
    /// before it is answered.
    pub reads: Vec<ConfirmedRead>,
}

/// A piece of committed state, to be applied in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The state up to here, in place of what was there.
    Snapshot(Snapshot),
    /// An entry of the application. The first entry of a term is empty.
    Entry(Entry),
    /// The members have changed.
    Membership {
        /// Where.
        position: LogPosition,
        /// As they are now.
        membership: Membership,
        /// Whether the entry was left without effect, because it did not fit the members there were.
        refused: Option<MembershipError>,
    },
}

impl Committed {
    /// Where in the log it stands.
    pub fn position(&self) -> LogPosition {
        match self {
            Self::Snapshot(snapshot) => snapshot.last,
            Self::Entry(entry) => LogPosition {
                term: entry.term,
                index: entry.index,
            },
            Self::Membership { position, .. } => *position,
        }
    }
}

/// A round of reads after which a leader knows that it still was the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmedRead {
    /// The round.
    pub round: u64,
    /// What was committed when it began.
    pub index: u64,
}

/// What a node is to its quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader of that term, if it knows one.
    pub leader: Option<VoterId>,
    /// Up to where the log is committed.
    pub commit: u64,
    /// Up to where the log has been handed out.
    pub applied: u64,
    /// The last entry of the log.
    pub last: LogPosition,
}

/// How far a member is, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its log agrees with the leader's and is synced up to here.
    pub matched: u64,
    /// Whether it has answered within the last election time-out.
    pub active: bool,
    /// Whether it is being sent a snapshot.
    pub in_snapshot: bool,
}

/// Why a proposal, a read or a change was not taken. All but the last two are worth another try, at
/// another node or later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only the leader takes it.
    #[error("voter {local} is not the leader of term {term}; the leader is {}", name(.leader.as_ref()))]
    NotLeader {
        /// Who was asked.
        local: VoterId,
        /// Its term.
        term: u64,
        /// Whom to ask, if it knows.
        leader: Option<VoterId>,
    },
    /// The leader has not committed anything in its term yet, so it does not know what is committed.
    #[error("the leader of term {term} has not committed an entry of its term yet; try again soon")]
    NotYet {
        /// The term.
        term: u64,
    },
    /// The leader is handing over.
    #[error("the leader is handing over to another; try again at the next one")]
    HandingOver,
    /// More is under way than may be.
    #[error(
        "more is proposed and not yet committed or covered by a snapshot than the quorum takes; try again later"
    )]
    TooMuch,
    /// Another change of the members is not through yet.
    #[error("another change of the members is under way; try again when it is done")]
    ChangePending,
    /// A learner lags behind.
    #[error(
        "voter {voter_id} has {matched} of {commit} entries: it is promoted when it has caught up"
    )]
    NotCaughtUp {
        /// The learner.
        voter_id: VoterId,
        /// How much of the log it has.
        matched: u64,
        /// How much is committed.
        commit: u64,
    },
    /// A leader cannot take its own vote away.
    #[error("voter {voter_id} leads: let it hand over to another before it is removed")]
    LeaderLeaves {
        /// The leader.
        voter_id: VoterId,
    },
    /// There is nobody to hand over to.
    #[error("no other voter has been heard of lately, so none can take the lead")]
    NoSuccessor,
    /// It is larger than an entry may be.
    #[error("a proposal of {size} bytes is larger than the {max} bytes of an entry")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most an entry holds.
        max: usize,
    },
    /// The change makes no sense.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

fn name(leader: Option<&VoterId>) -> String {
    leader.map_or_else(|| "not known".to_owned(), |id| format!("voter {id}"))
}

impl Refused {
    /// Whether the same request may succeed later or elsewhere.
    pub fn is_retriable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. } | Self::Membership(_))
    }
}

/// Why a message was not taken. The first three happen in every cluster; an inconsistent one says
/// that a member has lost what it had acknowledged, or is not what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It belongs to another cluster.
    #[error("message from voter {from} belongs to cluster {found}, this node to {expected}")]
    OtherCluster {
        /// Who sent it.
        from: VoterId,
        /// Its cluster.
        found: uuid::Uuid,
        /// Ours.
        expected: uuid::Uuid,
    },
    /// It is for another voter, such as one whose disk was wiped since.
    #[error("message from voter {from} is for voter {to}, this node is voter {local}")]
    OtherVoter {
        /// Who sent it.
        from: VoterId,
        /// Whom it is for.
        to: VoterId,
        /// Who we are.
        local: VoterId,
    },
    /// An answer from somebody who is no member.
    #[error("answer from voter {from}, who is not a member")]
    Stranger {
        /// Who sent it.
        from: VoterId,
    },
    /// It contradicts what this node knows for certain.
    #[error("{what} from voter {from} cannot be true: {why}")]
    Inconsistent {
        /// Who sent it.
        from: VoterId,
        /// The kind of message.
        what: &'static str,
        /// The contradiction.
        why: &'static str,
    },
}

/// Why consensus cannot go on. Nothing is tried again: the node must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// A committed entry is not what this version can read.
    #[error(
        "committed entry {index} changes the members in a way that cannot be read ({reason}); a newer version has written it: update this node"
    )]
    UnreadableChange {
        /// Which entry.
        index: u64,
        /// What is wrong.
        reason: String,
    },
    /// Two books of the same thing differ: a mistake in this program.
    #[error(
        "after entry {index} the members differ from those that consensus counts: {reason}; stop this node and report it"
    )]
    MembersDiffer {
        /// Which entry.
        index: u64,
        /// What differs.
        reason: String,
    },
    /// It cannot start from what is stored.
    #[error("consensus cannot start from the stored state: {0}")]
    Start(String),
}

/// Replicates a log among members. Implementations do no I/O and draw nothing by chance.
pub trait Consensus {
    /// Time passes by one tick.
    fn tick(&mut self);

    /// Takes a message from another member.
    fn step(&mut self, message: Message) -> Result<(), StepError>;

    /// Appends to the leader's log. What comes of it is known when its position is committed: by
    /// this entry, or by another one of a later term.
    fn propose(&mut self, data: Bytes) -> Result<LogPosition, Refused>;

    /// Changes the members; one change at a time.
    fn change(&mut self, request: &MembershipRequest) -> Result<LogPosition, Refused>;

    /// Has the leader make sure that it still leads; `round` grows from call to call. The answer is a
    /// [`ConfirmedRead`] of this round or a later one.
    fn confirm_reads(&mut self, round: u64) -> Result<(), Refused>;

    /// Hands leadership to a voter, once that has the whole log.
    fn transfer(&mut self, to: VoterId) -> Result<(), Refused>;

    /// What is to be done, `None` if nothing.
    fn ready(&mut self) -> Option<Ready>;

    /// Goes on after what [`Self::ready`] gave has been synced.
    fn synced(&mut self, ready: Ready, synced: Synced) -> Result<Advanced, ConsensusError>;

    /// The entries behind `index` that have been synced, or all there are if the log does not reach
    /// back so far; with the entry before the first of them.
    fn log_behind(&self, index: u64) -> (LogPosition, Vec<Entry>);

    /// Takes a newer snapshot, and forgets the entries up to `through`.
    fn compact(&mut self, snapshot: Snapshot, through: u64);

    /// A snapshot that was sent to a member seems lost; the next try may begin.
    fn snapshot_lost(&mut self, to: VoterId);

    /// How this node stands.
    fn status(&self) -> Status;

    /// The members, up to what has been handed out.
    fn membership(&self) -> &Membership;

    /// How far a member is, if this node leads and knows it.
    fn progress(&self, of: VoterId) -> Option<Progress>;

    /// The term of an entry, if it is still in the log.
    fn term_of(&self, index: u64) -> Option<u64>;
}
