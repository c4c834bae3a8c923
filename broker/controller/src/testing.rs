//! A small cluster for tests of rules: an image, the sessions, and what nodes do.

use conveyor_record::{BrokerEpoch, NodeId};
use uuid::Uuid;

use crate::brokers::heartbeat::{HeartbeatAnswer, HeartbeatRequest, fence_stale, heartbeat};
use crate::brokers::registration::{DiskState, RegistrationRequest, register};
use crate::brokers::{BrokerEpochError, Sessions};
use crate::partitions::alter::{
    AlterPartitionError, AlterPartitionRequest, IsrMember, IsrProposal, PartitionState,
    alter_partition,
};
use crate::{
    ConfigAlteration, ConfigOperation, Endpoint, MetadataImage, MetadataRecord,
    MetadataVersionRange, NewTopic, PartitionImage, RegisterError, TopicDefaults, Transition,
    alter_topic_configs, bootstrap, create_topic,
};

pub(crate) const SESSION_MS: i64 = 9_000;
pub(crate) const CLUSTER: &str = "test-cluster";
pub(crate) const TOPIC: &str = "orders";

pub(crate) fn ids(numbers: &[i32]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

pub(crate) struct Cluster {
    pub(crate) image: MetadataImage,
    pub(crate) sessions: Sessions,
    pub(crate) now_ms: i64,
    incarnations: u128,
}

impl Cluster {
    /// Nodes 1 to `nodes`, running, with empty disks.
    pub(crate) fn of(nodes: i32) -> Self {
        let mut image = MetadataImage::default();
        image.replay_all(&bootstrap(&image, CLUSTER).records);
        let sessions = Sessions::begin(&image, SESSION_MS, 0);
        let mut cluster = Self {
            image,
            sessions,
            now_ms: 0,
            incarnations: 0,
        };
        for node in 1..=nodes {
            cluster.start(node, DiskState::Empty).unwrap();
        }
        cluster
    }

    /// With a topic of one partition on nodes 1 to `nodes`, led by the first.
    pub(crate) fn with_topic(nodes: i32, settings: &[(&str, &str)]) -> Self {
        let mut cluster = Self::of(nodes);
        let all: Vec<i32> = (1..=nodes).collect();
        cluster.create_topic(TOPIC, &[&all], settings);
        cluster
    }

    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: &[&[i32]],
        settings: &[(&str, &str)],
    ) {
        let numbered = (0..).zip(partitions);
        let topic = NewTopic {
            name: name.to_owned(),
            assignments: numbered.map(|(index, nodes)| (index, ids(nodes))).collect(),
            configs: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..NewTopic::default()
        };
        let id = Uuid::from_u128(1_000 + self.image.topics().len() as u128);
        let made = create_topic(&self.image, &topic, id, &TopicDefaults::default());
        self.apply(made.unwrap());
    }

    /// Replays a transition through its stored form.
    pub(crate) fn apply<R>(&mut self, transition: Transition<R>) -> R {
        for record in &transition.records {
            let stored = MetadataRecord::decode(&record.encode()).unwrap();
            assert_eq!(stored, *record);
            self.image.replay(&stored);
        }
        transition.response
    }

    pub(crate) fn request(&mut self, node: i32, disk: DiskState) -> RegistrationRequest {
        self.incarnations += 1;
        RegistrationRequest {
            cluster_id: CLUSTER.to_owned(),
            node_id: NodeId(node),
            incarnation_id: Uuid::from_u128(self.incarnations),
            disk,
            lost_replicas: Vec::new(),
            grpc: Endpoint::new("host", 9192),
            broker: Endpoint::new("host", 9193),
            kafka: [("PLAINTEXT".to_owned(), Endpoint::new("host", 9092))].into(),
            rack: String::new(),
            metadata_versions: MetadataVersionRange::THIS_BUILD,
            cluster_wide: [].into(),
        }
    }

    pub(crate) fn register(
        &mut self,
        request: &RegistrationRequest,
    ) -> Result<BrokerEpoch, RegisterError> {
        let registered = register(&self.image, &self.sessions, request)?;
        let epoch = self.apply(registered).broker_epoch;
        self.sessions.contact(request.node_id, epoch, -1);
        Ok(epoch)
    }

    /// Registers and unfences a node.
    pub(crate) fn start(
        &mut self,
        node: i32,
        disk: DiskState,
    ) -> Result<BrokerEpoch, RegisterError> {
        let request = self.request(node, disk);
        let epoch = self.register(&request)?;
        assert!(!self.beat(node).is_fenced);
        Ok(epoch)
    }

    pub(crate) fn epoch(&self, node: i32) -> BrokerEpoch {
        self.image.broker(NodeId(node)).unwrap().epoch
    }

    pub(crate) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatAnswer, BrokerEpochError> {
        let taken = heartbeat(&self.image, &mut self.sessions, request)?;
        Ok(self.apply(taken))
    }

    pub(crate) fn heartbeat_of(&self, node: i32) -> HeartbeatRequest {
        HeartbeatRequest {
            node_id: NodeId(node),
            broker_epoch: self.epoch(node),
            metadata_offset: self.image.offset(),
            want_fence: false,
            want_shutdown: false,
        }
    }

    /// A heartbeat of a node that knows all metadata.
    pub(crate) fn beat(&mut self, node: i32) -> HeartbeatAnswer {
        let request = self.heartbeat_of(node);
        self.heartbeat(&request).unwrap()
    }

    /// A heartbeat of a node that wants to stop.
    pub(crate) fn beat_to_stop(&mut self, node: i32) -> HeartbeatAnswer {
        let request = HeartbeatRequest {
            want_shutdown: true,
            ..self.heartbeat_of(node)
        };
        self.heartbeat(&request).unwrap()
    }

    /// Time goes by in which only these nodes send heartbeats; who is over time is fenced.
    pub(crate) fn pass(&mut self, millis: i64, beating: &[i32]) -> Vec<NodeId> {
        let end = self.now_ms + millis;
        let mut fenced = Vec::new();
        while self.now_ms < end {
            self.now_ms = (self.now_ms + SESSION_MS / 6).min(end);
            self.sessions.advance(self.now_ms);
            for &node in beating {
                self.beat(node);
            }
            while let Some(transition) = fence_stale(&self.image, &mut self.sessions) {
                fenced.push(self.apply(transition));
            }
        }
        fenced
    }

    /// Fences a node as if its session had ended.
    pub(crate) fn crash(&mut self, node: i32) {
        self.sessions.end(NodeId(node), self.epoch(node));
        let fenced = fence_stale(&self.image, &mut self.sessions).unwrap();
        assert_eq!(self.apply(fenced), NodeId(node));
    }

    /// The disk of a node that stopped, or crashed.
    pub(crate) fn kept(&self, node: i32) -> DiskState {
        let epoch = self.epoch(node);
        DiskState::Kept { epoch }
    }

    pub(crate) fn unclean(&self, node: i32) -> DiskState {
        let epoch = self.epoch(node);
        DiskState::Unclean { epoch }
    }

    pub(crate) fn partition(&self) -> &PartitionImage {
        &self.image.topic(TOPIC).unwrap().partitions[0]
    }

    /// What the present leader would propose.
    pub(crate) fn proposal(&self, isr: &[i32]) -> AlterPartitionRequest {
        let partition = self.partition();
        let members = isr.iter().map(|&node| IsrMember {
            node_id: NodeId(node),
            broker_epoch: self
                .image
                .broker(NodeId(node))
                .map_or(BrokerEpoch::NONE, |b| b.epoch),
        });
        AlterPartitionRequest {
            node_id: partition.leader,
            broker_epoch: self.epoch(partition.leader.value()),
            proposals: vec![IsrProposal {
                topic_id: self.image.topic(TOPIC).unwrap().id,
                partition: 0,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                isr: members.collect(),
            }],
        }
    }

    pub(crate) fn alter(
        &mut self,
        request: &AlterPartitionRequest,
    ) -> Result<PartitionState, AlterPartitionError> {
        let decided = alter_partition(&self.image, request).unwrap();
        self.apply(decided).remove(0)
    }

    /// The leader proposes a set, and it is taken.
    pub(crate) fn propose(&mut self, isr: &[i32]) -> PartitionState {
        let proposal = self.proposal(isr);
        self.alter(&proposal).unwrap()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let alteration = ConfigAlteration {
            name: name.to_owned(),
            operation: ConfigOperation::Set(value.to_owned()),
        };
        let defaults = TopicDefaults::default();
        let altered = alter_topic_configs(&self.image, TOPIC, &[alteration], &defaults);
        self.apply(altered.unwrap());
    }

    /// Leader, leader epoch, in-sync set, eligible replicas, those once eligible.
    pub(crate) fn shape(&self) -> (i32, i32, Vec<i32>, Vec<i32>, Vec<i32>) {
        let partition = self.partition();
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.value()).collect();
        (
            partition.leader.value(),
            partition.leader_epoch.value(),
            numbers(&partition.isr),
            numbers(&partition.elr),
            numbers(&partition.last_known_elr),
        )
    }
}
