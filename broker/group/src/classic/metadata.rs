//! What is kept of a classic group: one record, with Kafka's name and fields.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A settled generation: value of the `GroupMetadata` record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Type of the protocols; empty for a group that nobody has joined.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol in use; none without members.
    pub protocol: Option<String>,
    /// The leader's member id; none without members.
    pub leader: Option<String>,
    /// When the group came into its state, in ms since the epoch; -1 when unknown.
    pub state_timestamp_ms: i64,
    /// The members by id.
    pub members: BTreeMap<String, GroupMember>,
}

/// A member of a settled generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// Set for static members.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The address it comes from.
    pub client_host: String,
    /// How long others wait for it in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it told for the protocol in use.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

impl GroupMetadata {
    /// About the size of the record, in bytes, never less.
    pub(crate) fn size_bound(&self) -> usize {
        const FIXED: usize = 64;
        let texts = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let members: usize = self
            .members
            .iter()
            .map(|(id, member)| {
                FIXED
                    + id.len()
                    + texts(&member.instance_id)
                    + member.client_id.len()
                    + member.client_host.len()
                    + member.subscription.len()
                    + member.assignment.len()
            })
            .sum();
        let own = self.protocol_type.len() + texts(&self.protocol) + texts(&self.leader);
        FIXED + own + members
    }
}
