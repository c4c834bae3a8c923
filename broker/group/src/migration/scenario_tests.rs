//! The way from one protocol to the other rule by rule, told as short stories.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::shard::{GROUP, Shard, member, newcomer, partitions, subscription};
use crate::classic::subscription::write_assignment;
use crate::{
    Assignment, GroupError, GroupKind, HeartbeatRequest, JoinRequest, Protocol, SyncRequest,
};

#[test]
fn a_newer_member_takes_a_classic_group_over_with_its_members_and_what_they_have() {
    let mut shard = Shard::classic();
    let joined = shard.newer_joins("n");
    assert_eq!(shard.kind(), GroupKind::Consumer);
    assert_eq!(joined.member_epoch, 3, "one line of numbers");
    assert_eq!(joined.assignment, Some(Assignment::new()));
    assert_eq!(shard.held("a").0, partitions(&[0, 1]));
    let group = shard.coordinator.describe(GROUP).unwrap();
    let kinds: Vec<bool> = group
        .members
        .iter()
        .map(|member| member.is_classic)
        .collect();
    assert_eq!(kinds, [true, true, false]);
    shard.restart();

    // Both are told to join again, and can commit what they have read until then.
    for (id, partition) in [("a", 0), ("b", 3)] {
        assert_eq!(shard.commit(id, 2, partition), Ok(()));
        let error = shard.beat(id, 2).unwrap_err();
        assert!(matches!(error, GroupError::RebalanceInProgress { .. }));
    }
    // One of them has to give something up: it is told so by a smaller assignment.
    let a = shard.join(&member("a", &[0, 1]));
    let b = shard.join(&member("b", &[2, 3]));
    let (a, b) = (shard.joined(a), shard.joined(b));
    assert_eq!((a.leader.as_str(), a.members.len()), ("", 0));
    let (giver, keeper, left) = if a.generation == 2 {
        ("a", "b", &b)
    } else {
        ("b", "a", &a)
    };
    assert_eq!(left.generation, 3);
    let kept = shard.sync(giver, 2, &[]).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(shard.sync(keeper, 3, &[]).unwrap().len(), 2);
    assert_eq!(shard.beat(keeper, 3), Ok(()));
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    assert_eq!(shard.newer(&beat).unwrap().assignment, None, "not free yet");

    // It joins again without it, and the newer member gets it.
    let again = shard.join(&member(giver, &kept));
    assert_eq!(shard.joined(again).generation, 3);
    assert_eq!(shard.sync(giver, 3, &[]).unwrap(), kept);
    let gained = shard.newer(&beat).unwrap().assignment.unwrap();
    assert_eq!(gained.count(), 1);
    for id in ["a", "b"] {
        assert_eq!(shard.beat(id, 3), Ok(()));
    }
}

#[test]
fn a_rebalance_under_way_gives_way_to_the_newer_protocol() {
    let mut shard = Shard::classic();
    let waiting = shard.join(&member("a", &[0, 1]));
    assert!(!shard.replies.contains_key(&waiting));
    shard.newer_joins("n");
    let told = shard.join_reply(waiting);
    assert_eq!(told.member_id, "a");
    assert!(matches!(
        told.outcome,
        Err(GroupError::RebalanceInProgress { .. })
    ));
    // What the last settled generation gave is still in their hands.
    assert_eq!(shard.held("a").0, partitions(&[0, 1]));
    assert_eq!(shard.held("b").0, partitions(&[2, 3]));
}

#[test]
fn who_gives_up_everything_to_join_gets_its_part_at_once() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    let tickets = ["a", "b"].map(|id| (id, shard.join(&member(id, &[]))));
    let mut owned = 0;
    for (id, ticket) in tickets {
        assert_eq!(shard.joined(ticket).generation, 3);
        owned += shard.sync(id, 3, &[]).unwrap().len();
    }
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    let gained = shard.newer(&beat).unwrap().assignment;
    assert_eq!(owned + gained.map_or(0, |gained| gained.count()), 4);
}

