//! The life of nodes, one sentence a test.

use super::draining::{LeaveError, drain, drain_status, unregister};
use super::registration::DiskState;
use super::*;
use crate::testing::{Cluster, SESSION_MS, TOPIC, ids};
use crate::{Endpoint, MetadataVersion, RegisterError, bootstrap};

const MIN_2: [(&str, &str); 1] = [("min.insync.replicas", "2")];

#[test]
fn a_node_is_fenced_until_it_has_seen_its_registration() {
    let mut cluster = Cluster::of(0);
    let request = cluster.request(1, DiskState::Empty);
    let epoch = cluster.register(&request).unwrap();
    assert!(!cluster.image.is_active(NodeId(1)));
    let mut behind = cluster.heartbeat_of(1);
    behind.metadata_offset = epoch.value();
    let answer = cluster.heartbeat(&behind).unwrap();
    assert!(answer.is_fenced && !answer.is_caught_up);
    let answer = cluster.beat(1);
    assert!(!answer.is_fenced && answer.is_caught_up);
    assert!(cluster.image.is_active(NodeId(1)));
}

#[test]
fn the_first_registration_begins_the_clusters_metadata_version() {
    let mut cluster = Cluster::of(0);
    let mut request = cluster.request(1, DiskState::Empty);
    request.cluster_wide = [("min.insync.replicas".to_owned(), "2".to_owned())].into();
    cluster.register(&request).unwrap();
    assert_eq!(cluster.image.metadata_version(), MetadataVersion::CLUSTER);
    assert_eq!(cluster.image.cluster_configs()["min.insync.replicas"], "2");

    let request = cluster.request(2, DiskState::Empty);
    cluster.register(&request).unwrap();
    let mut other = cluster.request(3, DiskState::Empty);
    other.cluster_wide = [("min.insync.replicas".to_owned(), "1".to_owned())].into();
    let refused = cluster.register(&other).unwrap_err();
    assert!(
        matches!(refused, RegisterError::OtherDefault { .. }),
        "{refused}"
    );
}

#[test]
fn epochs_grow_with_every_registration_and_old_ones_are_refused() {
    let mut cluster = Cluster::of(2);
    let old = cluster.heartbeat_of(1);
    let kept = cluster.kept(1);
    let epoch = cluster.start(1, kept).unwrap();
    assert!(epoch > cluster.epoch(2) && epoch > old.broker_epoch);
    let refused = cluster.heartbeat(&old);
    assert!(matches!(refused, Err(BrokerEpochError::Stale { .. })));
    let mut stranger = old;
    stranger.node_id = NodeId(7);
    let refused = cluster.heartbeat(&stranger);
    assert!(matches!(
        refused,
        Err(BrokerEpochError::NotRegistered { .. })
    ));
}

#[test]
fn an_answer_that_was_lost_is_given_again_and_new_addresses_are_taken() {
    let mut cluster = Cluster::of(1);
    let mut request = cluster.request(2, DiskState::Empty);
    let epoch = cluster.register(&request).unwrap();
    let before = cluster.image.offset();
    assert_eq!(cluster.register(&request), Ok(epoch));
    assert_eq!(cluster.image.offset(), before);
    cluster.beat(2);
    request.grpc = Endpoint::new("elsewhere", 9192);
    assert_eq!(cluster.register(&request), Ok(epoch));
    let node = cluster.image.broker(NodeId(2)).unwrap();
    assert!(node.is_active() && node.host == "elsewhere");
}

#[test]
fn a_node_id_in_use_is_refused_until_its_session_is_over() {
    let mut cluster = Cluster::of(2);
    let second = cluster.request(1, DiskState::Empty);
    let refused = cluster.register(&second).unwrap_err();
    assert!(
        matches!(refused, RegisterError::NodeIdInUse { .. }),
        "{refused}"
    );
    let foreign = DiskState::Kept {
        epoch: BrokerEpoch(0),
    };
    let foreign = cluster.request(1, foreign);
    assert!(cluster.register(&foreign).is_err());
    assert_eq!(cluster.pass(SESSION_MS, &[2]), [NodeId(1)]);
    cluster.register(&second).unwrap();
}

#[test]
fn a_process_that_has_the_disk_takes_over_at_once() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    let disk = cluster.unclean(1);
    let request = cluster.request(1, disk);
    cluster.register(&request).unwrap();
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![1], vec![]));
    // It crashes before it has put its new epoch on the disk, and comes again.
    let request = cluster.request(1, disk);
    cluster.register(&request).unwrap();
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![1], vec![]));
}

