//! Who talks to whom about what, and everything else that happens at a point in time.

use bytes::Bytes;
use conveyor_controller::brokers::registration::DiskState;
use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, Offset};
use conveyor_replication::{
    FetchAnswer, FetchRequest, Incarnation, Proposal, ProposalAnswer, SyncReport,
};

use crate::controller::Placed;

/// Number of a partition of the one topic.
pub type PartitionId = u32;

/// An end of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A broker.
    Broker(NodeId),
    /// The controller.
    Controller,
    /// A producer.
    Producer(usize),
    /// A consumer.
    Consumer(usize),
}

/// The end of a producer's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produced {
    /// Committed, at this offset.
    Done(Offset),
    /// Try again, elsewhere if another leader is named.
    Retry(Option<NodeId>),
}

/// One message.
#[derive(Debug, Clone)]
pub enum Message {
    /// Producer to leader: one batch.
    Produce {
        /// Where to.
        partition: PartitionId,
        /// Counts the producer's batches.
        batch: u64,
        /// The batch.
        bytes: Bytes,
    },
    /// The answer.
    Produced {
        /// Which batch.
        batch: u64,
        /// What became of it.
        result: Produced,
    },
    /// Consumer to leader: committed records from an offset on.
    Read {
        /// Where from.
        partition: PartitionId,
        /// Counts the consumer's requests.
        request: u64,
        /// First offset wanted.
        from: Offset,
    },
    /// The answer; no bytes if the broker does not lead.
    ReadAnswer {
        /// Which request.
        request: u64,
        /// Whole batches, or who leads.
        result: Result<Bytes, Option<NodeId>>,
        /// Log start offset of the leader.
        log_start: Offset,
    },
    /// Follower to leader.
    Fetch {
        /// Which partition.
        partition: PartitionId,
        /// The request.
        request: FetchRequest,
    },
    /// Leader to follower.
    Fetched {
        /// Which partition.
        partition: PartitionId,
        /// The answer.
        answer: FetchAnswer,
        /// The records of it.
        bytes: Bytes,
    },
    /// Follower to leader.
    Synced {
        /// Which partition.
        partition: PartitionId,
        /// The report.
        report: SyncReport,
    },
    /// Broker to controller, after each start.
    Register {
        /// Who.
        node: NodeId,
        /// Which start of it.
        start: u64,
        /// What its disk holds.
        disk: DiskState,
    },
    /// The answer.
    Registered {
        /// Which start.
        start: u64,
        /// The incarnation's number, the place of its registration in the metadata.
        epoch: BrokerEpoch,
    },
    /// Broker to controller, all the time.
    Heartbeat {
        /// Who.
        from: Incarnation,
        /// How many records of the metadata it has applied.
        offset: i64,
    },
    /// The answer to a heartbeat of an incarnation that has been replaced.
    Replaced {
        /// Which incarnation.
        epoch: BrokerEpoch,
    },
    /// Leader to controller.
    Propose {
        /// Who leads.
        from: Incarnation,
        /// Which partition.
        partition: PartitionId,
        /// The new in-sync set.
        proposal: Proposal,
    },
    /// The answer.
    ProposalAnswered {
        /// Which partition.
        partition: PartitionId,
        /// The answer.
        answer: ProposalAnswer,
    },
    /// Leader to controller: somebody else should lead.
    GiveUp {
        /// Who leads.
        from: Incarnation,
        /// Which partition.
        partition: PartitionId,
        /// In which leadership.
        leader_epoch: LeaderEpoch,
    },
    /// Broker to controller: metadata from a place on.
    FetchMetadata {
        /// First place wanted.
        from: i64,
    },
    /// The answer.
    Metadata {
        /// Whole decisions, each with its place.
        entries: Vec<Placed>,
    },
}

/// Something that happens at a point in time.
#[derive(Debug, Clone)]
pub enum Event {
    /// A message arrives.
    Deliver {
        /// Who sent it.
        from: Address,
        /// Who gets it.
        to: Address,
        /// What it says.
        message: Box<Message>,
    },
    /// A broker's timer.
    BrokerTick {
        /// Which broker.
        node: NodeId,
        /// Which start of it.
        start: u64,
    },
    /// A broker's disk has finished a round of syncs.
    BrokerSynced {
        /// Which broker.
        node: NodeId,
        /// Which start of it.
        start: u64,
    },
    /// A broker starts again.
    BrokerStarts {
        /// Which broker.
        node: NodeId,
    },
    /// The controller's timer.
    ControllerTick {
        /// Which start of it.
        start: u64,
    },
    /// The controller's disk has what it wrote.
    ControllerSynced {
        /// Which start of it.
        start: u64,
    },
    /// The controller starts again.
    ControllerStarts,
    /// A producer's timer.
    ProducerTick(usize),
    /// A consumer's timer.
    ConsumerTick(usize),
    /// Something goes wrong.
    Fault,
    /// Something that went wrong is over.
    FaultEnds(crate::faults::Ongoing),
}
