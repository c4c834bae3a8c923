//! The rules of committed offsets, one sentence each.

use conveyor_record::{LeaderEpoch, Offset};
use uuid::Uuid;

use super::{
    CommitRequest, CommittedOffset, DeleteOffsetsRequest, EXPIRED_RECORDS_MAX, FetchOffsetsRequest,
    OffsetToCommit,
};
use crate::{
    ClusterTopics, Expired, GroupConfig, GroupCoordinator, GroupError, HeartbeatRequest, Transition,
};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

struct Shard {
    coordinator: GroupCoordinator,
    cluster: ClusterTopics,
    now_ms: i64,
}

impl Shard {
    fn new() -> Self {
        let mut coordinator = GroupCoordinator::new(GroupConfig::default());
        coordinator.start(0);
        let cluster = ClusterTopics::new(1)
            .with("orders", Uuid::from_u128(7), 2_000)
            .with("waves", Uuid::from_u128(8), 1);
        Self {
            coordinator,
            cluster,
            now_ms: 0,
        }
    }

    fn apply<R>(&mut self, transition: Transition<R>) -> R {
        for record in &transition.records {
            self.coordinator.replay(record, self.now_ms);
        }
        transition.response
    }

    fn join(&mut self) {
        let request = HeartbeatRequest::join("g", "m", &["orders"]);
        let joined = self
            .coordinator
            .heartbeat(self.now_ms, &request, &self.cluster)
            .unwrap();
        self.apply(joined);
    }

    fn leave(&mut self) {
        let request = HeartbeatRequest::keep_alive("g", "m", -1);
        let left = self
            .coordinator
            .heartbeat(self.now_ms, &request, &self.cluster)
            .unwrap();
        self.apply(left);
    }

    fn commit(
        &mut self,
        (member_id, member_epoch): (&str, i32),
        offset: OffsetToCommit,
    ) -> Result<(), GroupError> {
        let request = CommitRequest {
            group_id: "g".into(),
            member_id: member_id.into(),
            member_epoch,
            offsets: vec![offset],
            ..CommitRequest::default()
        };
        let decided = self
            .coordinator
            .commit_offsets(self.now_ms, &request, &self.cluster)?;
        self.apply(decided).remove(0).result
    }

    fn committed(&self) -> Vec<(String, i32, CommittedOffset)> {
        let request = FetchOffsetsRequest {
            group_id: "g".into(),
            member_epoch: -1,
            ..Default::default()
        };
        let fetched = self
            .coordinator
            .fetch_offsets(&request)
            .unwrap()
            .into_iter();
        fetched
            .map(|f| (f.topic, f.partition, f.committed.unwrap().unwrap()))
            .collect()
    }

    /// Goes to a time and does all that is due.
    fn wait_until(&mut self, now_ms: i64) -> Vec<Expired> {
        let mut expired = Vec::new();
        while let Some(deadline) = self
            .coordinator
            .next_deadline()
            .filter(|due| *due <= now_ms)
        {
            self.now_ms = deadline.max(self.now_ms);
            while let Some(transition) = self.coordinator.tick(self.now_ms) {
                expired.push(self.apply(transition));
            }
        }
        self.now_ms = now_ms;
        expired
    }
}

const OUTSIDE: (&str, i32) = ("", -1);
const MEMBER: (&str, i32) = ("m", 1);

fn of(topic: &str, partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic.into(),
        partition,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(3),
        metadata: "kept".into(),
    }
}

#[test]
fn an_offset_comes_back_exactly_as_it_was_committed() {
    let mut shard = Shard::new();
    shard.now_ms = 77;
    shard.commit(OUTSIDE, of("orders", 0, 42)).unwrap();
    let expected = CommittedOffset {
        offset: Offset(42),
        leader_epoch: LeaderEpoch(3),
        metadata: "kept".into(),
        commit_timestamp_ms: 77,
    };
    assert_eq!(shard.committed(), [("orders".into(), 0, expected)]);
}

#[test]
fn commits_from_outside_need_a_group_without_members() {
    let mut shard = Shard::new();
    assert_eq!(shard.commit(OUTSIDE, of("orders", 0, 1)), Ok(()));
    shard.join();
    let refused = shard.commit(OUTSIDE, of("orders", 0, 0)).unwrap_err();
    assert!(matches!(refused, GroupError::UnknownMemberId { .. }));
    shard.leave();
    assert_eq!(shard.commit(OUTSIDE, of("orders", 0, 0)), Ok(()));
}

