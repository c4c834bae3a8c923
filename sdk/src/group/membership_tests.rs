//! The member's state machine, rule by rule.

use super::*;

const TOPIC_ID: Uuid = Uuid::from_u128(7);

fn partition(partition: i32) -> AssignedPartition {
    AssignedPartition {
        topic: Arc::from("orders"),
        topic_id: TOPIC_ID,
        partition,
    }
}

fn set(partitions: &[i32]) -> BTreeSet<AssignedPartition> {
    partitions.iter().map(|&p| partition(p)).collect()
}

fn config(instance_id: &str) -> MemberConfig {
    MemberConfig {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        instance_id: instance_id.to_owned(),
        rack_id: String::new(),
        rebalance_timeout_ms: 300_000,
        server_assignor: String::new(),
    }
}

/// A member, its clock, and what it said last.
struct Scene {
    member: Membership,
    now: Millis,
    said: Vec<Command>,
}

impl Scene {
    fn new() -> Self {
        Self::with(config(""))
    }

    fn with(config: MemberConfig) -> Self {
        let mut scene = Self {
            member: Membership::new(config),
            now: 1_000,
            said: Vec::new(),
        };
        scene.on(Event::Subscribe(BTreeSet::from(["orders".to_owned()])));
        scene
    }

    /// A member of epoch 1 that owns these and has told the server so.
    fn owning(partitions: &[i32]) -> Self {
        let mut scene = Self::new();
        scene.assigned(1, partitions);
        scene.accepted(1);
        scene.on(Event::CallbackDone);
        assert_eq!(scene.said, []);
        scene
    }

    fn on(&mut self, event: Event) -> &[Command] {
        self.said.clear();
        self.member.step(self.now, event, &mut self.said);
        &self.said
    }

    fn answered(&mut self, answer: v1::ConsumerGroupHeartbeatResponse) {
        self.on(Event::Answered(answer));
    }

    fn accepted(&mut self, epoch: i32) {
        self.answered(accepted(epoch));
    }

    fn assigned(&mut self, epoch: i32, partitions: &[i32]) {
        let assignment = Some(assignment_of(&set(partitions)));
        self.answered(v1::ConsumerGroupHeartbeatResponse {
            assignment,
            ..accepted(epoch)
        });
    }

    fn refused(&mut self, code: ErrorCode) {
        self.answered(v1::ConsumerGroupHeartbeatResponse {
            error_code: code.code(),
            error_message: "no".to_owned(),
            ..v1::ConsumerGroupHeartbeatResponse::default()
        });
    }

    fn after(&mut self, elapsed: Millis) -> &[Command] {
        self.now += elapsed;
        self.on(Event::Tick)
    }

    /// The one heartbeat among what was said last.
    fn heartbeat(&self) -> &v1::ConsumerGroupHeartbeatRequest {
        let mut beats = self.said.iter().filter_map(|command| match command {
            Command::Heartbeat(request) => Some(request),
            _ => None,
        });
        let beat = beats.next().expect("a heartbeat");
        assert!(beats.next().is_none(), "one heartbeat at a time");
        beat
    }

    fn says_owned(&self) -> Option<BTreeSet<AssignedPartition>> {
        self.heartbeat().owned.as_ref().map(partitions_of)
    }
}

fn accepted(epoch: i32) -> v1::ConsumerGroupHeartbeatResponse {
    v1::ConsumerGroupHeartbeatResponse {
        member_id: "m".to_owned(),
        member_epoch: epoch,
        heartbeat_interval_ms: 3_000,
        ..v1::ConsumerGroupHeartbeatResponse::default()
    }
}

#[test]
fn a_member_joins_with_everything_once_it_has_topics() {
    let mut member = Membership::new(config("i"));
    assert_eq!(member.next_tick(), None);
    let mut said = Vec::new();
    member.step(
        0,
        Event::Subscribe(BTreeSet::from(["orders".to_owned()])),
        &mut said,
    );
    let [Command::Heartbeat(join)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((join.member_epoch, join.rebalance_timeout_ms), (0, 300_000));
    assert_eq!(join.subscribed_topics.as_ref().unwrap().names, ["orders"]);
    assert_eq!(join.owned, Some(v1::Assignment::default()));
    assert_eq!(join.instance_id, "i");
}

#[test]
fn what_is_assigned_is_told_as_owned_while_it_is_being_taken() {
    let mut scene = Scene::new();
    scene.assigned(1, &[0, 1]);
    assert_eq!(scene.said[0], Command::Assign(set(&[0, 1])));
    assert_eq!(scene.says_owned(), Some(set(&[0, 1])));
    assert_eq!(scene.heartbeat().member_epoch, 1);
    scene.accepted(1);
    assert_eq!(
        scene.on(Event::CallbackDone),
        [],
        "the server knows everything"
    );
}

#[test]
fn revoked_partitions_go_first_then_new_ones_are_taken_and_the_server_hears_of_both() {
    let mut scene = Scene::owning(&[0, 1]);
    scene.after(3_000);
    scene.assigned(1, &[1, 2]);
    assert_eq!(scene.said, [Command::Revoke(set(&[0]))]);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.said[0], Command::Assign(set(&[2])));
    assert_eq!(scene.says_owned(), Some(set(&[1, 2])));
    scene.accepted(2);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.said, []);
    assert_eq!(scene.member.epoch(), 2);
}

