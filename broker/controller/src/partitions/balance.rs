//! Plans of reassignments: emptying draining nodes, and evening out on command.
//!
//! A plan is a few ordinary reassignments; who carries it out looks again when they are done. What
//! counts are numbers of replicas and of preferred leaders, not bytes: the controller does not know
//! sizes. Partitions that are being reassigned are left alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use conveyor_record::NodeId;

use crate::partitions::reassign::Reassignment;
use crate::partitions::update::is_draining;
use crate::placement::{Site, usable_sites};
use crate::{MetadataImage, TopicImage};

/// A partition as the plan would have it.
struct Planned<'a> {
    topic: &'a Arc<TopicImage>,
    index: i32,
    replicas: Vec<NodeId>,
    changed: bool,
}

/// The cluster as the plan would have it.
struct Plan<'a> {
    image: &'a MetadataImage,
    sites: Vec<Site>,
    partitions: Vec<Planned<'a>>,
    /// Replicas of each usable node, those on their way included.
    loads: BTreeMap<NodeId, usize>,
}

/// Reassignments that take replicas away from draining nodes, so many that with those under way there
/// are at most `max` at a time. Partitions for which there is no other node stay where they are.
pub fn plan_draining(image: &MetadataImage, max: usize) -> Vec<Reassignment> {
    let anybody = image.brokers().any(|broker| broker.draining);
    let room = max.saturating_sub(under_way(image));
    if !anybody || room == 0 {
        return Vec::new();
    }
    let mut plan = Plan::new(image);
    for index in 0..plan.partitions.len() {
        if plan.changes() < room {
            plan.drain(index);
        }
    }
    plan.finish()
}

/// At most `max` reassignments, those under way included, that bring the cluster nearer to even:
/// first partitions to as many racks as they can be in, then as many replicas on each node, then as
/// many preferred leaders. A leadership that is handed on over several nodes is not stopped half-way
/// (cut in two, plans could undo each other for ever), so a few more may come of that; they only change
/// the order of replicas.
pub fn plan_balance(image: &MetadataImage, max: usize) -> Vec<Reassignment> {
    let room = max.saturating_sub(under_way(image));
    let mut plan = Plan::new(image);
    for index in 0..plan.partitions.len() {
        if plan.changes() < room {
            plan.spread(index);
        }
    }
    while plan.changes() < room && plan.even_out_replicas() {}
    while plan.changes() < room && plan.even_out_leaders() {}
    plan.finish()
}

fn under_way(image: &MetadataImage) -> usize {
    let reassigning = |partition: &&crate::PartitionImage| partition.is_reassigning();
    let partitions = image.partitions().map(|(_, _, partition)| partition);
    partitions.filter(reassigning).count()
}

impl<'a> Plan<'a> {
    fn new(image: &'a MetadataImage) -> Self {
        let sites = usable_sites(image);
        let mut loads: BTreeMap<NodeId, usize> =
            sites.iter().map(|site| (site.node_id, 0)).collect();
        let mut partitions = Vec::new();
        for (topic, index, partition) in image.partitions() {
            let replicas = partition.target_replicas();
            for node in &replicas {
                if let Some(load) = loads.get_mut(node) {
                    *load += 1;
                }
            }
            if !partition.is_reassigning() {
                partitions.push(Planned {
                    topic,
                    index,
                    replicas,
                    changed: false,
                });
            }
        }
        Self {
            image,
            sites,
            partitions,
            loads,
        }
    }

    fn changes(&self) -> usize {
        let changed = self.partitions.iter().filter(|planned| planned.changed);
        changed.count()
    }

    fn finish(self) -> Vec<Reassignment> {
        let changed = self.partitions.into_iter().filter(|it| it.changed);
        let moves = changed.map(|planned| Reassignment {
            topic: planned.topic.name.clone(),
            partition: planned.index,
            replicas: Some(planned.replicas),
        });
        moves.collect()
    }

    fn rack(&self, node: NodeId) -> &str {
        let broker = self.image.broker(node);
        broker.map_or("", |broker| broker.rack.as_str())
    }

    fn racks<'b>(&'b self, nodes: impl IntoIterator<Item = &'b NodeId>) -> BTreeSet<&'b str> {
        let racks = nodes.into_iter().map(|node| self.rack(*node));
        racks.collect()
    }

    /// The best node for one more replica of a partition whose other replicas are these: in a new rack
    /// if there is one, with the fewest replicas of all.
    fn best_site(&self, others: &[NodeId], excluded: &[NodeId]) -> Option<NodeId> {
        let taken = self.racks(others);
        let free = self.sites.iter().map(|site| site.node_id);
        let free = free.filter(|node| !others.contains(node) && !excluded.contains(node));
        free.min_by_key(|node| (taken.contains(self.rack(*node)), self.loads[node], *node))
    }

