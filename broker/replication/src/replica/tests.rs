//! Which role follows from which metadata.

use super::*;

const LOG: LogState = LogState {
    start: Offset(0),
    end: Offset(10),
    synced: Offset(10),
    high_watermark: Offset(0),
    last_epoch: LeaderEpoch(1),
};

fn state(leader: i32, leader_epoch: i32, partition_epoch: i32) -> PartitionState {
    PartitionState {
        replicas: vec![NodeId(1), NodeId(2)],
        in_sync: vec![NodeId(1), NodeId(2)],
        leader: NodeId(leader),
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        recovering: false,
    }
}

struct Broker(Replica);

impl Broker {
    fn registered_at(place: i64) -> Self {
        let config = ReplicationConfig::default();
        let me = Incarnation {
            node: NodeId(1),
            epoch: BrokerEpoch(place),
        };
        Self(Replica::new(me, place, config))
    }

    fn learns(&mut self, at: i64, state: &PartitionState) -> RoleChange {
        let brokers = Brokers::new();
        self.0
            .metadata_changed(at, state, &brokers, &LOG, 0, &mut Vec::new())
    }
}

#[test]
fn the_controller_decides_who_leads() {
    let mut broker = Broker::registered_at(5);
    assert_eq!(broker.learns(6, &state(2, 3, 1)), RoleChange::Follows);
    assert_eq!(broker.learns(7, &state(1, 4, 2)), RoleChange::Leads);
    assert_eq!(broker.learns(8, &state(1, 4, 3)), RoleChange::Same);
    assert_eq!(broker.learns(9, &state(-1, 5, 4)), RoleChange::Idles);
}

#[test]
fn older_metadata_is_ignored() {
    let mut broker = Broker::registered_at(5);
    broker.learns(7, &state(1, 4, 2));
    assert_eq!(broker.learns(8, &state(2, 3, 9)), RoleChange::Ignored);
    assert_eq!(broker.learns(8, &state(1, 4, 1)), RoleChange::Ignored);
    assert!(broker.0.leader().is_some());
}

#[test]
fn a_leadership_from_before_the_registration_is_not_taken_up_again() {
    let mut broker = Broker::registered_at(5);
    assert_eq!(broker.learns(4, &state(1, 3, 1)), RoleChange::Ignored);
    assert_eq!(broker.learns(5, &state(2, 4, 2)), RoleChange::Follows);
}

#[test]
fn who_is_not_a_replica_does_nothing() {
    let mut broker = Broker::registered_at(0);
    broker.learns(1, &state(1, 1, 1));
    let elsewhere = PartitionState {
        replicas: vec![NodeId(2)],
        leader: NodeId(2),
        ..state(2, 2, 2)
    };
    assert_eq!(broker.learns(2, &elsewhere), RoleChange::Idles);
}

#[test]
fn a_new_leadership_starts_at_the_end_of_the_log() {
    let mut broker = Broker::registered_at(0);
    broker.learns(1, &state(1, 1, 1));
    let leader = broker.0.leader().unwrap();
    assert_eq!(leader.epoch_start(), Offset(10));
    assert!(!leader.knows_committed_end());
}