#[test]
fn while_partitions_are_given_up_they_are_still_owned() {
    let mut scene = Scene::owning(&[0, 1]);
    scene.after(3_000);
    scene.assigned(1, &[1]);
    scene.after(3_000);
    scene.on(Event::Unanswered);
    scene.after(BACKOFF_MIN_MS);
    assert_eq!(scene.says_owned(), Some(set(&[0, 1])));
    scene.accepted(1);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.says_owned(), Some(set(&[1])));
}

#[test]
fn heartbeats_follow_the_servers_interval_and_leave_unchanged_fields_unset() {
    let mut scene = Scene::owning(&[0]);
    assert_eq!(scene.member.next_tick(), Some(scene.now + 3_000));
    assert_eq!(scene.after(2_999), []);
    scene.after(1);
    let beat = scene.heartbeat();
    assert_eq!((&beat.owned, &beat.subscribed_topics), (&None, &None));
    assert_eq!(beat.rebalance_timeout_ms, UNCHANGED);
    assert_eq!(
        scene.member.next_tick(),
        None,
        "only the answer brings news"
    );
    assert_eq!(scene.after(60_000), [], "one heartbeat at a time");
}

#[test]
fn heartbeats_go_on_while_a_callback_takes_its_time() {
    let mut scene = Scene::new();
    scene.assigned(1, &[0]);
    scene.accepted(1);
    scene.after(3_000);
    assert_eq!(scene.heartbeat().owned, None);
    scene.accepted(1);
    scene.after(3_000);
    assert_eq!(scene.heartbeat().member_epoch, 1);
}

#[test]
fn an_assignment_that_changes_during_a_callback_is_reconciled_after_it() {
    let mut scene = Scene::new();
    scene.assigned(1, &[0, 1]);
    scene.assigned(2, &[0]);
    assert_eq!(scene.said, []);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.said[0], Command::Revoke(set(&[1])));
    scene.on(Event::CallbackDone);
    assert_eq!(scene.says_owned(), Some(set(&[0])));
}

#[test]
fn an_assignment_taken_back_before_it_was_used_is_acknowledged_all_the_same() {
    let mut scene = Scene::owning(&[0]);
    scene.after(3_000);
    scene.assigned(1, &[]);
    assert_eq!(scene.said, [Command::Revoke(set(&[0]))]);
    scene.after(3_000);
    scene.assigned(1, &[0]);
    scene.on(Event::CallbackDone);
    // What was revoked in the meantime is taken anew, not kept as if nothing had happened.
    assert_eq!(scene.said[0], Command::Assign(set(&[0])));
}

#[test]
fn a_first_assignment_of_nothing_is_acknowledged_once() {
    let mut scene = Scene::new();
    scene.assigned(1, &[]);
    assert_eq!(scene.says_owned(), Some(set(&[])));
    scene.assigned(1, &[]);
    assert_eq!(scene.said, [], "the same assignment again asks for nothing");
}

#[test]
fn a_lost_answer_makes_the_member_repeat_everything_after_a_while() {
    let mut scene = Scene::owning(&[0]);
    scene.after(3_000);
    scene.on(Event::Unanswered);
    assert_eq!(scene.said, []);
    assert_eq!(scene.member.next_tick(), Some(scene.now + BACKOFF_MIN_MS));
    scene.after(BACKOFF_MIN_MS);
    assert_eq!(scene.says_owned(), Some(set(&[0])));
    assert!(scene.heartbeat().subscribed_topics.is_some());
    assert_eq!(scene.heartbeat().rebalance_timeout_ms, 300_000);
}

#[test]
fn back_off_grows_up_to_a_second_and_ends_with_success() {
    let mut scene = Scene::owning(&[0]);
    scene.after(3_000);
    let mut waits = Vec::new();
    for _ in 0..6 {
        scene.refused(ErrorCode::CoordinatorLoadInProgress);
        let wait = scene.member.next_tick().unwrap() - scene.now;
        waits.push(wait);
        scene.after(wait);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
    scene.accepted(1);
    assert_eq!(scene.member.next_tick(), Some(scene.now + 3_000));
}

#[test]
fn a_retriable_refusal_keeps_the_changes_it_carried() {
    let mut scene = Scene::owning(&[0]);
    scene.on(Event::Subscribe(BTreeSet::from(["tasks".to_owned()])));
    assert_eq!(
        scene.heartbeat().subscribed_topics.as_ref().unwrap().names,
        ["tasks"]
    );
    scene.refused(ErrorCode::NotCoordinator);
    scene.after(BACKOFF_MIN_MS);
    assert_eq!(
        scene.heartbeat().subscribed_topics.as_ref().unwrap().names,
        ["tasks"]
    );
    scene.accepted(2);
    scene.after(3_000);
    assert_eq!(scene.heartbeat().subscribed_topics, None);
}

#[test]
fn a_fenced_member_gives_up_all_and_joins_again_with_epoch_zero() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut scene = Scene::owning(&[0, 1]);
        scene.after(3_000);
        scene.refused(code);
        assert_eq!(scene.said, [Command::Lose(set(&[0, 1]))]);
        assert_eq!(scene.member.epoch(), 0, "no commit may pass any more");
        assert_eq!(scene.after(10_000), [], "the callback comes first");
        scene.on(Event::CallbackDone);
        assert!(scene.member.owned().is_empty());
        let join = scene.heartbeat();
        assert_eq!(
            (join.member_epoch, &join.owned),
            (0, &Some(v1::Assignment::default()))
        );
    }
}

