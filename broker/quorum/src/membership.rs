//! Who belongs to the quorum: voters, learners, where they are, and how that may change.
//!
//! A node is known by its node id, but it votes under a [`VoterId`], which is given out once and never
//! again: a node whose disk was wiped comes back as a learner with a new id, so that a vote or an
//! acknowledgement of its former self can never be taken for one of the present. While it asks to be
//! taken in, it is told from its former self by a directory id that it draws for its empty folder, as
//! in Kafka's KIP-853.
//!
//! Learners get the log and have no vote. A change of one member is one step; a change of several,
//! such as a wiped voter's successor taking its place, goes through a joint configuration in which
//! both the old and the new majority must agree.
//!
//! The stored form, with which a snapshot begins:
//!
//! ```text
//! version int16 = 0 | next voter id int64
//! | members: count int32, each: voter id int64, node id int32, directory id uuid, endpoint string
//! | voters, learners, outgoing, learners next: each count int32, voter ids int64
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use conveyor_record::NodeId;
use conveyor_record::fields::{DecodeError, Reader, Writer};
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// A quorum has no more members than this, learners and members that are leaving included.
pub const MEMBERS_MAX: usize = 64;
/// Longest endpoint in bytes.
pub const ENDPOINT_BYTES_MAX: usize = 512;

const VERSION: i16 = 0;
/// Voter id, node id, directory id and the length of the endpoint.
const MEMBER_BYTES_MIN: usize = 30;

/// One life of a voter: a node with one disk. Never 0, never given out twice within a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId(pub u64);

impl fmt::Display for VoterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// What is known of a member beside its vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node_id: NodeId,
    /// Drawn by the node for its empty folder before it asked to be taken in; nil for first voters.
    pub directory_id: Uuid,
    /// Where the other controllers reach it, as `host:port`.
    pub endpoint: String,
}

/// The members at some index of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub(crate) next_voter_id: u64,
    pub(crate) members: BTreeMap<VoterId, Member>,
    pub(crate) voters: BTreeSet<VoterId>,
    pub(crate) learners: BTreeSet<VoterId>,
    /// The voters of the configuration that is being left; empty unless it is a joint one.
    pub(crate) outgoing: BTreeSet<VoterId>,
    /// Members of `outgoing` that become learners once it has been left.
    pub(crate) learners_next: BTreeSet<VoterId>,
}

/// What an operator or a joining node asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipRequest {
    /// A node with an empty disk joins: it becomes a learner under a new voter id. Other members of the
    /// same node stay until one is promoted: a request may be a late one of an earlier life, so it
    /// must not drive out the present one.
    Join {
        /// The node.
        node_id: NodeId,
        /// Drawn for its empty folder; asking again with the same one changes nothing.
        directory_id: Uuid,
        /// Where it is reached.
        endpoint: String,
    },
    /// A learner becomes a voter; all other members of the same node give way to it.
    Promote(VoterId),
    /// A member leaves.
    Remove(VoterId),
}

/// A request made definite: what happens to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// Becomes a learner.
    pub added: Option<(VoterId, Member)>,
    /// A learner that becomes a voter.
    pub promoted: Option<VoterId>,
    /// Members that leave.
    pub removed: BTreeSet<VoterId>,
}

