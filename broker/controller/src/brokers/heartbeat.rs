//! Heartbeats: who may take part, who must not any more, who may stop (KIP-631, KIP-841).

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};

use crate::brokers::{
    BrokerEpochError, Sessions, check_broker_epoch, elect_for_leaderless, leave_isr,
};
use crate::draft::Draft;
use crate::{BrokerRegistration, MetadataImage, MetadataRecord, Transition};

/// What a node tells the active controller every now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// The node.
    pub node_id: NodeId,
    /// Its incarnation. It must be on the node's disk before the first heartbeat that bears it.
    pub broker_epoch: BrokerEpoch,
    /// How many records the node's image is made of.
    pub metadata_offset: i64,
    /// It cannot take part now.
    pub want_fence: bool,
    /// It wants to stop in order.
    pub want_shutdown: bool,
}

/// What the node is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Whether it has seen its own registration.
    pub is_caught_up: bool,
    /// Whether it is fenced.
    pub is_fenced: bool,
    /// Whether it may stop now: nobody counts on it any more.
    pub should_shut_down: bool,
}

/// What a heartbeat leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Fence,
    Unfence,
    BeginShutdown,
    ShutDown,
}

/// Takes a heartbeat.
pub fn heartbeat(
    image: &MetadataImage,
    sessions: &mut Sessions,
    request: &HeartbeatRequest,
) -> Result<Transition<HeartbeatAnswer>, BrokerEpochError> {
    let broker = check_broker_epoch(image, request.node_id, request.broker_epoch)?;
    sessions.contact(broker.node_id, broker.epoch, request.metadata_offset);
    let is_caught_up = request.metadata_offset > broker.epoch.value();
    let next = next_state(image, sessions, request, broker, is_caught_up);
    let is_fenced = match next {
        Next::Stay => broker.fenced,
        Next::Fence | Next::ShutDown => true,
        Next::Unfence | Next::BeginShutdown => false,
    };
    let answer = HeartbeatAnswer {
        is_caught_up,
        is_fenced,
        should_shut_down: next == Next::ShutDown,
    };
    Ok(match next {
        Next::Stay => nothing(answer),
        Next::Fence | Next::ShutDown if broker.fenced => nothing(answer),
        Next::Fence | Next::ShutDown => fence(image, broker, answer),
        Next::Unfence => unfence(image, broker, answer),
        Next::BeginShutdown => begin_shutdown(image, broker, answer),
    })
}

/// Fences the first node whose session is over; `None` if there is none. One at a time, so that the
/// next one is judged by what follows from this one.
pub fn fence_stale(image: &MetadataImage, sessions: &mut Sessions) -> Option<Transition<NodeId>> {
    let broker = image.broker(sessions.find_stale(image)?)?;
    Some(fence(image, broker, broker.node_id))
}

fn next_state(
    image: &MetadataImage,
    sessions: &mut Sessions,
    request: &HeartbeatRequest,
    broker: &BrokerRegistration,
    is_caught_up: bool,
) -> Next {
    if broker.fenced {
        return match request {
            _ if broker.in_controlled_shutdown || request.want_shutdown => Next::ShutDown,
            _ if request.want_fence || !is_caught_up => Next::Stay,
            _ => Next::Unfence,
        };
    }
    if broker.in_controlled_shutdown {
        return shutdown_progress(image, sessions, broker);
    }
    match (request.want_fence, request.want_shutdown) {
        (true, true) => Next::ShutDown,
        (true, false) => Next::Fence,
        (false, true) => Next::BeginShutdown,
        (false, false) => Next::Stay,
    }
}

/// A stopping node may go once it leads nothing and every other node has seen that it is in sync
/// nowhere: until then clients are still sent to it, and leaders still wait for it.
fn shutdown_progress(
    image: &MetadataImage,
    sessions: &mut Sessions,
    broker: &BrokerRegistration,
) -> Next {
    let leads = image
        .partitions()
        .any(|(_, _, partition)| partition.leader == broker.node_id);
    let needed = sessions.shutdown_offset(broker.node_id, image.offset());
    let others = image.brokers().filter(|other| other.is_active());
    let seen = others
        .map(|other| sessions.metadata_offset(other.node_id, other.epoch))
        .min();
    if leads || seen.is_some_and(|seen| seen < needed) {
        Next::Stay
    } else {
        Next::ShutDown
    }
}

fn nothing<R>(response: R) -> Transition<R> {
    Transition {
        records: Vec::new(),
        response,
    }
}

fn fence<R>(image: &MetadataImage, broker: &BrokerRegistration, response: R) -> Transition<R> {
    let mut draft = Draft::new(image);
    draft.push(change(broker, Some(true), None));
    leave_isr(&mut draft, broker.node_id);
    draft.finish(response)
}

fn unfence<R>(image: &MetadataImage, broker: &BrokerRegistration, response: R) -> Transition<R> {
    let mut draft = Draft::new(image);
    draft.push(change(broker, Some(false), None));
    elect_for_leaderless(&mut draft);
    draft.finish(response)
}

fn begin_shutdown<R>(
    image: &MetadataImage,
    broker: &BrokerRegistration,
    response: R,
) -> Transition<R> {
    let mut draft = Draft::new(image);
    draft.push(change(broker, None, Some(true)));
    leave_isr(&mut draft, broker.node_id);
    draft.finish(response)
}

fn change(
    broker: &BrokerRegistration,
    fenced: Option<bool>,
    in_controlled_shutdown: Option<bool>,
) -> MetadataRecord {
    MetadataRecord::BrokerChange {
        node_id: broker.node_id,
        broker_epoch: broker.epoch,
        fenced,
        in_controlled_shutdown,
        draining: None,
    }
}