    fn replace(&mut self, partition: usize, from: NodeId, to: NodeId) {
        let planned = &mut self.partitions[partition];
        for node in &mut planned.replicas {
            if *node == from {
                *node = to;
            }
        }
        planned.changed = true;
        if let Some(load) = self.loads.get_mut(&from) {
            *load -= 1;
        }
        if let Some(load) = self.loads.get_mut(&to) {
            *load += 1;
        }
    }

    fn drain(&mut self, partition: usize) {
        let replicas = self.partitions[partition].replicas.clone();
        for &node in replicas
            .iter()
            .filter(|node| is_draining(self.image, **node))
        {
            let others: Vec<NodeId> = self.partitions[partition].replicas.clone();
            let staying: Vec<NodeId> = others.iter().filter(|n| **n != node).copied().collect();
            if let Some(site) = self.best_site(&staying, &[node]) {
                self.replace(partition, node, site);
            }
        }
    }

    /// Puts a replica that shares its rack with another one of the partition into a rack without one.
    fn spread(&mut self, partition: usize) {
        let replicas = self.partitions[partition].replicas.clone();
        for (place, &node) in replicas.iter().enumerate().rev() {
            let staying: Vec<NodeId> = replicas.iter().filter(|n| **n != node).copied().collect();
            let shares = self.racks(&staying).contains(self.rack(node));
            let better = self.best_site(&staying, &[node]);
            let better = better.filter(|site| {
                !self.racks(&staying).contains(self.rack(*site)) && shares && place > 0
            });
            if let Some(site) = better {
                self.replace(partition, node, site);
                return;
            }
        }
    }

    /// Moves one replica from a node with more to one with at least two fewer; whether it did.
    fn even_out_replicas(&mut self) -> bool {
        let mut by_load: Vec<(usize, NodeId)> = self
            .loads
            .iter()
            .map(|(node, load)| (*load, *node))
            .collect();
        by_load.sort_unstable();
        for &(most, from) in by_load.iter().rev() {
            for &(least, to) in &by_load {
                if most < least + 2 {
                    break;
                }
                if let Some(partition) = self.movable(from, to) {
                    self.replace(partition, from, to);
                    return true;
                }
            }
        }
        false
    }

    /// A partition whose replica can go from one node to another without being in fewer racks.
    fn movable(&self, from: NodeId, to: NodeId) -> Option<usize> {
        self.partitions.iter().position(|planned| {
            let replicas = &planned.replicas;
            if !replicas.contains(&from) || replicas.contains(&to) || planned.changed {
                return false;
            }
            let after = replicas.iter().filter(|node| **node != from).chain([&to]);
            self.racks(after).len() >= self.racks(replicas).len()
        })
    }

    /// Gives one preferred leadership from a node with more to one with at least two fewer, over
    /// others if need be; whether it did.
    fn even_out_leaders(&mut self) -> bool {
        let mut leads: BTreeMap<NodeId, usize> = self.loads.keys().map(|node| (*node, 0)).collect();
        for planned in &self.partitions {
            let first = planned.replicas.first();
            if let Some(count) = first.and_then(|first| leads.get_mut(first)) {
                *count += 1;
            }
        }
        let mut by_count: Vec<(usize, NodeId)> =
            leads.iter().map(|(node, count)| (*count, *node)).collect();
        by_count.sort_unstable();
        for &(most, from) in by_count.iter().rev() {
            if let Some(path) = self.path_of_leaders(from, |node| leads[&node] + 2 <= most) {
                for (partition, to) in path {
                    let planned = &mut self.partitions[partition];
                    let place = planned.replicas.iter().position(|node| *node == to);
                    planned.replicas.swap(0, place.unwrap_or(0));
                    planned.changed = true;
                }
                return true;
            }
        }
        false
    }

    /// Partitions whose leaderships have to be handed on, and to whom, so that one leaves `from` and
    /// one comes to a node that wants it.
    fn path_of_leaders(
        &self,
        from: NodeId,
        wants: impl Fn(NodeId) -> bool,
    ) -> Option<Vec<(usize, NodeId)>> {
        let mut came_by: BTreeMap<NodeId, (usize, NodeId)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for (index, planned) in self.partitions.iter().enumerate() {
                if planned.replicas.first() != Some(&node) {
                    continue;
                }
                for &next in &planned.replicas[1..] {
                    let known = next == from || came_by.contains_key(&next);
                    if known || !self.loads.contains_key(&next) {
                        continue;
                    }
                    came_by.insert(next, (index, node));
                    if wants(next) {
                        return Some(walk_back(&came_by, from, next));
                    }
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

fn walk_back(
    came_by: &BTreeMap<NodeId, (usize, NodeId)>,
    from: NodeId,
    to: NodeId,
) -> Vec<(usize, NodeId)> {
    let mut path = Vec::new();
    let mut node = to;
    while node != from {
        let Some(&(partition, before)) = came_by.get(&node) else {
            break;
        };
        path.push((partition, node));
        node = before;
    }
    path
}
