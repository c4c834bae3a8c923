//! Leaders, in-sync sets and reassignments, one sentence a test.

use conveyor_record::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use proptest::prelude::*;

use super::alter::{AlterPartitionError, IneligibleReason, InvalidIsrReason, alter_partition};
use super::balance::{plan_balance, plan_draining};
use super::election::{
    ElectionError, RecoverRequest, balance_leaders, elect_preferred, has_preferred_leader, recover,
};
use super::reassign::{ReassignError, Reassignment, list_reassignments, reassign};
use super::resign::{LedPartition, ResignError, ResignRequest, resign};
use crate::brokers::draining::{drain, drain_status};
use crate::brokers::registration::DiskState;
use crate::testing::{Cluster, TOPIC, ids};

const MIN_2: [(&str, &str); 1] = [("min.insync.replicas", "2")];
const MIN_1: [(&str, &str); 0] = [];

fn move_to(cluster: &mut Cluster, replicas: Option<&[i32]>) -> Result<(), ReassignError> {
    let wanted = Reassignment {
        topic: TOPIC.to_owned(),
        partition: 0,
        replicas: replicas.map(ids),
    };
    let decided = reassign(&cluster.image, &[wanted], true);
    cluster.apply(decided).remove(0)
}

fn recover_with(
    cluster: &mut Cluster,
    leader: Option<i32>,
) -> Result<(i32, Vec<NodeId>), ElectionError> {
    let request = RecoverRequest {
        topic: TOPIC.to_owned(),
        partition: 0,
        leader: leader.map(NodeId),
    };
    let recovered = recover(&cluster.image, &request)?;
    let recovered = cluster.apply(recovered);
    assert_eq!(recovered.leader_epoch, cluster.partition().leader_epoch);
    Ok((recovered.leader.value(), recovered.may_hold_more))
}

#[test]
fn the_next_replica_in_sync_leads_when_the_leader_fails() {
    let mut cluster = Cluster::with_topic(3, &MIN_1);
    cluster.propose(&[1, 3]);
    cluster.crash(1);
    assert_eq!(
        cluster.shape(),
        (3, 1, vec![3], vec![], vec![]),
        "2 may lack records"
    );
}

#[test]
fn below_min_insync_replicas_whoever_leaves_stays_eligible() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    cluster.propose(&[1, 2]);
    assert_eq!(cluster.shape(), (1, 0, vec![1, 2], vec![], vec![]));
    cluster.propose(&[1]);
    assert_eq!(cluster.shape(), (1, 0, vec![1], vec![2], vec![]));
    cluster.crash(1);
    assert_eq!(
        cluster.shape(),
        (2, 1, vec![2], vec![1], vec![]),
        "2 runs and is eligible"
    );
    cluster.propose(&[2, 3]);
    assert_eq!(cluster.shape(), (2, 1, vec![2, 3], vec![], vec![]));
}

#[test]
fn the_last_replica_comes_back_as_leader() {
    let mut cluster = Cluster::with_topic(3, &MIN_1);
    cluster.propose(&[1]);
    cluster.crash(1);
    assert_eq!(
        cluster.shape(),
        (-1, 1, vec![], vec![1], vec![]),
        "2 and 3 may lack records"
    );
    let disk = cluster.unclean(1);
    cluster.start(1, disk).unwrap();
    assert_eq!(cluster.shape(), (1, 2, vec![1], vec![], vec![]));
}

#[test]
fn a_smaller_min_insync_replicas_ends_eligibility_at_once() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    cluster.propose(&[1]);
    assert_eq!(cluster.shape(), (1, 0, vec![1], vec![2], vec![]));
    cluster.set("min.insync.replicas", "1");
    assert_eq!(
        cluster.shape(),
        (1, 0, vec![1], vec![], vec![]),
        "1 acknowledges alone now"
    );
    cluster.crash(1);
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![1], vec![]));
}

#[test]
fn a_greater_min_insync_replicas_lists_who_leaves_from_then_on() {
    let mut cluster = Cluster::with_topic(3, &MIN_1);
    cluster.propose(&[1, 2]);
    cluster.set("min.insync.replicas", "2");
    let state = cluster.propose(&[1]);
    assert_eq!(state.min_insync_replicas, 2);
    assert_eq!(cluster.shape(), (1, 0, vec![1], vec![2], vec![]));
}

#[test]
fn more_min_insync_replicas_than_replicas_means_all_of_them() {
    let cluster = Cluster::with_topic(2, &[("min.insync.replicas", "5")]);
    let topic = cluster.image.topic(TOPIC).unwrap();
    assert_eq!(
        cluster
            .image
            .min_insync_replicas(topic, cluster.partition()),
        2
    );
}

