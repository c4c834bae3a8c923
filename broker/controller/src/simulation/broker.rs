//! What nodes do on what they believe: leading, following, acknowledging, proposing.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use uuid::Uuid;

use super::{CLUSTER, Key, Message, World};
use crate::brokers::heartbeat::HeartbeatRequest;
use crate::brokers::registration::{DiskState, RegistrationRequest};
use crate::partitions::alter::{
    AlterPartitionAnswer, AlterPartitionError, AlterPartitionRequest, IsrMember, IsrProposal,
};
use crate::partitions::resign::{LedPartition, ResignRequest};
use crate::{
    Answer, Change, ChangeError, Durability, Endpoint, MetadataImage, MetadataVersionRange,
    RegisterError,
};

/// A replica's log: its records, and how many of them are synced.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) records: Vec<u64>,
    pub(super) synced: usize,
}

impl Replica {
    fn truncate(&mut self, to: usize) {
        self.records.truncate(to);
        self.synced = self.synced.min(to);
    }
}

/// What survives the process.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) epoch: BrokerEpoch,
    pub(super) state: Left,
    pub(super) replicas: BTreeMap<Key, Replica>,
    /// Replicas that went with a directory, until a registration has told of them.
    pub(super) lost: Vec<Key>,
}

impl Disk {
    fn state_told(&self) -> DiskState {
        let epoch = self.epoch;
        match self.state {
            Left::InOrder => DiskState::Kept { epoch },
            Left::Crashed => DiskState::Unclean { epoch },
            Left::Empty => DiskState::Empty,
        }
    }
}

/// How the last process left the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    InOrder,
    Crashed,
    Empty,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) incarnation: Uuid,
    /// What it tells of the disk that it found.
    pub(super) disk: DiskState,
    /// Its broker epoch, once it has been told.
    pub(super) epoch: Option<BrokerEpoch>,
    pub(super) stopping: bool,
    /// It neither sends nor learns anything until then.
    pub(super) frozen_until_ms: i64,
    pub(super) leading: BTreeMap<Key, Leading>,
}

/// What a leader knows of its partition.
#[derive(Debug, Clone)]
pub(super) struct Leading {
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    isr: Vec<NodeId>,
    min_insync_replicas: usize,
    /// Where its log ended when it began to lead.
    start: usize,
    /// Everything below is on the whole maximal in-sync set.
    high_watermark: usize,
    followers: BTreeMap<NodeId, Position>,
    /// Proposals on the present state that are not known to be refused.
    pending: BTreeMap<u64, Vec<NodeId>>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: BrokerEpoch,
    fetched: usize,
    synced: usize,
}

impl Leading {
    /// The members of the present set and of every one that may become it.
    fn maximal(&self) -> BTreeSet<NodeId> {
        let pending = self.pending.values().flatten();
        self.isr.iter().chain(pending).copied().collect()
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) rack: String,
    pub(super) disk: Disk,
    /// A copy of the disk from a time when it had been left in order.
    pub(super) backup: Option<Disk>,
    pub(super) process: Option<Process>,
    /// What it has replayed of the metadata.
    pub(super) image: MetadataImage,
    /// An old heartbeat that may come again.
    old_heartbeat: Option<HeartbeatRequest>,
}

impl Node {
    pub(super) fn new(rack: &str) -> Self {
        Self {
            rack: rack.to_owned(),
            disk: Disk {
                epoch: BrokerEpoch::NONE,
                state: Left::Empty,
                replicas: BTreeMap::new(),
                lost: Vec::new(),
            },
            backup: None,
            process: None,
            image: MetadataImage::default(),
            old_heartbeat: None,
        }
    }

    fn is_awake(&self, now_ms: i64) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.frozen_until_ms <= now_ms)
    }

    /// Whether its process is the incarnation that an image shows.
    pub(super) fn runs_as_in(&self, image: &MetadataImage, id: NodeId) -> bool {
        let epoch = self.process.as_ref().and_then(|process| process.epoch);
        epoch.is_some() && image.broker(id).map(|broker| broker.epoch) == epoch
    }
}