/// Why a change of the members is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This folder was taken in already.
    #[error("the node is a member already, as voter id {0}")]
    AlreadyMember(VoterId),
    /// Nobody has that id.
    #[error("voter id {0} is not a member")]
    UnknownMember(VoterId),
    /// Only learners are promoted.
    #[error("voter id {0} is not a learner")]
    NotALearner(VoterId),
    /// Without it there would be no voter.
    #[error("voter id {0} is the last voter; a quorum needs one")]
    LastVoter(VoterId),
    /// The members are just changing.
    #[error("another change of the members is under way; try again when it is done")]
    Joint,
    /// There are too many members.
    #[error("a quorum has at most {MEMBERS_MAX} members")]
    TooMany,
    /// The endpoint makes no sense.
    #[error("endpoint {0:?} must have between 1 and {ENDPOINT_BYTES_MAX} bytes")]
    Endpoint(String),
    /// A node id makes no sense.
    #[error("node id {0} is negative")]
    NodeId(NodeId),
    /// The same node twice in a list of first voters.
    #[error("node {0} is named twice")]
    NamedTwice(NodeId),
    /// No voter at all.
    #[error("a quorum needs at least one voter")]
    NoVoter,
    /// The change was made for other members than there are.
    #[error("the change gives out voter id {found}, but {expected} is next")]
    NotNext {
        /// The id in the change.
        found: VoterId,
        /// The id that is next.
        expected: VoterId,
    },
}

impl Membership {
    /// The first members of a new cluster, all voters; ids are given in the order of the node ids,
    /// so that every node comes to the same from the same list.
    pub fn bootstrap(nodes: &BTreeMap<NodeId, String>) -> Result<Self, MembershipError> {
        let mut membership = Self {
            next_voter_id: 1,
            ..Self::default()
        };
        if nodes.is_empty() {
            return Err(MembershipError::NoVoter);
        }
        for (node_id, endpoint) in nodes {
            let member = Member {
                node_id: *node_id,
                directory_id: Uuid::nil(),
                endpoint: endpoint.clone(),
            };
            let id = membership.add(member)?;
            membership.voters.insert(id);
        }
        Ok(membership)
    }

    fn add(&mut self, member: Member) -> Result<VoterId, MembershipError> {
        if member.node_id.0 < 0 {
            return Err(MembershipError::NodeId(member.node_id));
        }
        if member.endpoint.is_empty() || member.endpoint.len() > ENDPOINT_BYTES_MAX {
            return Err(MembershipError::Endpoint(member.endpoint));
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(MembershipError::TooMany);
        }
        let id = VoterId(self.next_voter_id);
        self.next_voter_id += 1;
        self.members.insert(id, member);
        Ok(id)
    }

