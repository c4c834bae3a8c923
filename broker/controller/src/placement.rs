//! Which nodes get the replicas of a new partition.
//!
//! The nodes stand in a circle in which racks take turns. Each partition's first replica, its
//! preferred leader, goes one node further than that of the partition before; the others follow it
//! round the circle, each to a rack that the partition is not in yet as long as there are such. With
//! every round of partitions the followers are shifted by one, so that the partitions of a node that
//! fails are led on by all others and not by its neighbour alone (Kafka's rules,
//! `StripedReplicaPlacer` and before it KIP-36, with a start that the topic's id decides instead of
//! chance).

use conveyor_record::NodeId;
use uuid::Uuid;

use crate::{BrokerRegistration, MetadataImage};

/// A node that may get replicas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Where it stands; empty when not told, which is a rack like others.
    pub rack: String,
    /// The node.
    pub node_id: NodeId,
}

/// The nodes that may get replicas now: neither fenced nor stopping nor draining.
pub fn usable_sites(image: &MetadataImage) -> Vec<Site> {
    sites_where(image, BrokerRegistration::takes_replicas)
}

fn sites_where(image: &MetadataImage, wanted: impl Fn(&BrokerRegistration) -> bool) -> Vec<Site> {
    let wanted = image.brokers().filter(|broker| wanted(broker));
    let sites = wanted.map(|broker| Site {
        rack: broker.rack.clone(),
        node_id: broker.node_id,
    });
    sites.collect()
}

/// The nodes that replicas of new partitions may go to.
///
/// As long as there are enough active ones, no others get any. With fewer, every partition is on all
/// active ones, and nodes that are away for now make up the number, as in Kafka: a topic can be
/// created while a node restarts, and that node fetches the rest when it is back. Racks are then
/// kept apart among the active nodes and among the others, not between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sites {
    active: Vec<Site>,
    away: Vec<Site>,
}

impl Sites {
    /// Those there are now. Draining nodes get nothing.
    pub fn of(image: &MetadataImage) -> Self {
        Self {
            active: usable_sites(image),
            away: sites_where(image, |broker| !broker.is_active() && !broker.draining),
        }
    }

    /// How many replicas a partition can have at most: none if nobody is there to lead it.
    pub fn count(&self) -> usize {
        match self.active.len() {
            0 => 0,
            active => active + self.away.len(),
        }
    }

    /// Replicas of `count` new partitions, numbered on from `first_partition`; the first of each is
    /// active. `replication_factor` is from 1 to [`Self::count`]; the caller has checked it.
    pub fn place(
        &self,
        topic_id: Uuid,
        first_partition: usize,
        count: usize,
        replication_factor: usize,
    ) -> Vec<Vec<NodeId>> {
        let present = replication_factor.min(self.active.len());
        let mut placed = place(&self.active, topic_id, first_partition, count, present);
        let absent = replication_factor - present;
        if absent > 0 {
            let rest = place(&self.away, topic_id, first_partition, count, absent);
            for (replicas, rest) in placed.iter_mut().zip(rest) {
                replicas.extend(rest);
            }
        }
        placed
    }
}

/// Replicas of `count` new partitions, numbered on from `first_partition`.
///
/// There must be at least `replication_factor` sites; the caller has checked it.
pub fn place(
    sites: &[Site],
    topic_id: Uuid,
    first_partition: usize,
    count: usize,
    replication_factor: usize,
) -> Vec<Vec<NodeId>> {
    assert!(
        replication_factor >= 1 && replication_factor <= sites.len(),
        "{replication_factor} replicas do not fit on {} nodes",
        sites.len()
    );
    let circle = circle(sites);
    let start = (topic_id.as_u128() % circle.len() as u128) as usize;
    (first_partition..first_partition + count)
        .map(|partition| replicas(&circle, start, partition, replication_factor))
        .collect()
}

/// The sites with racks taking turns.
fn circle(sites: &[Site]) -> Vec<&Site> {
    let mut sorted: Vec<&Site> = sites.iter().collect();
    sorted.sort();
    let mut turns: Vec<(usize, &Site)> = Vec::with_capacity(sorted.len());
    for site in sorted {
        let turn = match turns.last() {
            Some((turn, last)) if last.rack == site.rack => turn + 1,
            _ => 0,
        };
        turns.push((turn, site));
    }
    turns.sort_by_key(|(turn, site)| (*turn, &site.rack));
    turns.into_iter().map(|(_, site)| site).collect()
}