#[test]
fn a_proposal_counts_only_on_the_present_state_by_its_leader() {
    use AlterPartitionError as E;
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    let fresh = cluster.proposal(&[1, 2]);
    let refusal = |cluster: &mut Cluster, change: fn(&mut super::alter::IsrProposal)| {
        let mut request = fresh.clone();
        change(&mut request.proposals[0]);
        cluster.alter(&request).unwrap_err()
    };
    let newer = refusal(&mut cluster, |p| p.leader_epoch = LeaderEpoch(7));
    assert!(matches!(newer, E::NotController { .. }));
    let newer = refusal(&mut cluster, |p| p.partition_epoch = PartitionEpoch(7));
    assert!(matches!(newer, E::NotController { .. }));
    let unknown = refusal(&mut cluster, |p| p.partition = 7);
    assert!(matches!(unknown, E::UnknownPartition { .. }));

    let mut follower = fresh.clone();
    (follower.node_id, follower.broker_epoch) = (NodeId(2), cluster.epoch(2));
    let refused = cluster.alter(&follower).unwrap_err();
    assert!(matches!(refused, E::NotLeader { .. }));
    let mut stale = fresh.clone();
    stale.broker_epoch = BrokerEpoch(0);
    assert!(alter_partition(&cluster.image, &stale).is_err());

    cluster.propose(&[1, 2, 3]);
    assert_eq!(
        cluster.partition().partition_epoch,
        PartitionEpoch(0),
        "nothing changed"
    );
    cluster.propose(&[1, 3]);
    let refused = cluster.alter(&fresh).unwrap_err();
    assert!(matches!(refused, E::StalePartitionEpoch { .. }));
    let elsewhere = cluster.proposal(&[1]);
    cluster.crash(1);
    cluster.beat(1);
    let refused = cluster.alter(&elsewhere).unwrap_err();
    assert!(matches!(refused, E::FencedLeaderEpoch { .. }));
}

#[test]
fn members_are_replicas_running_in_the_incarnation_that_the_leader_saw() {
    use AlterPartitionError as E;
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    cluster.start(4, DiskState::Empty).unwrap();
    let reason = |cluster: &mut Cluster, isr: &[i32]| {
        let proposal = cluster.proposal(isr);
        match cluster.alter(&proposal).unwrap_err() {
            E::InvalidIsr { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    assert_eq!(reason(&mut cluster, &[1, 4]), InvalidIsrReason::NoReplica);
    assert_eq!(reason(&mut cluster, &[1, 2, 2]), InvalidIsrReason::Repeated);
    assert_eq!(
        reason(&mut cluster, &[2, 3]),
        InvalidIsrReason::LeaderMissing
    );
    assert_eq!(reason(&mut cluster, &[]), InvalidIsrReason::LeaderMissing);

    let reason =
        |cluster: &mut Cluster, request: &super::alter::AlterPartitionRequest| match cluster
            .alter(request)
            .unwrap_err()
        {
            E::IneligibleReplica { reason, .. } => reason,
            other => panic!("{other}"),
        };
    cluster.propose(&[1, 2]);
    let before = cluster.proposal(&[1, 2, 3]);
    cluster.crash(3);
    assert_eq!(reason(&mut cluster, &before), IneligibleReason::Fenced);
    cluster.start(3, DiskState::Empty).unwrap();
    let refused = reason(&mut cluster, &before);
    assert!(matches!(refused, IneligibleReason::OtherIncarnation { .. }));
    cluster.beat_to_stop(3);
    let stopping = cluster.proposal(&[1, 2, 3]);
    assert_eq!(
        reason(&mut cluster, &stopping),
        IneligibleReason::ShuttingDown
    );
}

#[test]
fn the_preferred_leader_returns_by_command_and_by_itself() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    cluster.crash(1);
    cluster.beat(1);
    assert_eq!(
        balance_leaders(&cluster.image, 10).response,
        0,
        "1 is not in sync"
    );
    let asked = [(TOPIC.to_owned(), 0)];
    let refused = elect_preferred(&cluster.image, Some(&asked))
        .response
        .remove(0);
    assert!(matches!(
        refused.result,
        Err(ElectionError::PreferredNotAvailable { .. })
    ));
    cluster.propose(&[1, 2, 3]);
    let commanded = elect_preferred(&cluster.image, None);
    assert_eq!(commanded.response[0].result, Ok(NodeId(1)));
    assert_eq!(balance_leaders(&cluster.image, 0).response, 0);
    let balanced = balance_leaders(&cluster.image, 10);
    assert_eq!(cluster.apply(balanced), 1);
    assert_eq!(cluster.shape(), (1, 2, vec![1, 2, 3], vec![], vec![]));
    let again = elect_preferred(&cluster.image, Some(&asked))
        .response
        .remove(0);
    assert!(matches!(again.result, Err(ElectionError::NotNeeded { .. })));
    let unknown = [(TOPIC.to_owned(), 5)];
    let unknown = elect_preferred(&cluster.image, Some(&unknown))
        .response
        .remove(0);
    assert!(matches!(unknown.result, Err(ElectionError::Unknown(_))));
}

#[test]
fn a_slow_leader_lets_another_one_lead_if_there_is_one() {
    let mut cluster = Cluster::with_topic(2, &MIN_1);
    let resignation = |cluster: &Cluster, node| ResignRequest {
        node_id: NodeId(node),
        broker_epoch: cluster.epoch(node),
        partitions: vec![LedPartition {
            topic_id: cluster.image.topic(TOPIC).unwrap().id,
            partition: 0,
            leader_epoch: cluster.partition().leader_epoch,
        }],
    };
    let request = resignation(&cluster, 2);
    let refused = resign(&cluster.image, &request).unwrap().response.remove(0);
    assert!(matches!(refused, Err(ResignError::NotLeader { .. })));
    let request = resignation(&cluster, 1);
    let resigned = resign(&cluster.image, &request).unwrap();
    assert_eq!(cluster.apply(resigned), [Ok(NodeId(2))]);
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![], vec![]));
    let late = resign(&cluster.image, &request).unwrap().response.remove(0);
    assert!(matches!(late, Err(ResignError::NotLeader { .. })));
    let request = resignation(&cluster, 2);
    let alone = resign(&cluster.image, &request).unwrap().response.remove(0);
    assert!(matches!(alone, Err(ResignError::NobodyElse { .. })));
}