#[test]
fn members_commit_in_their_epoch_only() {
    let mut shard = Shard::new();
    let nobody = shard.commit(MEMBER, of("orders", 0, 1)).unwrap_err();
    assert!(matches!(nobody, GroupError::GroupIdNotFound { .. }));
    shard.join();
    assert_eq!(shard.commit(MEMBER, of("orders", 0, 1)), Ok(()));
    for epoch in [0, 2] {
        let stale = shard.commit(("m", epoch), of("orders", 0, 9)).unwrap_err();
        assert!(
            matches!(stale, GroupError::StaleMemberEpoch { expected: 1, .. })
                && stale.is_retriable()
        );
    }
    let other = shard.commit(("x", 1), of("orders", 0, 9)).unwrap_err();
    assert!(matches!(other, GroupError::UnknownMemberId { .. }));
    assert_eq!(shard.committed()[0].2.offset, Offset(1));
}

/// `m` has two partitions since epoch 1 until `n` comes and `m` has to give up one, and does.
#[test]
fn a_member_that_has_not_heard_of_its_epoch_commits_what_it_has_held_since() {
    let mut shard = Shard::new();
    let heartbeat = |shard: &mut Shard, member_id: &str, epoch, owned: &[i32]| {
        let request = HeartbeatRequest {
            owned: Some(owned.iter().map(|p| (Uuid::from_u128(9), *p)).collect()),
            ..match epoch {
                0 => HeartbeatRequest::join("g", member_id, &["tasks"]),
                epoch => HeartbeatRequest::keep_alive("g", member_id, epoch),
            }
        };
        let cluster = shard.cluster.clone();
        let transition = shard.coordinator.heartbeat(0, &request, &cluster).unwrap();
        shard.apply(transition)
    };
    let tasks = Uuid::from_u128(9);
    shard.cluster = ClusterTopics::new(1).with("tasks", tasks, 2);
    heartbeat(&mut shard, "m", 0, &[]);
    heartbeat(&mut shard, "n", 0, &[]);
    // Its answer, with what it has to give up, is on its way.
    let kept = heartbeat(&mut shard, "m", 1, &[0, 1]).assignment.unwrap();
    let (kept, lost) = if kept.contains(tasks, 0) {
        (0, 1)
    } else {
        (1, 0)
    };
    for partition in [kept, lost] {
        assert_eq!(shard.commit(MEMBER, of("tasks", partition, 1)), Ok(()));
    }

    let answer = heartbeat(&mut shard, "m", 1, &[kept]);
    assert_eq!(answer.member_epoch, 2);
    // It has not heard of epoch 2, and commits once more what it has kept.
    assert_eq!(shard.commit(MEMBER, of("tasks", kept, 2)), Ok(()));
    let refused = shard.commit(MEMBER, of("tasks", lost, 2)).unwrap_err();
    assert!(
        matches!(
            refused,
            GroupError::StaleMemberEpoch {
                received: 1,
                expected: 2,
                ..
            }
        ),
        "{refused}"
    );
    let ahead = shard.commit(("m", 3), of("tasks", kept, 2)).unwrap_err();
    assert!(matches!(ahead, GroupError::StaleMemberEpoch { .. }));

    // What was lost and comes back is not what an old commit is about.
    let request = HeartbeatRequest::keep_alive("g", "n", -1);
    let cluster = shard.cluster.clone();
    let left = shard.coordinator.heartbeat(0, &request, &cluster).unwrap();
    shard.apply(left);
    let answer = heartbeat(&mut shard, "m", 2, &[kept]);
    assert_eq!(answer.assignment.unwrap().count(), 2);
    assert_eq!(shard.commit(("m", 2), of("tasks", kept, 3)), Ok(()));
    assert!(shard.commit(("m", 2), of("tasks", lost, 3)).is_err());
    assert_eq!(
        shard.commit(("m", answer.member_epoch), of("tasks", lost, 3)),
        Ok(())
    );
}