#[test]
fn the_last_newer_member_leaves_a_classic_group_behind() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for id in ["a", "b"] {
        let ticket = shard.join(&member(id, &[]));
        assert_eq!(shard.joined(ticket).generation, 3);
        shard.sync(id, 3, &[]).unwrap();
    }
    shard.newer_leaves("n");
    assert_eq!(shard.kind(), GroupKind::Classic);
    for id in ["a", "b"] {
        let told = shard.beat(id, 3).unwrap_err();
        assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    }
    let tickets = ["a", "b"].map(|id| shard.join(&member(id, &[])));
    let joined = tickets.map(|ticket| shard.joined(ticket));
    assert_eq!(joined[0].generation, 4);
    assert_eq!(joined[0].leader, joined[1].leader);
    let leader = joined.iter().find(|joined| !joined.members.is_empty());
    assert_eq!(leader.unwrap().members.len(), 2);
}

#[test]
fn after_a_crash_the_members_of_a_group_that_has_become_classic_join_again() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    shard.newer_leaves("n");
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
    // The partitions of the one that has left belong to nobody: nobody may go on as if nothing were.
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::IllegalGeneration { .. }));
}

#[test]
fn a_newer_member_that_falls_silent_leaves_a_classic_group_behind() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for _ in 0..6 {
        shard.wait(8_000);
        for id in ["a", "b"] {
            shard.beat(id, 2).unwrap_err();
        }
    }
    assert_eq!(shard.kind(), GroupKind::Classic);
}

#[test]
fn classic_members_come_and_go_in_a_group_of_the_newer_protocol() {
    let mut shard = Shard::new();
    assert_eq!(shard.newer_joins("n").assignment.unwrap().count(), 4);
    // As a rule a member is given an id first, and comes again with it.
    let asked = JoinRequest {
        requires_known_member: true,
        ..newcomer("a")
    };
    let ticket = shard.join(&asked);
    let told = shard.join_reply(ticket);
    assert_eq!(told.member_id, "a");
    assert!(matches!(
        told.outcome,
        Err(GroupError::MemberIdRequired { .. })
    ));
    let ticket = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(ticket).generation, 2);
    assert_eq!(shard.sync("a", 2, &[]), Ok(vec![]), "all is in n's hands");

    let mut beat = HeartbeatRequest::keep_alive(GROUP, "n", 1);
    let kept = shard.newer(&beat).unwrap().assignment.unwrap();
    assert_eq!(kept.count(), 2);
    assert_eq!(
        shard.beat("a", 2),
        Ok(()),
        "n has not given anything up yet"
    );
    beat.owned = Some(kept);
    assert_eq!(shard.newer(&beat).unwrap().member_epoch, 2);
    // Now there is something for it.
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    let ticket = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(ticket).generation, 2);
    assert_eq!(shard.sync("a", 2, &[]).unwrap().len(), 2);

    let unknown = shard.leave(&["n", "x", "a"]);
    assert!(
        matches!(unknown[0], Err(GroupError::UnknownMemberId { .. })),
        "no classic member"
    );
    assert!(matches!(
        unknown[1],
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert_eq!(unknown[2], Ok(()));
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 2);
    assert_eq!(shard.newer(&beat).unwrap().assignment.unwrap().count(), 4);
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_put_out() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", 3);
    for _ in 0..9 {
        shard.beat("a", 2).unwrap_err();
        let ticket = shard.join(&member("b", &[]));
        shard.joined(ticket);
        shard.newer(&beat).unwrap();
        shard.wait(7_000);
    }
    let gone = shard.beat("a", 2).unwrap_err();
    assert!(matches!(gone, GroupError::UnknownMemberId { .. }), "{gone}");
}

#[test]
fn wrong_generations_are_told_by_the_names_that_classic_members_know() {
    let mut shard = Shard::classic();
    shard.newer_joins("n");
    for error in [
        shard.beat("a", 1).unwrap_err(),
        shard.sync("a", 1, &[]).unwrap_err(),
        shard.commit("a", 9, 0).unwrap_err(),
        shard.commit("a", 1, 0).unwrap_err(),
    ] {
        assert!(
            matches!(error, GroupError::IllegalGeneration { .. }),
            "{error}"
        );
    }
    let newer = shard.commit("n", 9, 0).unwrap_err();
    assert!(matches!(newer, GroupError::StaleMemberEpoch { .. }));
}