/// How much of a replica an acknowledgement counts.
fn counted(durability: Durability, fetched: usize, synced: usize) -> usize {
    match durability {
        Durability::Fsync => synced,
        Durability::Replicated => fetched,
    }
}

impl World {
    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// Starts the process if it does not run, and registers it if it is not.
    pub(super) fn start(&mut self, id: NodeId) {
        let incarnation = Uuid::from_u128(u128::from(self.unique()));
        let node = self.node(id);
        let left = node.disk.state_told();
        let process = node.process.get_or_insert(Process {
            incarnation,
            disk: left,
            epoch: None,
            stopping: false,
            frozen_until_ms: 0,
            leading: BTreeMap::new(),
        });
        if process.epoch.is_some() {
            return;
        }
        let disk = process.disk;
        // The mark of a stop in order is removed before anything is written.
        if node.disk.state == Left::InOrder {
            node.disk.state = Left::Crashed;
        }
        let request = RegistrationRequest {
            cluster_id: CLUSTER.to_owned(),
            node_id: id,
            incarnation_id: process.incarnation,
            disk,
            lost_replicas: node.disk.lost.clone(),
            grpc: Endpoint::new("host", 1),
            broker: Endpoint::new("host", 2),
            kafka: BTreeMap::new(),
            rack: node.rack.clone(),
            metadata_versions: MetadataVersionRange::THIS_BUILD,
            cluster_wide: BTreeMap::new(),
        };
        self.note(|| format!("node {id} registers: {disk:?}"));
        let answer = self.change(&Change::Register(request));
        let lost = self.faulty && self.chance(5);
        if let Some(Err(ChangeError::Register(RegisterError::OldDisk { .. }))) = answer {
            // The operator does what the message says.
            self.crash(id, false);
            self.wipe(id);
            return;
        }
        if let Some(Ok(Answer::Registered(registered))) = answer {
            if disk == DiskState::Empty {
                self.check_in_no_set(id);
            }
            if !lost {
                let node = self.node(id);
                node.process.as_mut().unwrap().epoch = Some(registered.broker_epoch);
                node.disk.lost.clear();
            }
        }
    }

    /// A heartbeat, before the first of which the epoch is put on the disk.
    pub(super) fn beat(&mut self, id: NodeId) {
        let again = self.faulty && self.chance(3);
        let (now_ms, learned) = (self.now_ms, self.chance(60));
        if !self.nodes[&id].is_awake(now_ms) {
            return;
        }
        if learned {
            self.learn(id);
        }
        let node = self.node(id);
        let process = node.process.as_mut().unwrap();
        let Some(epoch) = process.epoch else {
            self.start(id);
            return;
        };
        node.disk.epoch = epoch;
        node.disk.state = Left::Crashed;
        let fresh = HeartbeatRequest {
            node_id: id,
            broker_epoch: epoch,
            metadata_offset: node.image.offset(),
            want_fence: false,
            want_shutdown: process.stopping,
        };
        let old = node.old_heartbeat.replace(fresh);
        let request = old.filter(|_| again).unwrap_or(fresh);
        let answer = self.change(&Change::Heartbeat(request));
        if request != fresh {
            return;
        }
        match answer {
            Some(Ok(Answer::Heartbeat(answer))) if answer.should_shut_down => self.stop(id),
            // Another incarnation, or nobody, has its number: it cannot go on.
            Some(Err(_)) => self.crash(id, false),
            _ => {}
        }
    }

    fn stop(&mut self, id: NodeId) {
        self.note(|| format!("node {id} stops in order"));
        self.sync(id);
        let node = self.node(id);
        node.process = None;
        node.disk.state = Left::InOrder;
        node.backup = Some(node.disk.clone());
    }