#[test]
fn a_late_commit_is_taken_whole_or_not_at_all() {
    let mut shard = Shard::new();
    shard.join();
    shard.cluster = ClusterTopics::new(2)
        .with("orders", Uuid::from_u128(7), 2_000)
        .with("waves", Uuid::from_u128(8), 2);
    // The group goes to epoch 2 for the new subscription, and so does its member.
    let request = HeartbeatRequest {
        subscribed_topic_names: Some(["orders".to_owned(), "waves".to_owned()].into()),
        ..HeartbeatRequest::keep_alive("g", "m", 1)
    };
    let cluster = shard.cluster.clone();
    let moved = shard.coordinator.heartbeat(0, &request, &cluster).unwrap();
    assert_eq!(shard.apply(moved).member_epoch, 2);
    let request = |offsets| CommitRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: 1,
        offsets,
        ..CommitRequest::default()
    };
    let both = request(vec![of("orders", 0, 5), of("waves", 1, 5)]);
    let refused = shard.coordinator.commit_offsets(0, &both, &cluster);
    assert!(matches!(refused, Err(GroupError::StaleMemberEpoch { .. })));
    assert!(shard.committed().is_empty());
    // An offset that makes no sense is told so for its partition, whoever sends it.
    let with_nonsense = request(vec![of("orders", 0, 5), of("none", 0, 5)]);
    let decided = shard
        .coordinator
        .commit_offsets(0, &with_nonsense, &cluster);
    let results = shard.apply(decided.unwrap());
    assert_eq!(results[0].result, Ok(()));
    assert!(results[1].result.is_err());
}