#[test]
fn a_static_member_is_rolled_from_one_protocol_to_the_other_and_back() {
    let mut shard = Shard::new();
    let classic = |id: &str| JoinRequest {
        instance_id: Some("shelf".into()),
        ..newcomer(id)
    };
    shard.join(&classic("old"));
    let all = BTreeMap::from([("orders".to_owned(), BTreeSet::from([0, 1, 2, 3]))]);
    shard
        .sync("old", 1, &[("old", write_assignment(1, &all))])
        .unwrap();

    // It was stopped without a word, as classic static members are.
    let request = HeartbeatRequest {
        instance_id: Some("shelf".into()),
        ..HeartbeatRequest::join(GROUP, "newer", &["orders"])
    };
    let joined = shard.newer(&request).unwrap();
    assert_eq!(joined.assignment.unwrap().count(), 4);
    let group = shard.coordinator.describe(GROUP).unwrap();
    assert_eq!(group.members.len(), 1);

    let ticket = shard.join(&classic("again"));
    assert_eq!(shard.kind(), GroupKind::Classic);
    assert_eq!(shard.joined(ticket).leader, "again");
    let beat = HeartbeatRequest::keep_alive(GROUP, "newer", joined.member_epoch);
    assert!(shard.newer(&beat).is_err());
    shard
        .sync("again", 1, &[("again", write_assignment(1, &all))])
        .unwrap();
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
    assert!(shard.coordinator.describe(GROUP).is_err());
    assert_eq!(shard.beat("again", 1), Ok(()));
}

#[test]
fn the_last_newer_member_is_rolled_back_in_its_place() {
    let mut shard = Shard::new();
    let newer = HeartbeatRequest {
        instance_id: Some("shelf".into()),
        ..HeartbeatRequest::join(GROUP, "newer", &["orders"])
    };
    shard.newer(&newer).unwrap();
    shard.join(&member("a", &[]));
    let stranger = JoinRequest {
        instance_id: Some("shelf".into()),
        protocol_type: "connect".into(),
        ..newcomer("x")
    };
    let refused = shard.join(&stranger);
    assert!(shard.join_reply(refused).outcome.is_err());
    assert_eq!(
        shard.kind(),
        GroupKind::Consumer,
        "a refusal changes nothing"
    );

    let back = JoinRequest {
        instance_id: Some("shelf".into()),
        ..newcomer("back")
    };
    let back = shard.join(&back);
    assert_eq!(shard.kind(), GroupKind::Classic);
    let told = shard.beat("a", 2).unwrap_err();
    assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    let a = shard.join(&member("a", &[]));
    assert_eq!(shard.joined(a).generation, shard.joined(back).generation);
    shard.restart();
    assert_eq!(shard.kind(), GroupKind::Classic);
}

#[test]
fn groups_whose_members_are_no_consumers_stay_as_they_are() {
    let mut shard = Shard::new();
    let worker = JoinRequest {
        protocol_type: "connect".into(),
        ..newcomer("w")
    };
    let ticket = shard.join(&worker);
    assert_eq!(shard.joined(ticket).generation, 1);
    let request = HeartbeatRequest::join(GROUP, "n", &["orders"]);
    let refused = shard.newer(&request).unwrap_err();
    assert!(matches!(
        refused,
        GroupError::NotAConsumerGroup { members: 1, .. }
    ));
    assert_eq!(shard.beat("w", 1), Ok(()));

    shard.leave(&["w"]);
    shard.newer_joins("n");
    let ticket = shard.join(&worker);
    assert!(matches!(
        shard.join_reply(ticket).outcome,
        Err(GroupError::InconsistentGroupProtocol { .. })
    ));
}

/// A member that speaks these protocols, the best first.
fn speaking(names: &[&str], request: JoinRequest) -> JoinRequest {
    let protocols = names.iter().map(|name| Protocol {
        name: (*name).to_owned(),
        metadata: subscription(&[]),
    });
    JoinRequest {
        protocols: protocols.collect(),
        ..request
    }
}

/// All of `orders`, with a byte that only the assignor understands.
fn assignment_with_user_data() -> Bytes {
    let all = BTreeMap::from([("orders".to_owned(), BTreeSet::from([0, 1, 2, 3]))]);
    let mut bytes = write_assignment(1, &all).to_vec();
    bytes.truncate(bytes.len() - 4);
    bytes.extend([0, 0, 0, 1, 42]);
    Bytes::from(bytes)
}

