//! The rules of membership, one sentence each.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    Assignment, ClusterTopics, Expired, GroupConfig, GroupCoordinator, GroupError, GroupState,
    HeartbeatRequest, HeartbeatResponse, Transition,
};

const ORDERS: Uuid = Uuid::from_u128(7);
const WAVES: Uuid = Uuid::from_u128(8);

/// A coordinator whose records are replayed at once.
struct Shard {
    coordinator: GroupCoordinator,
    cluster: ClusterTopics,
    now_ms: i64,
    /// Records that the last request wrote.
    written: usize,
}

impl Shard {
    fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Self {
        let mut coordinator = GroupCoordinator::new(config);
        coordinator.start(0);
        let cluster = ClusterTopics::new(1).with("orders", ORDERS, 4);
        Self {
            coordinator,
            cluster,
            now_ms: 0,
            written: 0,
        }
    }

    fn apply<R>(&mut self, transition: Transition<R>) -> R {
        self.written = transition.records.len();
        for record in &transition.records {
            self.coordinator.replay(record, self.now_ms);
        }
        transition.response
    }

    fn send(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, GroupError> {
        let decided = self
            .coordinator
            .heartbeat(self.now_ms, request, &self.cluster)?;
        Ok(self.apply(decided))
    }

    fn join(&mut self, member_id: &str) -> HeartbeatResponse {
        self.send(&join(member_id)).unwrap()
    }

    fn join_static(&mut self, member_id: &str) -> Result<HeartbeatResponse, GroupError> {
        self.send(&HeartbeatRequest {
            instance_id: Some("i".into()),
            ..join(member_id)
        })
    }

    /// A heartbeat that tells what the member owns.
    fn beat(&mut self, member_id: &str, epoch: i32, owned: &Assignment) -> HeartbeatResponse {
        self.send(&owning(member_id, epoch, owned)).unwrap()
    }

    fn keep_alive(&mut self, member_id: &str, epoch: i32) -> Result<HeartbeatResponse, GroupError> {
        self.send(&HeartbeatRequest::keep_alive("g", member_id, epoch))
    }

    fn tick(&mut self) -> Option<Expired> {
        let transition = self.coordinator.tick(self.now_ms)?;
        Some(self.apply(transition))
    }

    fn state(&self) -> GroupState {
        self.coordinator.describe("g").unwrap().state
    }

    fn epoch(&self) -> i32 {
        self.coordinator.describe("g").unwrap().epoch
    }
}

fn join(member_id: &str) -> HeartbeatRequest {
    HeartbeatRequest::join("g", member_id, &["orders"])
}

fn owning(member_id: &str, epoch: i32, owned: &Assignment) -> HeartbeatRequest {
    let owned = Some(owned.clone());
    HeartbeatRequest {
        owned,
        ..HeartbeatRequest::keep_alive("g", member_id, epoch)
    }
}

fn orders(partitions: impl IntoIterator<Item = i32>) -> Assignment {
    partitions
        .into_iter()
        .map(|partition| (ORDERS, partition))
        .collect()
}

/// A group of two of which each has half; their epoch.
fn two_halves(shard: &mut Shard) -> (i32, Assignment, Assignment) {
    shard.join("a");
    shard.join("b");
    let told = shard.beat("a", 1, &orders(0..4));
    let mine = told.assignment.unwrap();
    let epoch = shard.beat("a", 1, &mine).member_epoch;
    let other = shard
        .beat("b", epoch, &Assignment::new())
        .assignment
        .unwrap();
    assert_eq!(
        (mine.count(), other.count(), shard.state()),
        (2, 2, GroupState::Stable)
    );
    (epoch, mine, other)
}

#[test]
fn the_first_member_gets_everything_in_epoch_one() {
    let mut shard = Shard::new();
    let response = shard.join("a");
    assert_eq!(
        (response.member_epoch, response.assignment),
        (1, Some(orders(0..4)))
    );
    assert_eq!((shard.state(), shard.epoch()), (GroupState::Stable, 1));
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let mut shard = Shard::new();
    shard.join("a");
    let response = shard.keep_alive("a", 1).unwrap();
    assert_eq!((response.assignment, shard.written), (None, 0));
}

#[test]
fn a_request_to_join_says_what_the_member_wants() {
    let mut shard = Shard::new();
    let requests = [
        HeartbeatRequest {
            rebalance_timeout_ms: None,
            ..join("a")
        },
        HeartbeatRequest {
            subscribed_topic_names: None,
            ..join("a")
        },
        HeartbeatRequest {
            owned: Some(orders([0])),
            ..join("a")
        },
        HeartbeatRequest {
            member_id: String::new(),
            ..join("a")
        },
        HeartbeatRequest {
            member_epoch: -2,
            ..join("a")
        },
        HeartbeatRequest {
            member_epoch: -3,
            ..join("a")
        },
    ];
    for request in requests {
        let refused = shard.send(&request).unwrap_err();
        assert!(
            matches!(refused, GroupError::InvalidRequest { .. }),
            "{refused}"
        );
    }
    let refused = shard.send(&HeartbeatRequest {
        group_id: String::new(),
        ..join("a")
    });
    assert!(matches!(refused, Err(GroupError::InvalidGroupId { .. })));
    let odd = HeartbeatRequest {
        server_assignor: Some("odd".into()),
        ..join("a")
    };
    assert!(matches!(
        shard.send(&odd),
        Err(GroupError::UnsupportedAssignor { .. })
    ));
}

#[test]
fn a_pattern_gets_the_topics_that_it_matches_now_and_later() {
    let mut shard = Shard::new();
    let pattern = |member_id: &str, text: &str| HeartbeatRequest {
        subscribed_topic_names: Some(BTreeSet::new()),
        subscribed_topic_regex: Some(text.to_owned()),
        ..join(member_id)
    };
    let refused = shard.send(&pattern("a", "(orders"));
    assert!(matches!(
        refused,
        Err(GroupError::InvalidRegularExpression { .. })
    ));
    let joined = shard.send(&pattern("a", "ord.*|waves")).unwrap();
    assert_eq!(joined.assignment, Some(orders(0..4)));

    shard.cluster = shard.cluster.with("waves", WAVES, 1).at_version(2);
    let told = shard.beat("a", 1, &orders(0..4));
    let mut both = orders(0..4);
    both.extend([(WAVES, 0)]);
    assert_eq!((told.member_epoch, told.assignment), (2, Some(both)));

    // Another pattern takes the place of the first.
    let changed = HeartbeatRequest {
        subscribed_topic_regex: Some("waves".to_owned()),
        ..HeartbeatRequest::keep_alive("g", "a", 2)
    };
    let told = shard.send(&changed).unwrap();
    assert_eq!(told.assignment.unwrap().count(), 1);
}

#[test]
fn nobody_is_known_before_joining() {
    let mut shard = Shard::new();
    assert!(matches!(
        shard.keep_alive("a", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    shard.join("a");
    assert!(matches!(
        shard.keep_alive("b", 1),
        Err(GroupError::UnknownMemberId { .. })
    ));
    assert!(matches!(
        shard.keep_alive("b", -1),
        Err(GroupError::UnknownMemberId { .. })
    ));
}

#[test]
fn another_epoch_than_the_members_is_fenced() {
    let mut shard = Shard::new();
    let (epoch, mine, _) = two_halves(&mut shard);
    for wrong in [epoch + 1, epoch + 9] {
        let refused = shard.keep_alive("a", wrong).unwrap_err();
        assert!(
            matches!(refused, GroupError::FencedMemberEpoch { expected, .. } if expected == epoch)
        );
    }
    let refused = shard.keep_alive("a", epoch - 1).unwrap_err();
    assert!(
        matches!(refused, GroupError::FencedMemberEpoch { .. }),
        "it does not say what it owns"
    );
    let too_much = shard
        .send(&owning("a", epoch - 1, &orders(0..4)))
        .unwrap_err();
    assert!(matches!(too_much, GroupError::FencedMemberEpoch { .. }));
    let missed = shard.beat("a", epoch - 1, &mine);
    assert_eq!(
        (missed.member_epoch, missed.assignment),
        (epoch, Some(mine)),
        "it missed the answer"
    );
}

#[test]
fn nobody_gets_a_partition_before_it_is_given_up() {
    let mut shard = Shard::new();
    shard.join("a");
    let newcomer = shard.join("b");
    assert_eq!(
        (newcomer.member_epoch, newcomer.assignment),
        (2, Some(Assignment::new()))
    );
    let told = shard.keep_alive("a", 1).unwrap();
    assert_eq!(
        told.member_epoch, 1,
        "the epoch stays until the partitions are given up"
    );
    let keeps = told.assignment.unwrap();
    assert_eq!(shard.keep_alive("b", 2).unwrap().assignment, None);
    assert_eq!(shard.state(), GroupState::Reconciling);
    assert_eq!(shard.beat("a", 1, &keeps).member_epoch, 2);
    let gained = shard.keep_alive("b", 2).unwrap().assignment.unwrap();
    assert!(!gained.intersects(&keeps));
    assert_eq!(shard.state(), GroupState::Stable);
}

#[test]
fn who_leaves_leaves_its_partitions_to_the_others() {
    let mut shard = Shard::new();
    let (epoch, _, other) = two_halves(&mut shard);
    assert_eq!(shard.keep_alive("a", -1).unwrap().member_epoch, -1);
    assert_eq!(shard.state(), GroupState::Assigning);
    let response = shard.beat("b", epoch, &other);
    assert_eq!(
        (response.member_epoch, response.assignment),
        (epoch + 1, Some(orders(0..4)))
    );
    shard.keep_alive("b", -1).unwrap();
    assert_eq!(shard.state(), GroupState::Empty);
}

#[test]
fn a_silent_member_is_removed_after_its_session() {
    let mut shard = Shard::new();
    shard.join("a");
    shard.now_ms = 40_000;
    shard.keep_alive("a", 1).unwrap();
    shard.now_ms = 84_999;
    assert_eq!(shard.tick(), None);
    assert_eq!(shard.coordinator.next_deadline(), Some(85_000));
    shard.now_ms = 85_000;
    let (group_id, member_id) = ("g".into(), "a".into());
    assert_eq!(
        shard.tick(),
        Some(Expired::Session {
            group_id,
            member_id
        })
    );
    assert_eq!((shard.tick(), shard.state()), (None, GroupState::Empty));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_removed() {
    let mut shard = Shard::new();
    shard
        .send(&HeartbeatRequest {
            rebalance_timeout_ms: Some(10_000),
            ..join("a")
        })
        .unwrap();
    shard.join("b");
    shard.keep_alive("a", 1).unwrap();
    shard.now_ms = 9_999;
    shard.keep_alive("a", 1).unwrap();
    assert_eq!(shard.tick(), None);
    shard.now_ms = 10_000;
    let (group_id, member_id) = ("g".into(), "a".into());
    assert_eq!(
        shard.tick(),
        Some(Expired::Rebalance {
            group_id,
            member_id
        })
    );
    assert_eq!(
        shard.keep_alive("b", 2).unwrap().assignment,
        Some(orders(0..4))
    );
}

#[test]
fn giving_up_in_time_stops_the_clock() {
    let mut shard = Shard::new();
    shard
        .send(&HeartbeatRequest {
            rebalance_timeout_ms: Some(10_000),
            ..join("a")
        })
        .unwrap();
    shard.join("b");
    let keeps = shard.keep_alive("a", 1).unwrap().assignment.unwrap();
    shard.beat("a", 1, &keeps);
    shard.now_ms = 10_000;
    assert_eq!(shard.tick(), None);
}

#[test]
fn a_restart_gives_everybody_a_new_session() {
    let mut shard = Shard::new();
    shard.join("a");
    shard.now_ms = 44_000;
    shard.coordinator.start(shard.now_ms);
    assert_eq!(shard.coordinator.next_deadline(), Some(89_000));
}

#[test]
fn a_group_has_no_more_members_than_it_may() {
    let mut shard = Shard::with(GroupConfig {
        max_size: 1,
        ..GroupConfig::default()
    });
    shard.join("a");
    let refused = shard.send(&join("b")).unwrap_err();
    assert!(matches!(
        refused,
        GroupError::GroupMaxSizeReached { max: 1, .. }
    ));
    assert_eq!(shard.join("a").member_epoch, 1, "who is in may come again");
}

#[test]
fn an_instance_is_held_until_its_member_leaves_for_a_while() {
    let mut shard = Shard::new();
    let first = shard.join_static("a").unwrap();
    let held = shard.join_static("b").unwrap_err();
    assert!(matches!(held, GroupError::UnreleasedInstanceId { member_id, .. } if member_id == "a"));
    let leave = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..HeartbeatRequest::keep_alive("g", "a", -2)
    };
    assert_eq!(shard.send(&leave).unwrap().member_epoch, -2);
    let second = shard.join_static("b").unwrap();
    assert_eq!(
        (second.member_epoch, &second.assignment),
        (1, &first.assignment)
    );
    assert_eq!(shard.epoch(), 1, "nobody else notices");
    let fenced = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..HeartbeatRequest::keep_alive("g", "a", 1)
    };
    assert!(matches!(
        shard.send(&fenced),
        Err(GroupError::FencedInstanceId { .. })
    ));
}

#[test]
fn a_static_member_that_does_not_come_back_is_removed_after_its_session() {
    let mut shard = Shard::new();
    shard.join_static("a").unwrap();
    let leave = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..HeartbeatRequest::keep_alive("g", "a", -2)
    };
    shard.send(&leave).unwrap();
    shard.join("b");
    assert_eq!(
        shard.keep_alive("b", 2).unwrap().assignment,
        None,
        "its partitions are kept for it"
    );
    shard.now_ms = 45_000;
    assert!(matches!(shard.tick(), Some(Expired::Session { member_id, .. }) if member_id == "a"));
}

#[test]
fn a_topic_that_grows_or_appears_is_taken_in_with_the_next_heartbeat() {
    let mut shard = Shard::new();
    let both = Some(["orders".to_owned(), "waves".to_owned()].into());
    shard
        .send(&HeartbeatRequest {
            subscribed_topic_names: both,
            ..join("a")
        })
        .unwrap();
    shard.cluster = std::mem::take(&mut shard.cluster)
        .with("orders", ORDERS, 6)
        .at_version(2);
    let grown = shard.keep_alive("a", 1).unwrap();
    assert_eq!(
        (grown.member_epoch, grown.assignment),
        (2, Some(orders(0..6)))
    );
    shard.cluster = std::mem::take(&mut shard.cluster)
        .with("waves", WAVES, 1)
        .at_version(3);
    let grown = shard.keep_alive("a", 2).unwrap();
    assert_eq!(
        (grown.member_epoch, grown.assignment.unwrap().count()),
        (3, 7)
    );
}

#[test]
fn partitions_of_a_deleted_topic_are_given_up() {
    let mut shard = Shard::new();
    shard.join("a");
    shard.cluster = std::mem::take(&mut shard.cluster)
        .without("orders")
        .at_version(2);
    let told = shard.keep_alive("a", 1).unwrap();
    assert_eq!(
        (told.member_epoch, told.assignment),
        (1, Some(Assignment::new()))
    );
    assert_eq!(shard.beat("a", 1, &Assignment::new()).member_epoch, 2);
}

#[test]
fn another_topic_elsewhere_does_not_bother_the_group() {
    let mut shard = Shard::new();
    shard.join("a");
    shard.cluster = std::mem::take(&mut shard.cluster)
        .with("waves", WAVES, 3)
        .at_version(2);
    shard.keep_alive("a", 1).unwrap();
    assert_eq!((shard.epoch(), shard.written), (1, 0));
}

#[test]
fn a_member_that_lost_its_state_joins_again_and_owns_nothing_meanwhile() {
    let mut shard = Shard::new();
    let (epoch, mine, _) = two_halves(&mut shard);
    let again = shard.join("a");
    assert_eq!((again.member_epoch, again.assignment), (epoch, Some(mine)));
}

#[test]
fn a_repeated_request_to_join_gives_nothing_up() {
    let mut shard = Shard::new();
    shard.join("a");
    shard.join("b");
    shard.keep_alive("a", 1).unwrap();
    // The first request of `a` comes a second time, late: `a` has told nothing of what it owns.
    shard.join("a");
    assert_eq!(shard.keep_alive("b", 2).unwrap().assignment, None);
}

#[test]
fn a_member_that_tells_of_too_much_is_told_what_it_may_own() {
    let mut shard = Shard::new();
    let (epoch, mine, _) = two_halves(&mut shard);
    assert_eq!(
        shard.beat("a", epoch, &orders(0..4)).assignment,
        Some(mine.clone())
    );
    assert_eq!(shard.beat("a", epoch, &mine).assignment, None);
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let mut shard = Shard::new();
    shard.join("a");
    let range = HeartbeatRequest {
        server_assignor: Some("range".into()),
        ..join("b")
    };
    shard.send(&range).unwrap();
    assert_eq!(
        shard.coordinator.describe("g").unwrap().assignor.name(),
        "range"
    );
}
