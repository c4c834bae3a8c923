//! Which nodes get the replicas of a new partition.
//!
//! Round robin over the nodes, beginning at a place that the topic's id decides, so that topics with
//! few partitions do not all pile up on the first node; the replicas of one partition are
//! neighbours, the first is the preferred leader (Kafka's rule without its random start).

use conveyor_record::NodeId;
use uuid::Uuid;

/// Replicas of `count` new partitions, numbered on from `first_partition`.
///
/// `nodes` must be sorted and hold at least `replication_factor` nodes; the caller has checked it.
pub fn place(
    nodes: &[NodeId],
    topic_id: Uuid,
    first_partition: usize,
    count: usize,
    replication_factor: usize,
) -> Vec<Vec<NodeId>> {
    assert!(
        replication_factor >= 1 && replication_factor <= nodes.len(),
        "{replication_factor} replicas do not fit on {} nodes",
        nodes.len()
    );
    let start = (topic_id.as_u128() % nodes.len() as u128) as usize;
    (first_partition..first_partition + count)
        .map(|partition| {
            (0..replication_factor)
                .map(|replica| nodes[(start + partition + replica) % nodes.len()])
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn replicas_are_distinct_and_leaders_balanced(
            node_count in 1usize..9, partitions in 1usize..40, factor in 1usize..9, id: u128,
        ) {
            let factor = factor.min(node_count);
            let nodes: Vec<NodeId> = (0..node_count as i32).map(NodeId).collect();
            let placed = place(&nodes, Uuid::from_u128(id), 0, partitions, factor);
            let mut leaders = vec![0usize; node_count];
            for replicas in &placed {
                let mut distinct = replicas.clone();
                distinct.sort();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), factor);
                leaders[replicas[0].value() as usize] += 1;
            }
            let least = leaders.iter().min().copied().unwrap_or(0);
            prop_assert!(leaders.iter().all(|&count| count <= least + 1));
        }

        #[test]
        fn added_partitions_go_on_where_the_first_ended(first in 1usize..10, more in 1usize..10) {
            let nodes = [NodeId(1), NodeId(2), NodeId(3)];
            let id = Uuid::from_u128(5);
            let all = place(&nodes, id, 0, first + more, 2);
            let mut grown = place(&nodes, id, 0, first, 2);
            grown.extend(place(&nodes, id, first, more, 2));
            prop_assert_eq!(all, grown);
        }
    }
}
