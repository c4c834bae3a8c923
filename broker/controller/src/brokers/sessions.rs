//! Who has been heard of lately: the active controller's soft state.
//!
//! Nothing here is metadata. A controller that becomes active gives every node a whole session from
//! that moment, so that nobody is fenced for heartbeats that its predecessor got.
//!
//! All times are milliseconds of one clock that does not go back; a time before an earlier one counts
//! as that one. A controller that was itself asleep (a stopped process, a frozen machine) must not
//! blame the nodes for it: if half a session passes without it looking here, all sessions are prolonged
//! by the gap. So [`Sessions::advance`] wants to be called several times a session.

use std::collections::BTreeMap;

use conveyor_record::{BrokerEpoch, NodeId};

use crate::MetadataImage;

/// What is known of one incarnation of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    epoch: BrokerEpoch,
    contact_ms: i64,
    /// How many records the node's image is made of; -1 if it has not said so to this controller.
    metadata_offset: i64,
    /// What every other node must have seen before this one may stop.
    shutdown_offset: Option<i64>,
}

/// The sessions of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    timeout_ms: i64,
    now_ms: i64,
    brokers: BTreeMap<NodeId, Session>,
}

impl Sessions {
    /// The sessions of a controller that becomes active at `now_ms`; one ends `timeout_ms` after the
    /// last heartbeat (`broker.session.timeout.ms`, at least 1).
    pub fn begin(image: &MetadataImage, timeout_ms: i64, now_ms: i64) -> Self {
        let mut sessions = Self {
            timeout_ms: timeout_ms.max(1),
            now_ms,
            brokers: BTreeMap::new(),
        };
        for broker in image.brokers().filter(|broker| broker.is_active()) {
            sessions.contact(broker.node_id, broker.epoch, -1);
        }
        sessions
    }

    /// The time goes on.
    pub fn advance(&mut self, now_ms: i64) {
        let gap = now_ms.saturating_sub(self.now_ms).max(0);
        self.now_ms = self.now_ms.saturating_add(gap);
        if gap > self.timeout_ms / 2 {
            for session in self.brokers.values_mut() {
                session.contact_ms = session.contact_ms.saturating_add(gap);
            }
        }
    }

    /// An incarnation of a node has registered or sent a heartbeat.
    pub(crate) fn contact(&mut self, node_id: NodeId, epoch: BrokerEpoch, metadata_offset: i64) {
        let now_ms = self.now_ms;
        let session = self.brokers.entry(node_id).or_insert(Session {
            epoch,
            contact_ms: now_ms,
            metadata_offset,
            shutdown_offset: None,
        });
        if session.epoch != epoch {
            session.epoch = epoch;
            session.metadata_offset = -1;
            session.shutdown_offset = None;
        }
        session.contact_ms = now_ms;
        // Heartbeats may overtake each other; a node's image never shrinks.
        session.metadata_offset = session.metadata_offset.max(metadata_offset);
    }

    /// Whether this incarnation has been heard of within a session.
    pub fn is_live(&self, node_id: NodeId, epoch: BrokerEpoch) -> bool {
        let session = self.brokers.get(&node_id);
        session.is_some_and(|session| {
            let age = self.now_ms.saturating_sub(session.contact_ms);
            session.epoch == epoch && age < self.timeout_ms
        })
    }

    /// How far an incarnation said it is with the metadata; -1 if it has not said so.
    pub fn metadata_offset(&self, node_id: NodeId, epoch: BrokerEpoch) -> i64 {
        let session = self.brokers.get(&node_id);
        let session = session.filter(|session| session.epoch == epoch);
        session.map_or(-1, |session| session.metadata_offset)
    }

    /// The first node whose session is over although it is not fenced. A node without a session gets
    /// one; a node of an earlier build sends no heartbeats and is left alone.
    pub fn find_stale(&mut self, image: &MetadataImage) -> Option<NodeId> {
        for broker in image.brokers() {
            if broker.fenced || !broker.epoch.is_some() {
                continue;
            }
            let known = self.brokers.get(&broker.node_id);
            if known.is_none_or(|session| session.epoch != broker.epoch) {
                self.contact(broker.node_id, broker.epoch, -1);
            }
            if !self.is_live(broker.node_id, broker.epoch) {
                return Some(broker.node_id);
            }
        }
        None
    }

    /// When the next session of a node that is not fenced may end; `None` if there are none.
    pub fn next_end_ms(&self, image: &MetadataImage) -> Option<i64> {
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        let sessions = unfenced.filter_map(|broker| self.brokers.get(&broker.node_id));
        let contact = sessions.map(|session| session.contact_ms).min()?;
        Some(contact.saturating_add(self.timeout_ms))
    }

    /// Ends the session of an incarnation at once: its process is known to be gone.
    pub fn end(&mut self, node_id: NodeId, epoch: BrokerEpoch) {
        let timeout = self.timeout_ms;
        let over = self.now_ms.saturating_sub(timeout);
        if let Some(session) = self.brokers.get_mut(&node_id)
            && session.epoch == epoch
        {
            session.contact_ms = session.contact_ms.min(over);
        }
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, node_id: NodeId) {
        self.brokers.remove(&node_id);
    }

    /// What all others must have seen before a node may stop: the first answer is kept.
    pub(crate) fn shutdown_offset(&mut self, node_id: NodeId, offset: i64) -> i64 {
        match self.brokers.get_mut(&node_id) {
            Some(session) => *session.shutdown_offset.get_or_insert(offset),
            None => offset,
        }
    }
}