    /// All members with what is known of them.
    pub fn members(&self) -> impl Iterator<Item = (VoterId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// One member.
    pub fn member(&self, id: VoterId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The members whose votes count.
    pub fn voters(&self) -> &BTreeSet<VoterId> {
        &self.voters
    }

    /// The members that only get the log.
    pub fn learners(&self) -> &BTreeSet<VoterId> {
        &self.learners
    }

    /// Whether a change of several members is half done.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The voter of a node, `None` if it has no vote.
    pub fn voter_of(&self, node_id: NodeId) -> Option<VoterId> {
        let newest = self.voters.iter().rev();
        newest
            .copied()
            .find(|id| self.members.get(id).is_some_and(|m| m.node_id == node_id))
    }

    /// The nodes that have a vote.
    pub fn voting_nodes(&self) -> BTreeSet<NodeId> {
        let members = self.voters.iter().filter_map(|id| self.members.get(id));
        members.map(|member| member.node_id).collect()
    }

    /// Makes a request definite, against the members as they are.
    pub fn resolve(
        &self,
        request: &MembershipRequest,
    ) -> Result<MembershipChange, MembershipError> {
        let mut change = MembershipChange::default();
        match request {
            MembershipRequest::Join {
                node_id,
                directory_id,
                endpoint,
            } => {
                let member = Member {
                    node_id: *node_id,
                    directory_id: *directory_id,
                    endpoint: endpoint.clone(),
                };
                if let Some(id) = self.member_with(*node_id, *directory_id) {
                    return Err(MembershipError::AlreadyMember(id));
                }
                change.added = Some((VoterId(self.next_voter_id), member));
            }
            MembershipRequest::Promote(id) => {
                let member = self
                    .member(*id)
                    .ok_or(MembershipError::UnknownMember(*id))?;
                change.removed = self.of_node(member.node_id);
                change.removed.remove(id);
                change.promoted = Some(*id);
            }
            MembershipRequest::Remove(id) => {
                change.removed.insert(*id);
            }
        }
        self.with(&change)?;
        Ok(change)
    }

    /// The member that was taken in with this directory id.
    pub fn member_with(&self, node_id: NodeId, directory_id: Uuid) -> Option<VoterId> {
        let same = |m: &Member| (m.node_id, m.directory_id) == (node_id, directory_id);
        let found = self.members.iter().find(|(_, member)| same(member));
        found.map(|(id, _)| *id)
    }

    fn of_node(&self, node_id: NodeId) -> BTreeSet<VoterId> {
        let same = self.members().filter(|(_, m)| m.node_id == node_id);
        same.map(|(id, _)| id).collect()
    }

    /// The members after a change; a change of several members leads to a joint configuration.
    pub fn with(&self, change: &MembershipChange) -> Result<Self, MembershipError> {
        if self.is_joint() {
            return Err(MembershipError::Joint);
        }
        let mut next = self.clone();
        for id in &change.removed {
            if !next.voters.remove(id) && !next.learners.remove(id) {
                return Err(MembershipError::UnknownMember(*id));
            }
        }
        if let Some(id) = change.promoted {
            if !next.learners.remove(&id) {
                return Err(MembershipError::NotALearner(id));
            }
            next.voters.insert(id);
        }
        if let Some((found, member)) = &change.added {
            let expected = next.add(member.clone())?;
            if *found != expected {
                return Err(MembershipError::NotNext {
                    found: *found,
                    expected,
                });
            }
            next.learners.insert(expected);
        }
        if next.voters.is_empty() {
            let last = change.removed.first().copied();
            return Err(last.map_or(MembershipError::NoVoter, MembershipError::LastVoter));
        }
        if change.is_joint() {
            next.outgoing.clone_from(&self.voters);
        }
        next.forget_strangers();
        Ok(next)
    }

    /// The members once the joint configuration has been left.
    #[must_use]
    pub fn after_joint(&self) -> Self {
        let mut next = self.clone();
        next.outgoing.clear();
        let demoted = std::mem::take(&mut next.learners_next);
        next.learners.extend(demoted);
        next.forget_strangers();
        next
    }

    fn forget_strangers(&mut self) {
        let Self {
            members,
            voters,
            learners,
            outgoing,
            ..
        } = self;
        members
            .retain(|id, _| voters.contains(id) || learners.contains(id) || outgoing.contains(id));
    }

    /// Whether the member's acknowledgements or votes count in either half of the configuration.
    pub fn has_vote(&self, id: VoterId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::version(VERSION);
        writer.int64(self.next_voter_id as i64);
        writer.int32(self.members.len() as i32);
        for (id, member) in &self.members {
            writer.int64(id.0 as i64);
            writer.int32(member.node_id.0);
            writer.uuid(member.directory_id);
            writer.string(&member.endpoint);
        }
        for set in [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ] {
            write_ids(&mut writer, set);
        }
        writer.finish()
    }

    /// Reads the stored form and checks that the parts fit each other, since Raft trusts them.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, "membership", VERSION)?;
        let next_voter_id = number(&mut reader, "next voter id")?;
        let count = reader.int32_length(MEMBER_BYTES_MIN, "members")?;
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let (id, member) = read_member(&mut reader)?;
            members.insert(id, member);
        }
        let membership = Self {
            next_voter_id,
            members,
            voters: read_ids(&mut reader, "voters")?,
            learners: read_ids(&mut reader, "learners")?,
            outgoing: read_ids(&mut reader, "outgoing voters")?,
            learners_next: read_ids(&mut reader, "next learners")?,
        };
        reader.finish()?;
        membership.check()?;
        Ok(membership)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let refuse = |reason| {
            Err(DecodeError::Invalid {
                field: "membership",
                reason,
            })
        };
        let all = self
            .voters
            .iter()
            .chain(&self.learners)
            .chain(&self.outgoing);
        if !all.clone().all(|id| self.members.contains_key(id)) {
            return refuse("a voter or learner that is not described");
        }
        if self.members.len() > MEMBERS_MAX {
            return refuse("too many members");
        }
        if !self.members.keys().all(|id| all.clone().any(|of| of == id)) {
            return refuse("a member that is neither voter nor learner");
        }
        if self
            .members
            .keys()
            .any(|id| id.0 == 0 || id.0 >= self.next_voter_id)
        {
            return refuse("a voter id that was never given out");
        }
        if self.voters.is_empty() {
            return refuse("no voter");
        }
        if !self.learners.is_disjoint(&self.voters) || !self.learners.is_disjoint(&self.outgoing) {
            return refuse("a learner that is a voter");
        }
        let may_become_learner = |id| self.outgoing.contains(id) && !self.voters.contains(id);
        if !self.learners_next.iter().all(may_become_learner) {
            return refuse("a next learner that is not a voter that leaves");
        }
        Ok(())
    }
}