    pub(super) fn crash(&mut self, id: NodeId, power: bool) {
        self.note(|| format!("node {id} crashes, power cut: {power}"));
        let keys: Vec<Key> = self.nodes[&id].disk.replicas.keys().copied().collect();
        for key in keys {
            let replica = &self.nodes[&id].disk.replicas[&key];
            let (synced, end) = (replica.synced, replica.records.len());
            let kept = if power && end > synced {
                synced + self.below(end - synced + 1)
            } else {
                end
            };
            let replica = self.node(id).disk.replicas.get_mut(&key).unwrap();
            replica.truncate(kept);
        }
        self.node(id).process = None;
    }

    /// A node replays some of the metadata that it has not seen.
    pub(super) fn learn(&mut self, id: NodeId) {
        let now_ms = self.now_ms;
        let whole = !self.faulty || self.chance(70);
        if !self.nodes[&id].is_awake(now_ms) {
            return;
        }
        let seen = self.nodes[&id].image.offset() as usize;
        let known = self.ends.partition_point(|end| *end <= seen);
        let missing = self.ends.len() - known;
        if missing == 0 {
            return;
        }
        let count = if whole {
            missing
        } else {
            self.below(missing) + 1
        };
        let end = self.ends[known + count - 1];
        let node = self.nodes.get_mut(&id).unwrap();
        for (_, record) in &self.log[seen..end] {
            node.image.replay(record);
        }
        self.follow_metadata(id);
    }

    /// Begins to lead, goes on, or stops, as the node's own image says.
    fn follow_metadata(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let registered = node.runs_as_in(&node.image, id);
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let mut led = BTreeSet::new();
        for (topic, index, partition) in node.image.partitions() {
            if partition.leader != id || !registered {
                continue;
            }
            let key = (topic.id, index);
            led.insert(key);
            let min_insync_replicas = node.image.min_insync_replicas(topic, partition);
            let known = process.leading.get_mut(&key);
            match known.filter(|known| known.leader_epoch == partition.leader_epoch) {
                // An answer may have told of a newer state than the image has.
                Some(known) if partition.partition_epoch < known.partition_epoch => {}
                Some(known) => {
                    if partition.partition_epoch > known.partition_epoch {
                        known.pending.clear();
                    }
                    known.partition_epoch = partition.partition_epoch;
                    known.isr.clone_from(&partition.isr);
                    known.min_insync_replicas = min_insync_replicas;
                }
                None => {
                    let replica = node.disk.replicas.entry(key).or_default();
                    let leading = Leading {
                        leader_epoch: partition.leader_epoch,
                        partition_epoch: partition.partition_epoch,
                        isr: partition.isr.clone(),
                        min_insync_replicas,
                        start: replica.records.len(),
                        high_watermark: 0,
                        followers: BTreeMap::new(),
                        pending: BTreeMap::new(),
                    };
                    process.leading.insert(key, leading);
                }
            }
        }
        // What it led and has not been told to stop leading by anybody newer it goes on leading.
        process.leading.retain(|key, leading| {
            led.contains(key)
                || node
                    .image
                    .partition(key.0, key.1)
                    .is_some_and(|partition| partition.leader_epoch < leading.leader_epoch)
        });
    }