fn replicas(circle: &[&Site], start: usize, partition: usize, count: usize) -> Vec<NodeId> {
    let leader = (start + partition) % circle.len();
    let others = circle.len() - 1;
    let shift = partition / circle.len();
    let mut candidates: Vec<&Site> = (0..others)
        .map(|step| circle[(leader + 1 + (shift + step) % others) % circle.len()])
        .collect();
    let mut racks = vec![circle[leader].rack.as_str()];
    let mut chosen = vec![circle[leader].node_id];
    while chosen.len() < count {
        let new_rack = |site: &&Site| !racks.contains(&site.rack.as_str());
        let index = candidates.iter().position(new_rack);
        if index.is_none() {
            // Every rack has one: they may have another.
            racks.clear();
        }
        let site = candidates.remove(index.unwrap_or(0));
        racks.push(&site.rack);
        chosen.push(site.node_id);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn sites(racks: &[&str]) -> Vec<Site> {
        let numbered = (0..).zip(racks);
        let sites = numbered.map(|(number, rack)| Site {
            rack: (*rack).to_owned(),
            node_id: NodeId(number),
        });
        sites.collect()
    }

    #[test]
    fn racks_take_turns() {
        let sites = sites(&["a", "a", "a", "b", "b", "c"]);
        let circle = circle(&sites);
        let racks: String = circle.iter().map(|site| site.rack.as_str()).collect();
        assert_eq!(racks, "abcaba");
        let placed = place(&sites, Uuid::nil(), 0, 2, 3);
        assert_eq!(placed[0], [NodeId(0), NodeId(3), NodeId(5)]);
        assert_eq!(placed[1], [NodeId(3), NodeId(5), NodeId(1)]);
    }

    #[test]
    fn the_partitions_of_a_failed_node_are_led_on_by_all_others() {
        let sites = sites(&["", "", "", ""]);
        let placed = place(&sites, Uuid::nil(), 0, 12, 2);
        let of_first = placed.iter().filter(|replicas| replicas[0] == NodeId(0));
        let seconds: BTreeSet<NodeId> = of_first.map(|replicas| replicas[1]).collect();
        assert_eq!(seconds.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn replicas_are_distinct_over_racks_and_leaders_balanced(
            racks in proptest::collection::vec(0usize..4, 1..9),
            partitions in 1usize..40,
            factor in 1usize..9,
            id: u128,
        ) {
            let names = ["a", "b", "c", ""];
            let racks: Vec<&str> = racks.into_iter().map(|rack| names[rack]).collect();
            let sites = sites(&racks);
            let factor = factor.min(sites.len());
            let placed = place(&sites, Uuid::from_u128(id), 0, partitions, factor);
            let rack_count = racks.iter().collect::<BTreeSet<_>>().len();
            let mut leaders = vec![0usize; sites.len()];
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor);
                let used: BTreeSet<_> = replicas.iter().map(|n| racks[n.value() as usize]).collect();
                prop_assert_eq!(used.len(), factor.min(rack_count));
                leaders[replicas[0].value() as usize] += 1;
            }
            let least = leaders.iter().min().copied().unwrap_or(0);
            prop_assert!(leaders.iter().all(|&count| count <= least + 1));
        }

        #[test]
        fn all_that_are_there_come_before_any_that_is_away(
            active in 1usize..5,
            away in 0usize..5,
            partitions in 1usize..20,
            factor in 1usize..10,
            id: u128,
        ) {
            let all = sites(&["a", "b", "a", "c", "b", "a", "a", "b", "c"]);
            let sites = Sites {
                active: all[..active].to_vec(),
                away: all[active..active + away].to_vec(),
            };
            let factor = factor.min(sites.count());
            for replicas in sites.place(Uuid::from_u128(id), 0, partitions, factor) {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor);
                let there = |node: &&NodeId| (node.value() as usize) < active;
                let first = replicas.iter().take_while(there).count();
                prop_assert_eq!(first, factor.min(active));
            }
        }

        #[test]
        fn added_partitions_go_on_where_the_first_ended(first in 1usize..10, more in 1usize..10) {
            let sites = sites(&["a", "b", "a"]);
            let id = Uuid::from_u128(5);
            let all = place(&sites, id, 0, first + more, 2);
            let mut grown = place(&sites, id, 0, first, 2);
            grown.extend(place(&sites, id, first, more, 2));
            prop_assert_eq!(all, grown);
        }
    }
}