#[test]
fn readers_that_say_they_are_members_must_be() {
    let mut shard = Shard::new();
    shard.join();
    let read = |member_id: &str, member_epoch| {
        let group_id = "g".into();
        let member_id = member_id.into();
        let request = FetchOffsetsRequest {
            group_id,
            member_id,
            member_epoch,
            ..FetchOffsetsRequest::default()
        };
        shard.coordinator.fetch_offsets(&request)
    };
    assert_eq!(read("m", 1), Ok(vec![]));
    assert!(matches!(
        read("m", 2),
        Err(GroupError::StaleMemberEpoch { .. })
    ));
    assert!(matches!(
        read("x", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert!(matches!(
        read("", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
}

#[test]
fn partitions_without_an_offset_are_told_as_such() {
    let shard = Shard::new();
    let partitions = Some(vec![("orders".to_owned(), 1), ("none".to_owned(), 0)]);
    let request = FetchOffsetsRequest {
        group_id: "nobody".into(),
        member_epoch: -1,
        partitions,
        ..Default::default()
    };
    let fetched = shard.coordinator.fetch_offsets(&request).unwrap();
    assert!(fetched.len() == 2 && fetched.iter().all(|one| one.committed == Ok(None)));
}

#[test]
fn what_makes_no_sense_is_refused_for_its_partition_alone() {
    let mut shard = Shard::new();
    let long = OffsetToCommit {
        metadata: "x".repeat(4_097),
        ..of("orders", 1, 1)
    };
    let offsets = vec![
        of("orders", 2_000, 1),
        of("none", 0, 1),
        long,
        of("orders", 0, -1),
        of("waves", 0, 5),
    ];
    let request = CommitRequest {
        group_id: "g".into(),
        member_epoch: -1,
        offsets,
        ..Default::default()
    };
    let decided = shard
        .coordinator
        .commit_offsets(0, &request, &shard.cluster)
        .unwrap();
    let results: Vec<_> = shard
        .apply(decided)
        .into_iter()
        .map(|one| one.result)
        .collect();
    assert!(matches!(
        results[0],
        Err(GroupError::UnknownTopicOrPartition {
            partition: 2_000,
            ..
        })
    ));
    assert!(matches!(
        results[1],
        Err(GroupError::UnknownTopicOrPartition { .. })
    ));
    assert!(matches!(
        results[2],
        Err(GroupError::OffsetMetadataTooLarge {
            size: 4_097,
            max: 4_096,
            ..
        })
    ));
    assert!(matches!(results[3], Err(GroupError::InvalidRequest { .. })));
    assert_eq!(results[4], Ok(()));
    assert_eq!(shard.committed().len(), 1);
}

#[test]
fn offsets_in_use_are_not_deleted() {
    let mut shard = Shard::new();
    shard.commit(OUTSIDE, of("waves", 0, 1)).unwrap();
    shard.commit(OUTSIDE, of("orders", 0, 1)).unwrap();
    shard.join();
    let partitions = vec![
        ("waves".to_owned(), 0),
        ("orders".to_owned(), 0),
        ("waves".to_owned(), 9),
    ];
    let request = DeleteOffsetsRequest {
        group_id: "g".into(),
        partitions,
    };
    let decided = shard.coordinator.delete_offsets(&request).unwrap();
    let results: Vec<_> = shard
        .apply(decided)
        .into_iter()
        .map(|one| one.result)
        .collect();
    assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())));
    assert!(matches!(
        results[1],
        Err(GroupError::GroupSubscribedToTopic { .. })
    ));
    assert_eq!(shard.committed().len(), 1);
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_nobody_is_in_it() {
    let mut shard = Shard::new();
    shard.join();
    shard.commit(MEMBER, of("orders", 0, 1)).unwrap();
    let busy = shard.coordinator.delete_group("g").unwrap_err();
    assert!(matches!(
        busy,
        GroupError::NonEmptyGroup {
            members: 1,
            state: "Stable",
            ..
        }
    ));
    shard.leave();
    let deleted = shard.coordinator.delete_group("g").unwrap();
    shard.apply(deleted);
    assert!(shard.coordinator.list().is_empty());
    assert!(matches!(
        shard.coordinator.delete_group("g"),
        Err(GroupError::GroupIdNotFound { .. })
    ));
}

#[test]
fn offsets_of_members_are_kept_however_old() {
    let mut shard = Shard::new();
    shard.join();
    shard.commit(MEMBER, of("orders", 0, 1)).unwrap();
    assert_eq!(shard.coordinator.expire_offsets(30 * DAY_MS), None);
    assert_eq!(shard.committed().len(), 1);
}

#[test]
fn offsets_go_seven_days_after_the_last_member_and_the_group_with_them() {
    let mut shard = Shard::new();
    shard.join();
    shard.commit(MEMBER, of("orders", 0, 1)).unwrap();
    // An old commit, but a member until now: the time counts from when the group is empty.
    shard.now_ms = 20 * DAY_MS;
    shard.leave();
    shard.coordinator.start(shard.now_ms);
    assert_eq!(shard.wait_until(27 * DAY_MS - 1), []);
    assert_eq!(shard.committed().len(), 1);
    let expired = shard.wait_until(27 * DAY_MS + 600_000);
    assert!(
        matches!(expired[..], [Expired::Offsets { .. }]),
        "{expired:?}"
    );
    assert!(shard.coordinator.list().is_empty());
}

#[test]
fn offsets_of_topics_that_members_no_longer_want_go_seven_days_after_their_commit() {
    let mut shard = Shard::new();
    shard.commit(OUTSIDE, of("waves", 0, 1)).unwrap();
    shard.commit(OUTSIDE, of("orders", 0, 1)).unwrap();
    shard.now_ms = 7 * DAY_MS;
    shard.join();
    shard.coordinator.start(shard.now_ms);
    // The member's session ends long before the next look; keep to the look alone.
    let expired = shard.coordinator.expire_offsets(shard.now_ms).unwrap();
    shard.apply(Transition::new(expired, ()));
    assert_eq!(shard.committed().len(), 1);
    assert_eq!(shard.committed()[0].0, "orders");
}

#[test]
fn many_offsets_expire_in_bounded_steps() {
    let mut shard = Shard::new();
    for partition in 0..1_500 {
        shard.commit(OUTSIDE, of("orders", partition, 1)).unwrap();
    }
    let expired = shard.wait_until(8 * DAY_MS);
    let counts: Vec<usize> = expired
        .into_iter()
        .map(|one| match one {
            Expired::Offsets { count } => count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [EXPIRED_RECORDS_MAX, 500]);
    assert!(shard.coordinator.list().is_empty());
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut shard = Shard::new();
    shard.commit(OUTSIDE, of("waves", 0, 1)).unwrap();
    shard.commit(OUTSIDE, of("orders", 0, 1)).unwrap();
    let forgotten = shard.coordinator.forget_topics(|topic| topic == "orders");
    shard.apply(forgotten);
    assert_eq!(shard.committed().len(), 1);
}