    /// Nodes that believe that they lead a partition.
    fn leaders_of(&self, key: Key) -> Vec<NodeId> {
        let now_ms = self.now_ms;
        let leads = |node: &&Node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.leading.contains_key(&key))
        };
        let nodes = self.nodes.iter();
        let leading = nodes.filter(|(_, node)| node.is_awake(now_ms) && leads(node));
        leading.map(|(id, _)| *id).collect()
    }

    pub(super) fn produce(&mut self, key: Key) {
        let record = self.unique();
        for id in self.leaders_of(key) {
            let replicas = &mut self.node(id).disk.replicas;
            replicas.entry(key).or_default().records.push(record);
            self.acknowledge(id, key);
        }
    }

    /// Followers fetch from whom they believe to be their leader.
    pub(super) fn replicate(&mut self, key: Key) {
        for leader in self.leaders_of(key) {
            for follower in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.chance(70) {
                    self.fetch(key, leader, follower);
                }
            }
        }
    }

    pub(super) fn fetch(&mut self, key: Key, leader: NodeId, follower: NodeId) {
        let now_ms = self.now_ms;
        let from = &self.nodes[&leader];
        let source = from.disk.replicas.get(&key).cloned().unwrap_or_default();
        let led = from.process.as_ref().and_then(|it| it.leading.get(&key));
        let Some(epoch) = led.map(|leading| leading.leader_epoch) else {
            return;
        };
        let node = self.node(follower);
        let believes = node.image.partition(key.0, key.1).is_some_and(|partition| {
            partition.leader == leader
                && partition.leader_epoch == epoch
                && partition.replicas.contains(&follower)
        });
        let able = follower != leader && node.is_awake(now_ms);
        if !able || !believes || !node.runs_as_in(&node.image, follower) {
            return;
        }
        let replica = node.disk.replicas.entry(key).or_default();
        let pairs = replica.records.iter().zip(&source.records);
        let common = pairs.take_while(|(own, theirs)| own == theirs).count();
        replica.truncate(common);
        replica.records.extend(&source.records[common..]);
        let position = Position {
            epoch: node.process.as_ref().and_then(|it| it.epoch).unwrap(),
            fetched: replica.records.len(),
            synced: replica.synced,
        };
        let process = self.node(leader).process.as_mut().unwrap();
        let leading = process.leading.get_mut(&key).unwrap();
        leading.followers.insert(follower, position);
        self.acknowledge(leader, key);
    }

    pub(super) fn sync(&mut self, id: NodeId) {
        if self.nodes[&id].process.is_none() {
            return;
        }
        for replica in self.node(id).disk.replicas.values_mut() {
            replica.synced = replica.records.len();
        }
    }

    /// A leader acknowledges what is on the whole maximal in-sync set, if enough are in sync.
    fn acknowledge(&mut self, id: NodeId, key: Key) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(topic) = node.image.topic_by_id(key.0) else {
            return;
        };
        let durability = node.image.durability(topic);
        let replica = &node.disk.replicas[&key];
        let process = node.process.as_mut().unwrap();
        let leading = process.leading.get_mut(&key).unwrap();
        let own = counted(durability, replica.records.len(), replica.synced);
        let others = leading.maximal();
        let others = others.iter().filter(|member| **member != id).map(|member| {
            let position = leading.followers.get(member);
            position.map_or(0, |it| counted(durability, it.fetched, it.synced))
        });
        let end = others.min().map_or(own, |least| least.min(own));
        let given_up = self.recovered.get(&key);
        let given_up = given_up.is_some_and(|since| leading.leader_epoch < *since);
        if given_up || leading.isr.len() < leading.min_insync_replicas {
            return;
        }
        leading.high_watermark = leading.high_watermark.max(end);
        let acked = self.acked.entry(key).or_default();
        let committed = &replica.records[..leading.high_watermark.min(replica.records.len())];
        let shared = acked.len().min(committed.len());
        assert_eq!(
            acked[..shared],
            committed[..shared],
            "node {id} acknowledges other records"
        );
        if committed.len() > acked.len() {
            self.counts.acked += committed.len() - acked.len();
            committed.clone_into(acked);
        }
    }

    /// A leader proposes to take somebody out of the set, or in.
    pub(super) fn propose(&mut self, key: Key) {
        for id in self.leaders_of(key) {
            let grow = self.chance(70);
            let drop = self.chance(25);
            let member = self.any_node();
            if let Some(isr) = self.next_isr(id, key, member, grow, drop) {
                self.send_proposal(id, key, isr);
            }
        }
    }

    /// A leader's disk is slow: it gives up.
    pub(super) fn resign(&mut self, key: Key) {
        for id in self.leaders_of(key) {
            let process = self.node(id).process.as_ref().unwrap();
            let request = ResignRequest {
                node_id: id,
                broker_epoch: process.epoch.unwrap(),
                partitions: vec![LedPartition {
                    topic_id: key.0,
                    partition: key.1,
                    leader_epoch: process.leading[&key].leader_epoch,
                }],
            };
            self.change(&Change::Resign(request));
        }
    }

    /// The set that a leader would propose next.
    pub(super) fn next_isr(
        &self,
        id: NodeId,
        key: Key,
        member: NodeId,
        grow: bool,
        drop: bool,
    ) -> Option<Vec<NodeId>> {
        let node = &self.nodes[&id];
        let durability = node.image.durability(node.image.topic_by_id(key.0)?);
        let replicas = &node.image.partition(key.0, key.1)?.replicas;
        let leading = node.process.as_ref()?.leading.get(&key)?;
        let mut isr = leading.isr.clone();
        if isr.contains(&member) {
            isr.retain(|other| *other != member);
            return (drop && member != id).then_some(isr);
        }
        let position = leading.followers.get(&member)?;
        let has = counted(durability, position.fetched, position.synced);
        let needed = leading.high_watermark.max(leading.start);
        isr.push(member);
        (grow && has >= needed && replicas.contains(&member)).then_some(isr)
    }

    pub(super) fn send_proposal(&mut self, id: NodeId, key: Key, isr: Vec<NodeId>) {
        let number = self.unique();
        let node = self.node(id);
        let process = node.process.as_mut().unwrap();
        let own = process.epoch.unwrap();
        let leading = process.leading.get_mut(&key).unwrap();
        let members = isr.iter().map(|&member| IsrMember {
            node_id: member,
            broker_epoch: match leading.followers.get(&member) {
                Some(position) if member != id => position.epoch,
                _ if member == id => own,
                _ => node.image.broker(member).map_or(own, |broker| broker.epoch),
            },
        });
        let proposal = IsrProposal {
            topic_id: key.0,
            partition: key.1,
            leader_epoch: leading.leader_epoch,
            partition_epoch: leading.partition_epoch,
            isr: members.collect(),
        };
        leading.pending.insert(number, isr);
        self.proposals.push(Message {
            node: id,
            id: number,
            key,
            body: AlterPartitionRequest {
                node_id: id,
                broker_epoch: own,
                proposals: vec![proposal],
            },
        });
    }

    pub(super) fn deliver_proposal(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let index = self.below(self.proposals.len());
        if self.faulty && self.chance(5) {
            // Lost on the way: the leader never hears of it, and counts with it until the state moves.
            self.proposals.swap_remove(index);
            return;
        }
        let message = self.proposals.swap_remove(index);
        let answer = self.change(&Change::AlterPartition(message.body.clone()));
        let body = match answer {
            Some(Ok(Answer::PartitionsAltered(outcomes))) => Some(outcomes),
            Some(Err(_)) => None,
            _ => return,
        };
        if !(self.faulty && self.chance(10)) {
            self.answers.push(Message {
                node: message.node,
                id: message.id,
                key: message.key,
                body,
            });
        }
    }

    pub(super) fn deliver_answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let index = self.below(self.answers.len());
        let message = self.answers.swap_remove(index);
        self.take_answer(message);
    }

    fn take_answer(&mut self, message: Message<Option<AlterPartitionAnswer>>) {
        let Message {
            node: id,
            id: number,
            key,
            body: answer,
        } = message;
        let process = self.node(id).process.as_mut();
        let leading = process.and_then(|process| process.leading.get_mut(&key));
        let Some(leading) = leading.filter(|leading| leading.pending.contains_key(&number)) else {
            return;
        };
        match answer.map(|mut outcomes| outcomes.remove(0)) {
            Some(Ok(state)) if state.leader_epoch == leading.leader_epoch => {
                if state.partition_epoch > leading.partition_epoch {
                    leading.pending.clear();
                    leading.partition_epoch = state.partition_epoch;
                    leading.isr = state.isr;
                    leading.min_insync_replicas = state.min_insync_replicas;
                } else {
                    leading.pending.remove(&number);
                }
            }
            // Something has changed that it will learn from the metadata; until then it counts with
            // all that it has proposed.
            Some(Ok(_) | Err(AlterPartitionError::StalePartitionEpoch { .. })) => {}
            Some(Err(_)) | None => {
                leading.pending.remove(&number);
            }
        }
        self.acknowledge(id, key);
    }
}