#[test]
fn a_member_fenced_during_a_callback_loses_what_that_callback_took() {
    let mut scene = Scene::new();
    scene.assigned(1, &[0]);
    scene.refused(ErrorCode::FencedMemberEpoch);
    assert_eq!(scene.said, []);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.said, [Command::Lose(set(&[0]))]);
}

#[test]
fn a_server_that_fences_every_join_does_not_make_the_member_spin() {
    let mut scene = Scene::new();
    scene.refused(ErrorCode::UnknownMemberId);
    assert_eq!(scene.said, []);
    assert_eq!(scene.member.next_tick(), Some(scene.now + BACKOFF_MIN_MS));
}

#[test]
fn a_refusal_for_good_is_fatal_and_loses_everything() {
    let mut scene = Scene::owning(&[0]);
    scene.after(3_000);
    scene.refused(ErrorCode::FencedInstanceId);
    let refused = Refused {
        code: ErrorCode::FencedInstanceId,
        message: "no".to_owned(),
    };
    assert_eq!(
        scene.said,
        [Command::Fail(refused), Command::Lose(set(&[0]))]
    );
    scene.on(Event::CallbackDone);
    assert_eq!(scene.after(60_000), []);
    assert_eq!(scene.on(Event::Close), [Command::Left]);
}

#[test]
fn an_instance_id_that_a_dead_predecessor_holds_is_waited_for_but_not_for_ever() {
    let mut scene = Scene::with(config("station-1"));
    scene.refused(ErrorCode::UnreleasedInstanceId);
    assert_eq!(scene.said, []);
    scene.after(UNRELEASED_PATIENCE_MS - 1);
    scene.refused(ErrorCode::UnreleasedInstanceId);
    assert_eq!(scene.said, []);
    scene.after(1_000);
    scene.refused(ErrorCode::UnreleasedInstanceId);
    assert!(matches!(scene.said[..], [Command::Fail(_)]));
}

#[test]
fn closing_gives_up_everything_and_then_leaves() {
    for (instance_id, epoch) in [("", LEAVE_EPOCH), ("station-1", LEAVE_FOR_A_WHILE_EPOCH)] {
        let mut scene = Scene::with(config(instance_id));
        scene.assigned(1, &[0]);
        scene.accepted(1);
        scene.on(Event::CallbackDone);
        assert_eq!(scene.on(Event::Close), [Command::Revoke(set(&[0]))]);
        assert_eq!(scene.member.epoch(), 1, "the callback may still commit");
        scene.on(Event::CallbackDone);
        assert_eq!(scene.heartbeat().member_epoch, epoch);
        scene.accepted(epoch);
        assert_eq!(scene.said, [Command::Left]);
        assert_eq!(scene.member.next_tick(), None);
    }
}

#[test]
fn closing_waits_for_the_heartbeat_under_way() {
    let mut scene = Scene::new();
    assert_eq!(scene.on(Event::Close), []);
    scene.accepted(1);
    assert_eq!(scene.heartbeat().member_epoch, LEAVE_EPOCH);
    scene.on(Event::Unanswered);
    assert_eq!(
        scene.said,
        [Command::Left],
        "the session's end does the rest"
    );
}

#[test]
fn a_member_that_never_joined_just_leaves() {
    let mut member = Membership::new(config(""));
    let mut said = Vec::new();
    member.step(0, Event::Close, &mut said);
    assert_eq!(said, [Command::Left]);
}

#[test]
fn a_topic_created_again_is_another_one() {
    let mut scene = Scene::owning(&[0]);
    let again = AssignedPartition {
        topic_id: Uuid::from_u128(8),
        ..partition(0)
    };
    scene.after(3_000);
    let assignment = Some(assignment_of(&BTreeSet::from([again.clone()])));
    scene.answered(v1::ConsumerGroupHeartbeatResponse {
        assignment,
        ..accepted(2)
    });
    assert_eq!(scene.said, [Command::Revoke(set(&[0]))]);
    scene.on(Event::CallbackDone);
    assert_eq!(scene.said[0], Command::Assign(BTreeSet::from([again])));
}

#[test]
fn assignments_survive_the_wire() {
    let mut partitions = set(&[3, 1, 2]);
    partitions.insert(AssignedPartition {
        topic: Arc::from("tasks"),
        topic_id: Uuid::from_u128(9),
        partition: 0,
    });
    assert_eq!(partitions_of(&assignment_of(&partitions)), partitions);
}