#[test]
fn records_are_given_up_only_by_an_operator() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    assert!(matches!(
        recover_with(&mut cluster, None),
        Err(ElectionError::NotNeeded { .. })
    ));
    cluster.propose(&[1, 2]);
    for node in [2, 1] {
        cluster.crash(node);
    }
    cluster.start(1, DiskState::Empty).unwrap();
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![2], vec![]));
    let stranger = recover_with(&mut cluster, Some(2));
    assert!(
        matches!(stranger, Err(ElectionError::NotAReplica { .. })),
        "2 does not run"
    );
    assert_eq!(recover_with(&mut cluster, Some(3)), Ok((3, ids(&[2]))));
    assert_eq!(cluster.shape(), (3, 2, vec![3], vec![], vec![]));
}

#[test]
fn who_was_eligible_last_is_asked_first() {
    let settings = [
        ("min.insync.replicas", "2"),
        ("conveyor.durability", "replicated"),
    ];
    let mut cluster = Cluster::with_topic(3, &settings);
    cluster.propose(&[1, 3]);
    for node in [3, 1] {
        cluster.crash(node);
        let disk = cluster.unclean(node);
        cluster.start(node, disk).unwrap();
    }
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![], vec![1, 3]));
    assert_eq!(recover_with(&mut cluster, None), Ok((1, ids(&[3]))));
    for node in 1..=3 {
        cluster.crash(node);
    }
    cluster.start(1, DiskState::Empty).unwrap();
    cluster.crash(1);
    let nobody = recover_with(&mut cluster, None);
    assert!(matches!(
        nobody,
        Err(ElectionError::NoReplicaAvailable { .. })
    ));
}

#[test]
fn a_reassignment_adds_waits_and_takes_away() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    cluster.start(4, DiskState::Empty).unwrap();
    move_to(&mut cluster, Some(&[2, 3, 4])).unwrap();
    let partition = cluster.partition();
    assert_eq!(partition.replicas, ids(&[2, 3, 4, 1]));
    assert_eq!(partition.adding_replicas, ids(&[4]));
    assert_eq!(partition.removing_replicas, ids(&[1]));
    assert_eq!(partition.leader, NodeId(1));
    let ongoing = list_reassignments(&cluster.image, None);
    assert_eq!(ongoing[0].waiting_for, ids(&[4]));

    let state = cluster.propose(&[1, 2, 3, 4]);
    assert_eq!(state.leader, NodeId(2), "the former leader went");
    let partition = cluster.partition();
    assert_eq!(
        (&partition.replicas, &partition.isr),
        (&ids(&[2, 3, 4]), &ids(&[2, 3, 4]))
    );
    assert!(!partition.is_reassigning());
    assert!(list_reassignments(&cluster.image, None).is_empty());
}