#[test]
fn what_is_wrong_with_a_node_is_said() {
    let mut cluster = Cluster::of(1);
    let good = cluster.request(2, DiskState::Empty);
    let mut wrong = good.clone();
    wrong.cluster_id = "other".to_owned();
    let refused = cluster.register(&wrong);
    assert!(matches!(refused, Err(RegisterError::OtherCluster { .. })));
    let mut wrong = good.clone();
    wrong.metadata_versions.newest = MetadataVersion(0);
    let refused = cluster.register(&wrong);
    assert!(matches!(
        refused,
        Err(RegisterError::MetadataVersion { .. })
    ));
    let mut wrong = good.clone();
    wrong.metadata_versions.oldest = MetadataVersion(9);
    wrong.metadata_versions.newest = MetadataVersion(9);
    let refused = cluster.register(&wrong);
    assert!(matches!(
        refused,
        Err(RegisterError::MetadataVersion { .. })
    ));
    let mut wrong = good.clone();
    wrong.broker.port = 0;
    let refused = cluster.register(&wrong);
    assert!(matches!(refused, Err(RegisterError::NoAddress { .. })));
    let mut wrong = good;
    wrong.rack = "r".repeat(256);
    let refused = cluster.register(&wrong);
    assert!(matches!(refused, Err(RegisterError::TooLong { .. })));
}

#[test]
fn a_lone_node_becomes_the_first_of_a_cluster_and_keeps_its_partitions() {
    let mut cluster = Cluster::of(0);
    cluster.image = MetadataImage::default();
    let founded = bootstrap(&cluster.image, crate::testing::CLUSTER);
    cluster.apply(founded);
    let alone = BrokerRegistration::new(NodeId(1), "host", 9192);
    cluster
        .image
        .replay(&crate::MetadataRecord::RegisterBroker(alone));
    cluster.create_topic(TOPIC, &[&[1]], &[]);
    cluster.sessions = Sessions::begin(&cluster.image, SESSION_MS, 0);
    assert!(
        cluster.pass(3 * SESSION_MS, &[]).is_empty(),
        "it sends no heartbeats"
    );

    let epoch = BrokerEpoch::NONE;
    cluster.start(1, DiskState::Kept { epoch }).unwrap();
    let (leader, _, isr, ..) = cluster.shape();
    assert_eq!((leader, isr), (1, vec![1]));
}

#[test]
fn missed_heartbeats_fence_and_one_heartbeat_brings_back() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    assert_eq!(cluster.pass(SESSION_MS * 3, &[2, 3]), [NodeId(1)]);
    assert_eq!(cluster.shape(), (2, 1, vec![2, 3], vec![], vec![]));
    assert!(!cluster.beat(1).is_fenced);
    assert_eq!(
        cluster.shape(),
        (2, 1, vec![2, 3], vec![], vec![]),
        "its leader decides"
    );
}

#[test]
fn a_new_controller_fences_nobody_at_once() {
    let mut cluster = Cluster::of(3);
    cluster.now_ms += 10 * SESSION_MS;
    cluster.sessions = Sessions::begin(&cluster.image, SESSION_MS, cluster.now_ms);
    assert!(cluster.pass(SESSION_MS - 1, &[]).is_empty());
    assert_eq!(cluster.pass(1, &[]), ids(&[1, 2, 3]));
}

#[test]
fn a_controller_that_slept_does_not_blame_the_nodes() {
    let mut cluster = Cluster::of(3);
    cluster.now_ms += 10 * SESSION_MS;
    assert!(cluster.pass(SESSION_MS / 2, &[]).is_empty());
    assert_eq!(cluster.pass(SESSION_MS, &[2, 3]), [NodeId(1)]);
}

#[test]
fn a_node_stops_when_it_leads_nothing_and_everybody_knows() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    let behind = cluster.heartbeat_of(3);
    assert!(!cluster.beat_to_stop(1).should_shut_down);
    assert_eq!(cluster.shape(), (2, 1, vec![2, 3], vec![], vec![]));
    cluster.beat(2);
    cluster.heartbeat(&behind).unwrap();
    assert!(
        !cluster.beat_to_stop(1).should_shut_down,
        "node 3 has not seen it"
    );
    cluster.beat(3);
    let answer = cluster.beat_to_stop(1);
    assert!(answer.should_shut_down && answer.is_fenced);
    let kept = cluster.kept(1);
    cluster.start(1, kept).unwrap();
    assert!(
        cluster.image.is_active(NodeId(1)),
        "the stop is over with the incarnation"
    );
}

#[test]
fn a_wiped_replica_leaves_every_set_and_waits_for_a_leader() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    cluster.crash(1);
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![1], vec![]));
    cluster.start(1, DiskState::Empty).unwrap();
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![], vec![]));
    cluster.crash(2);
    assert_eq!(cluster.shape(), (-1, 2, vec![], vec![2], vec![]));
    cluster.start(2, DiskState::Empty).unwrap();
    assert_eq!(
        cluster.shape(),
        (-1, 2, vec![], vec![], vec![]),
        "nobody has the records"
    );
}