#[test]
fn a_group_whose_assignor_hands_out_data_of_its_own_stays_classic() {
    let mut shard = Shard::new();
    shard.join(&speaking(&["stream"], newcomer("s")));
    let made = [("s", assignment_with_user_data())];
    shard.sync("s", 1, &made).unwrap();
    let request = HeartbeatRequest::join(GROUP, "n", &["orders"]);
    let refused = shard.newer(&request).unwrap_err();
    assert!(matches!(refused, GroupError::NotAConsumerGroup { .. }));
    let told = refused.to_string();
    assert!(told.contains("data of its own"), "{told}");
    assert_eq!(shard.kind(), GroupKind::Classic);
    assert_eq!(shard.beat("s", 1), Ok(()));
}

#[test]
fn what_the_sticky_assignor_of_librdkafka_adds_is_nothing_that_a_member_reads() {
    let mut shard = Shard::new();
    shard.join(&speaking(&["cooperative-sticky"], newcomer("s")));
    let made = [("s", assignment_with_user_data())];
    shard.sync("s", 1, &made).unwrap();
    shard.newer_joins("n");
    assert_eq!(shard.kind(), GroupKind::Consumer);
    assert_eq!(shard.held("s").0.count(), 4);
}

#[test]
fn a_sync_may_name_what_the_generation_before_the_upgrade_had_elected() {
    let mut shard = Shard::new();
    shard.join(&speaking(&["sticky"], newcomer("b")));
    shard.sync("b", 1, &[]).unwrap();
    shard.join(&speaking(&["range", "sticky"], newcomer("a")));
    let b = shard.join(&speaking(&["sticky"], member("b", &[])));
    let joined = shard.joined(b);
    assert_eq!(joined.protocol.as_deref(), Some("sticky"));
    shard.newer_joins("n");
    let mut request = SyncRequest {
        group_id: GROUP.into(),
        member_id: "a".into(),
        generation: joined.generation,
        protocol_type: Some("consumer".into()),
        protocol: Some("sticky".into()),
        ..SyncRequest::default()
    };
    let told = shard.sync_as(&request).unwrap_err();
    assert!(matches!(told, GroupError::RebalanceInProgress { .. }));
    request.protocol = Some("roundrobin".into());
    let told = shard.sync_as(&request).unwrap_err();
    assert!(matches!(told, GroupError::InconsistentGroupProtocol { .. }));
}

#[test]
fn a_newer_member_that_was_put_out_joins_the_group_that_has_become_classic_again() {
    let mut shard = Shard::classic();
    let joined = shard.newer_joins("n");
    for _ in 0..6 {
        shard.wait(8_000);
        for id in ["a", "b"] {
            shard.beat(id, 2).unwrap_err();
        }
    }
    assert_eq!(shard.kind(), GroupKind::Classic);
    let beat = HeartbeatRequest::keep_alive(GROUP, "n", joined.member_epoch);
    let told = shard.newer(&beat).unwrap_err();
    assert!(matches!(told, GroupError::UnknownMemberId { .. }));
    shard.newer_joins("n");
    assert_eq!(shard.kind(), GroupKind::Consumer);
}

#[test]
fn a_group_too_large_for_the_classic_protocol_keeps_the_newer_one() {
    let mut shard = Shard::classic();
    let newer = HeartbeatRequest {
        instance_id: Some("shelf".into()),
        ..HeartbeatRequest::join(GROUP, "n", &["orders"])
    };
    shard.newer(&newer).unwrap();
    shard.coordinator.config.classic_max_size = 1;
    let back = shard.join(&JoinRequest {
        instance_id: Some("shelf".into()),
        ..newcomer("back")
    });
    shard.joined(back);
    assert_eq!(shard.kind(), GroupKind::Consumer);
    let group = shard.coordinator.describe(GROUP).unwrap();
    let ids: Vec<&str> = group.members.iter().map(|m| &*m.member_id).collect();
    assert_eq!(ids, ["a", "b", "back"]);
    shard.restart();
    assert!(matches!(
        shard.beat("a", 2),
        Err(GroupError::RebalanceInProgress { .. })
    ));
}
