//! What goes wrong, and what operators do meanwhile.

use std::collections::BTreeMap;

use conveyor_record::{BrokerEpoch, NodeId};
use rand::RngExt as _;
use uuid::Uuid;

use super::broker::{Disk, Left};
use super::{Key, World};
use crate::brokers::registration::DiskState;
use crate::partitions::election::RecoverRequest;
use crate::partitions::reassign::Reassignment;
use crate::{Answer, Change, ConfigAlteration, ConfigOperation};

impl World {
    pub(super) fn fault(&mut self) {
        let id = self.any_node();
        let runs = self.nodes[&id].process.is_some();
        match self.below(20) {
            0..4 if !runs => self.start(id),
            0..2 => self.crash(id, false),
            2..4 => self.crash(id, true),
            16 => {
                let all: Vec<NodeId> = self.nodes.keys().copied().collect();
                for id in all {
                    self.crash(id, true);
                }
            }
            4..7 if !runs => self.wipe(id),
            7 if !runs => self.restore(id),
            8 | 9 => {
                let until = self.now_ms + self.rng.random_range(500..3 * super::SESSION_MS);
                if let Some(process) = self.node(id).process.as_mut() {
                    process.frozen_until_ms = until;
                }
            }
            10 | 11 => {
                if let Some(process) = self.node(id).process.as_mut() {
                    process.stopping = true;
                }
            }
            12 => self.fail_over(),
            13 => {
                // Nobody is heard of for a while; the controller itself may have slept.
                self.now_ms += self.rng.random_range(1..2 * super::SESSION_MS);
            }
            14 => self.end_session(id),
            15 => self.lose_directory(id),
            _ => self.tick(),
        }
    }

    pub(super) fn wipe(&mut self, id: NodeId) {
        self.note(|| format!("node {id} is wiped"));
        self.counts.wiped += 1;
        let node = self.node(id);
        node.disk = Disk {
            epoch: BrokerEpoch::NONE,
            state: Left::Empty,
            replicas: BTreeMap::new(),
            lost: Vec::new(),
        };
        node.image = crate::MetadataImage::default();
    }

    /// A node gets an old copy of its disk.
    fn restore(&mut self, id: NodeId) {
        let node = self.node(id);
        if let Some(backup) = node.backup.clone() {
            node.disk = backup;
            self.note(|| format!("node {id} gets an old disk"));
        }
    }

    /// The host has seen the socket of a process close.
    fn end_session(&mut self, id: NodeId) {
        let epoch = self.image.broker(id).map(|broker| broker.epoch);
        let gone = self.nodes[&id].process.is_none();
        if let Some(epoch) = epoch.filter(|_| gone) {
            self.controller.sessions_mut().end(id, epoch);
        }
    }

    /// A directory fails, and some of the node's replicas are gone: it registers anew.
    fn lose_directory(&mut self, id: NodeId) {
        let incarnation = Uuid::from_u128(u128::from(self.unique()));
        let keys: Vec<Key> = self.nodes[&id].disk.replicas.keys().copied().collect();
        let lost: Vec<Key> = keys.into_iter().filter(|_| self.chance(50)).collect();
        let node = self.node(id);
        let Some(process) = node.process.as_mut().filter(|it| it.epoch.is_some()) else {
            return;
        };
        process.incarnation = incarnation;
        process.epoch = None;
        // It still has all else, in memory or on disk.
        let epoch = node.disk.epoch;
        process.disk = DiskState::Kept { epoch };
        process.leading.clear();
        node.disk.replicas.retain(|key, _| !lost.contains(key));
        node.disk.lost.extend(lost);
        self.start(id);
    }

    /// An operator's or client's wish.
    pub(super) fn command(&mut self) {
        let id = self.any_node();
        let Some(key) = self.any_partition() else {
            return;
        };
        let topic = self.topic_name(key);
        let change = match self.below(24) {
            0..8 => {
                let count = self.below(3) + 1;
                let mut replicas: Vec<NodeId> = self.nodes.keys().copied().collect();
                while replicas.len() > count {
                    replicas.remove(self.below(replicas.len()));
                }
                let turn = self.below(replicas.len());
                replicas.rotate_left(turn);
                reassignment(topic, key.1, Some(replicas))
            }
            8..10 => reassignment(topic, key.1, None),
            10..13 => Change::AlterTopicConfigs {
                topic,
                alterations: vec![ConfigAlteration {
                    name: "min.insync.replicas".to_owned(),
                    operation: ConfigOperation::Set(self.rng.random_range(1..4).to_string()),
                }],
                validate_only: false,
            },
            13 => Change::SetClusterConfig {
                name: "min.insync.replicas".to_owned(),
                value: Some(self.rng.random_range(1..3).to_string()),
            },
            14 => Change::ElectPreferredLeaders { partitions: None },
            15 | 16 => Change::Balance { moves_max: 2 },
            17 => Change::Drain {
                node_id: id,
                draining: true,
            },
            18 | 19 => Change::Drain {
                node_id: id,
                draining: false,
            },
            20 => Change::Unregister {
                node_id: id,
                force: self.chance(30),
            },
            21 => Change::CreatePartitions {
                topic,
                total_count: self.rng.random_range(1..5),
                assignments: None,
                validate_only: false,
            },
            22 if self.image.topics().len() > 2 => Change::DeleteTopic { name: topic },
            _ if self.image.topics().len() < 3 => return self.create_topic(),
            _ => return self.recover(key),
        };
        self.change(&change);
    }

    /// An operator accepts a loss: what the new leader lacks was acknowledged for nothing.
    pub(super) fn recover(&mut self, key: Key) {
        let request = RecoverRequest {
            topic: self.topic_name(key),
            partition: key.1,
            leader: None,
        };
        let answer = self.change(&Change::Recover(request));
        let Some(Ok(Answer::Recovered(recovered))) = answer else {
            return;
        };
        self.counts.recoveries += 1;
        self.recovered.insert(key, recovered.leader_epoch);
        let replica = self.nodes[&recovered.leader].disk.replicas.get(&key);
        let has = replica.map_or(Vec::new(), |replica| replica.records.clone());
        let acked = self.acked.entry(key).or_default();
        let pairs = acked.iter().zip(&has);
        let common = pairs.take_while(|(acked, has)| acked == has).count();
        acked.truncate(common);
        // Its unsynced tail counts from now on as if it had been acknowledged by itself.
        let disk = &mut self.node(recovered.leader).disk;
        let replica = disk.replicas.entry(key).or_default();
        replica.synced = replica.records.len();
    }
}

fn reassignment(topic: String, partition: i32, replicas: Option<Vec<NodeId>>) -> Change {
    let wanted = Reassignment {
        topic,
        partition,
        replicas,
    };
    Change::Reassign {
        reassignments: vec![wanted],
        allow_factor_change: true,
    }
}