#[test]
fn an_old_disk_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    let backup = cluster.kept(1);
    cluster.crash(1);
    let kept = cluster.kept(1);
    cluster.start(1, kept).unwrap();
    cluster.crash(1);
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![1], vec![]));
    let late = cluster.request(1, backup);
    let refused = cluster.register(&late).unwrap_err();
    assert!(
        matches!(refused, RegisterError::OldDisk { .. }),
        "{refused}"
    );
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![1], vec![]));
    cluster.start(1, DiskState::Empty).unwrap();
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![], vec![]));
}

#[test]
fn after_a_crash_a_replica_is_eligible_only_if_acknowledged_means_synced() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    cluster.crash(2);
    cluster.crash(1);
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![1, 2], vec![]));
    let disk = cluster.unclean(2);
    cluster.start(2, disk).unwrap();
    assert_eq!(cluster.shape(), (2, 2, vec![2], vec![1], vec![]));

    let settings = [
        ("min.insync.replicas", "2"),
        ("conveyor.durability", "replicated"),
    ];
    let mut cluster = Cluster::with_topic(2, &settings);
    cluster.crash(2);
    cluster.crash(1);
    let disk = cluster.unclean(2);
    cluster.start(2, disk).unwrap();
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![1], vec![2]));
    let disk = cluster.kept(1);
    cluster.start(1, disk).unwrap();
    assert_eq!(cluster.shape(), (1, 2, vec![1], vec![], vec![2]));
}

#[test]
fn a_draining_node_gives_its_leaders_away_and_is_the_last_to_lead() {
    let mut cluster = Cluster::with_topic(3, &MIN_2);
    let drained = drain(&cluster.image, NodeId(1), true).unwrap();
    let status = cluster.apply(drained);
    assert_eq!((status.leaders, status.replicas), (0, 1));
    assert_eq!(cluster.shape(), (2, 1, vec![1, 2, 3], vec![], vec![]));
    cluster.crash(2);
    assert_eq!(cluster.shape().0, 3);
    cluster.crash(3);
    assert_eq!(cluster.shape().0, 1, "nobody else is in sync");
    let kept = cluster.kept(3);
    cluster.start(3, kept).unwrap();
    cluster.propose(&[1, 3]);
    assert_eq!(
        cluster.shape().0,
        3,
        "it may go as soon as somebody else can lead"
    );
    assert!(matches!(
        drain(&cluster.image, NodeId(9), true),
        Err(LeaveError::Unknown { .. })
    ));
}

#[test]
fn a_node_goes_for_good_when_it_is_stopped_and_empty_or_forced() {
    let mut cluster = Cluster::with_topic(2, &MIN_2);
    let refused = unregister(&cluster.image, NodeId(1), true);
    assert!(matches!(refused, Err(LeaveError::Running { .. })));
    cluster.crash(1);
    let refused = unregister(&cluster.image, NodeId(1), false);
    assert!(matches!(
        refused,
        Err(LeaveError::HasReplicas { replicas: 1, .. })
    ));
    let gone = unregister(&cluster.image, NodeId(1), true).unwrap();
    cluster.apply(gone);
    assert!(cluster.image.broker(NodeId(1)).is_none());
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![], vec![]));
    assert_eq!(drain_status(&cluster.image, NodeId(1)).replicas, 1);
    let kept = DiskState::Kept {
        epoch: BrokerEpoch(1),
    };
    let epoch = cluster.start(1, kept).unwrap();
    assert!(
        epoch > cluster.epoch(2),
        "its number may come again, its epochs do not"
    );
    assert_eq!(cluster.shape(), (2, 1, vec![2], vec![], vec![]));
}

#[test]
fn replicas_on_a_failed_directory_count_for_nothing_and_others_stay() {
    let mut cluster = Cluster::of(2);
    cluster.create_topic(TOPIC, &[&[1, 2], &[1, 2]], &MIN_2);
    cluster.crash(2);
    let disk = cluster.kept(1);
    let mut request = cluster.request(1, disk);
    request.lost_replicas = vec![(cluster.image.topic(TOPIC).unwrap().id, 0)];
    cluster.register(&request).unwrap();
    cluster.beat(1);
    assert_eq!(cluster.shape(), (-1, 1, vec![], vec![2], vec![]));
    let other = &cluster.image.topic(TOPIC).unwrap().partitions[1];
    assert_eq!((other.leader, &other.isr), (NodeId(1), &ids(&[1])));
}