impl MembershipChange {
    /// Whether it changes more than one member, so that it must go through a joint configuration.
    pub fn is_joint(&self) -> bool {
        let changed = self.removed.len()
            + usize::from(self.added.is_some())
            + usize::from(self.promoted.is_some());
        changed > 1
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::version(VERSION);
        writer.int8(i8::from(self.added.is_some()));
        if let Some((id, member)) = &self.added {
            writer.int64(id.0 as i64);
            writer.int32(member.node_id.0);
            writer.uuid(member.directory_id);
            writer.string(&member.endpoint);
        }
        writer.int64(self.promoted.map_or(0, |id| id.0 as i64));
        write_ids(&mut writer, &self.removed);
        writer.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, "change of members", VERSION)?;
        let added = match reader.int8("added")? {
            0 => None,
            _ => Some(read_member(&mut reader)?),
        };
        let promoted = number(&mut reader, "promoted")?;
        let removed = read_ids(&mut reader, "removed")?;
        reader.finish()?;
        Ok(Self {
            added,
            promoted: (promoted != 0).then_some(VoterId(promoted)),
            removed,
        })
    }
}

/// A number that must not be negative, so that adding one to it is always possible.
pub(crate) fn number(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    u64::try_from(reader.int64(field)?).map_err(|_| DecodeError::Invalid {
        field,
        reason: "a negative number",
    })
}

pub(crate) fn check_version(
    reader: &mut Reader<'_>,
    kind: &'static str,
    supported: i16,
) -> Result<(), DecodeError> {
    let version = reader.int16("version")?;
    if (0..=supported).contains(&version) {
        return Ok(());
    }
    Err(DecodeError::UnsupportedVersion {
        kind,
        version,
        supported,
    })
}

fn read_member(reader: &mut Reader<'_>) -> Result<(VoterId, Member), DecodeError> {
    let id = VoterId(number(reader, "voter id")?);
    let node_id = NodeId(reader.int32("node id")?);
    let directory_id = reader.uuid("directory id")?;
    let endpoint = reader.string("endpoint")?;
    if node_id.0 < 0 || endpoint.len() > ENDPOINT_BYTES_MAX {
        return Err(DecodeError::Invalid {
            field: "member",
            reason: "a negative node id or too long an endpoint",
        });
    }
    let member = Member {
        node_id,
        directory_id,
        endpoint,
    };
    Ok((id, member))
}

fn write_ids(writer: &mut Writer, ids: &BTreeSet<VoterId>) {
    writer.int32(ids.len() as i32);
    for id in ids {
        writer.int64(id.0 as i64);
    }
}

fn read_ids(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<BTreeSet<VoterId>, DecodeError> {
    let count = reader.int32_length(size_of::<i64>(), field)?;
    let ids = (0..count).map(|_| number(reader, field).map(VoterId));
    ids.collect()
}