#[test]
fn a_reassignment_is_cancelled_to_what_was_before() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    for node in [4, 5] {
        cluster.start(node, DiskState::Empty).unwrap();
    }
    let idle = move_to(&mut cluster, None);
    assert!(matches!(idle, Err(ReassignError::NotInProgress { .. })));
    move_to(&mut cluster, Some(&[4, 2, 3])).unwrap();
    cluster.propose(&[1, 2, 3]);
    move_to(&mut cluster, Some(&[5, 2, 3])).unwrap();
    assert_eq!(
        cluster.partition().replicas,
        ids(&[5, 2, 3, 1]),
        "4 is not wanted any more"
    );
    move_to(&mut cluster, None).unwrap();
    let partition = cluster.partition();
    assert_eq!(partition.replicas, ids(&[2, 3, 1]));
    assert!(!partition.is_reassigning());
}

#[test]
fn what_only_the_new_replicas_have_is_not_cancelled_away() {
    let mut cluster = Cluster::with_topic(2, &MIN_1);
    for node in [3, 4] {
        cluster.start(node, DiskState::Empty).unwrap();
    }
    move_to(&mut cluster, Some(&[3, 4])).unwrap();
    cluster.propose(&[1, 3]);
    cluster.crash(1);
    assert_eq!(cluster.shape(), (3, 1, vec![3], vec![], vec![]));
    let refused = move_to(&mut cluster, None);
    assert!(matches!(
        refused,
        Err(ReassignError::WouldLoseRecords { .. })
    ));
    let refused = move_to(&mut cluster, Some(&[1, 2]));
    assert!(matches!(
        refused,
        Err(ReassignError::WouldLoseRecords { .. })
    ));
    cluster.propose(&[3, 4]);
    assert_eq!(cluster.partition().replicas, ids(&[3, 4]));
}

#[test]
fn the_replication_factor_grows_and_shrinks_by_reassignment() {
    let mut cluster = Cluster::with_topic(1, &MIN_2);
    for node in [2, 3] {
        cluster.start(node, DiskState::Empty).unwrap();
    }
    move_to(&mut cluster, Some(&[1, 2, 3])).unwrap();
    let topic = cluster.image.topic(TOPIC).unwrap();
    let needed = cluster
        .image
        .min_insync_replicas(topic, cluster.partition());
    assert_eq!(needed, 1, "writes go on while the new ones catch up");
    assert_eq!(cluster.propose(&[1, 2]).min_insync_replicas, 1);
    assert_eq!(cluster.propose(&[1, 2, 3]).min_insync_replicas, 2);
    let kept = [Reassignment {
        topic: TOPIC.to_owned(),
        partition: 0,
        replicas: Some(ids(&[3])),
    }];
    let refused = reassign(&cluster.image, &kept, false).response.remove(0);
    assert!(matches!(refused, Err(ReassignError::FactorChange { .. })));
    move_to(&mut cluster, Some(&[3])).unwrap();
    assert_eq!(cluster.shape(), (3, 1, vec![3], vec![], vec![]));
}

#[test]
fn nonsense_is_not_reassigned() {
    let mut cluster = Cluster::with_topic(2, &MIN_1);
    for wrong in [&[][..], &[1, 1], &[1, 9]] {
        let refused = move_to(&mut cluster, Some(wrong));
        assert!(
            matches!(refused, Err(ReassignError::InvalidAssignment { .. })),
            "{wrong:?}"
        );
    }
    cluster.start(3, DiskState::Empty).unwrap();
    let drained = drain(&cluster.image, NodeId(3), true).unwrap();
    cluster.apply(drained);
    let refused = move_to(&mut cluster, Some(&[1, 3]));
    assert!(matches!(refused, Err(ReassignError::Draining { .. })));
    move_to(&mut cluster, Some(&[2, 1])).unwrap();
    assert_eq!(cluster.partition().replicas, ids(&[2, 1]));
    assert_eq!(cluster.shape().0, 1, "order alone changes no leader");
}

/// Lets every reassignment under way come to its end.
fn catch_up(cluster: &mut Cluster) {
    let topics: Vec<_> = cluster.image.topics().cloned().collect();
    for topic in topics {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let isr = partition
                .replicas
                .iter()
                .map(|&node_id| super::alter::IsrMember {
                    node_id,
                    broker_epoch: cluster.image.broker(node_id).unwrap().epoch,
                });
            let request = super::alter::AlterPartitionRequest {
                node_id: partition.leader,
                broker_epoch: cluster.epoch(partition.leader.value()),
                proposals: vec![super::alter::IsrProposal {
                    topic_id: topic.id,
                    partition: index,
                    leader_epoch: partition.leader_epoch,
                    partition_epoch: partition.partition_epoch,
                    isr: isr.collect(),
                }],
            };
            cluster.alter(&request).unwrap();
        }
    }
    let balanced = balance_leaders(&cluster.image, usize::MAX);
    cluster.apply(balanced);
}

fn carry_out(cluster: &mut Cluster, plan: &[Reassignment]) {
    let decided = reassign(&cluster.image, plan, false);
    assert!(cluster.apply(decided).iter().all(Result::is_ok));
    catch_up(cluster);
}

#[test]
fn draining_moves_a_few_at_a_time_until_nothing_is_left() {
    let mut cluster = Cluster::of(4);
    let all: [&[i32]; 6] = [
        &[1, 2, 3],
        &[2, 3, 1],
        &[3, 1, 2],
        &[1, 2, 3],
        &[1, 3, 2],
        &[2, 1, 3],
    ];
    cluster.create_topic(TOPIC, &all, &MIN_2);
    let drained = drain(&cluster.image, NodeId(1), true).unwrap();
    cluster.apply(drained);
    for _ in 0..3 {
        let plan = plan_draining(&cluster.image, 2);
        assert_eq!(plan.len(), 2);
        carry_out(&mut cluster, &plan);
    }
    assert!(plan_draining(&cluster.image, 2).is_empty());
    assert_eq!(drain_status(&cluster.image, NodeId(1)).replicas, 0);
}

#[test]
fn a_node_without_a_stand_in_keeps_its_replicas() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    let drained = drain(&cluster.image, NodeId(1), true).unwrap();
    cluster.apply(drained);
    assert!(plan_draining(&cluster.image, 5).is_empty());
}

#[test]
fn a_leadership_handed_on_over_others_is_not_stopped_half_way() {
    let mut cluster = Cluster::of(4);
    let (first, second): (&[i32], &[i32]) = (&[1, 2], &[2, 3]);
    let mut all = vec![first; 12];
    all.extend([&[3, 2], &[3, 2], second]);
    cluster.create_topic(TOPIC, &all, &MIN_1);
    for round in 0.. {
        let plan = plan_balance(&cluster.image, 1);
        if plan.is_empty() {
            break;
        }
        assert!(round < 100, "plans undo each other");
        carry_out(&mut cluster, &plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn balancing_ends_and_evens_out(
        nodes in 2i32..7,
        factor in 1usize..4,
        starts in proptest::collection::vec((0i32..3, any::<bool>()), 1..24),
        step in 1usize..6,
    ) {
        let mut cluster = Cluster::of(nodes);
        let factor = factor.min(nodes as usize);
        let chosen: Vec<Vec<i32>> = starts
            .iter()
            .map(|(start, back)| {
                let run = (0..factor as i32).map(|step| (start + step) % nodes + 1);
                if *back { run.rev().collect() } else { run.collect() }
            })
            .collect();
        let chosen: Vec<&[i32]> = chosen.iter().map(Vec::as_slice).collect();
        cluster.create_topic(TOPIC, &chosen, &MIN_1);
        for round in 0.. {
            let plan = plan_balance(&cluster.image, step);
            if plan.is_empty() {
                break;
            }
            prop_assert!(plan.len() < step + nodes as usize && round < 200);
            carry_out(&mut cluster, &plan);
        }
        let count = |of: &dyn Fn(NodeId) -> usize| {
            let counts: Vec<usize> = (1..=nodes).map(|node| of(NodeId(node))).collect();
            (counts.iter().min().copied().unwrap(), counts.iter().max().copied().unwrap())
        };
        let topic = cluster.image.topic(TOPIC).unwrap();
        let (fewest, most) = count(&|node| {
            topic.partitions.iter().filter(|p| p.replicas.contains(&node)).count()
        });
        prop_assert!(most <= fewest + 1, "replicas {fewest} to {most}");
        let (fewest, most) = count(&|node| {
            topic.partitions.iter().filter(|p| p.leader == node).count()
        });
        prop_assert!(most <= fewest + 1, "leaders {fewest} to {most}");
        prop_assert!(topic.partitions.iter().all(has_preferred_leader));
    }
}
