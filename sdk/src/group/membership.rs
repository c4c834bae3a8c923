//! One member of a consumer group by the broker-driven protocol (KIP-848), as a pure state machine.
//!
//! It owns what the member knows: its epoch, what it owns, what the server wants it to own, which
//! callback is under way and when the next heartbeat is due. It knows no socket, no clock and no
//! chance: [`Membership::step`] takes an event and the time and gives commands.
//!
//! Invariants:
//! - one heartbeat is under way at a time, and one callback;
//! - a partition is given up (the callback has returned) before the server is told so;
//! - a partition is used only after the server has assigned it, and counts as owned from the moment
//!   its callback starts: were the server told of less, it could give the partition to somebody else
//!   while it is being taken;
//! - a changed field is repeated until a heartbeat that carried it has been answered;
//! - after the server has fenced the member it gives up everything before it joins again.
//!
//! ```text
//!            answer                 fenced, unknown member
//! Joining ───────────> Member ─────────────────────────────> Fenced (callback) ──> Joining
//!    │                   │ close                                │
//!    └───────────────────┴──────> Closing (callback, leave) <───┘ ──> Left
//!                    any refusal that no retry mends ──> Failed (callback)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use conveyor_grpc::{ErrorCode, v1};
use uuid::Uuid;

/// Milliseconds on a clock that never goes back; where its zero lies does not matter.
pub(crate) type Millis = u64;

/// Epoch of a heartbeat that joins.
const JOIN_EPOCH: i32 = 0;
/// Epoch of a heartbeat that leaves for good.
const LEAVE_EPOCH: i32 = -1;
/// Epoch of a static member's heartbeat that leaves for a while: its partitions wait for it.
const LEAVE_FOR_A_WHILE_EPOCH: i32 = -2;
/// "Unchanged" for the rebalance time-out.
const UNCHANGED: i32 = -1;

/// Until the server names its own interval.
const HEARTBEAT_INTERVAL_DEFAULT_MS: Millis = 5_000;
/// A server that names no sensible interval must not make clients spin.
const HEARTBEAT_INTERVAL_MIN_MS: Millis = 10;
const BACKOFF_MIN_MS: Millis = 100;
const BACKOFF_MAX_MS: Millis = 1_000;
/// A little longer than the usual `group.consumer.session.timeout.ms` of 45 s.
const UNRELEASED_PATIENCE_MS: Millis = 60_000;

/// A partition as the server assigns it. The topic's id belongs to it: a topic that was deleted and
/// created again is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AssignedPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// What a member is for its whole life.
#[derive(Debug, Clone)]
pub(crate) struct MemberConfig {
    pub(crate) group_id: String,
    /// Chosen by the client.
    pub(crate) member_id: String,
    /// Not empty for a static member.
    pub(crate) instance_id: String,
    pub(crate) rack_id: String,
    /// How long callbacks may take to give up partitions.
    pub(crate) rebalance_timeout_ms: i32,
    /// Empty for the group's.
    pub(crate) server_assignor: String,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// The time that [`Membership::next_tick`] named has come, or may have.
    Tick,
    /// The topics to read from now on.
    Subscribe(BTreeSet<String>),
    /// The heartbeat under way was answered.
    Answered(v1::ConsumerGroupHeartbeatResponse),
    /// The heartbeat under way got no answer; whether the server took it is unknown.
    Unanswered,
    /// The callback that the last `Revoke`, `Assign` or `Lose` asked for has returned.
    CallbackDone,
    /// Give up everything and leave.
    Close,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// Send this now; report exactly one `Answered` or `Unanswered`.
    Heartbeat(Box<v1::ConsumerGroupHeartbeatRequest>),
    /// Stop reading these, let the user commit, report `CallbackDone`.
    Revoke(BTreeSet<AssignedPartition>),
    /// Start reading these, report `CallbackDone`.
    Assign(BTreeSet<AssignedPartition>),
    /// These belong to somebody else already: stop reading, commit nothing, report `CallbackDone`.
    Lose(BTreeSet<AssignedPartition>),
    /// The member has left; no command follows.
    Left,
    /// The server refuses the member for good; no heartbeat follows.
    Fail(Refused),
}

/// Why a group refuses a member for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Joining,
    Member,
    Fenced,
    /// Giving up what is owned, before the heartbeat that leaves.
    Closing,
    /// That heartbeat is under way.
    Leaving,
    Left,
    Failed,
}

#[derive(Debug)]
enum Callback {
    Revoking(BTreeSet<AssignedPartition>),
    Assigning,
    Losing,
}

/// What the heartbeat under way carries, to know what its answer acknowledges.
#[derive(Debug)]
struct InFlight {
    subscription: bool,
    owned: bool,
}

#[derive(Debug)]
pub(crate) struct Membership {
    config: MemberConfig,
    topics: BTreeSet<String>,
    phase: Phase,
    epoch: i32,
    owned: BTreeSet<AssignedPartition>,
    /// The server's last word on what may be owned; `None` before the first.
    target: Option<BTreeSet<AssignedPartition>>,
    callback: Option<Callback>,
    in_flight: Option<InFlight>,
    /// The server has not acknowledged the present subscription.
    subscription_due: bool,
    /// The server has not acknowledged what is owned now.
    owned_due: bool,
    /// A heartbeat may have been lost: repeat every field.
    everything_due: bool,
    /// The server may know of the member, so leaving means telling it.
    joined_once: bool,
    close_wanted: bool,
    interval_ms: Millis,
    failures: u32,
    /// Since when the instance id has been refused because somebody holds it.
    unreleased_since: Option<Millis>,
    /// No heartbeat before this, while it lies ahead, even if one is urgent.
    not_before: Millis,
    next_heartbeat: Millis,
}

impl Membership {
    /// A member that joins with the first `Subscribe`.
    pub(crate) fn new(config: MemberConfig) -> Self {
        Self {
            config,
            topics: BTreeSet::new(),
            phase: Phase::Joining,
            epoch: JOIN_EPOCH,
            owned: BTreeSet::new(),
            target: None,
            callback: None,
            in_flight: None,
            subscription_due: true,
            owned_due: true,
            everything_due: true,
            joined_once: false,
            close_wanted: false,
            interval_ms: HEARTBEAT_INTERVAL_DEFAULT_MS,
            failures: 0,
            unreleased_since: None,
            not_before: 0,
            next_heartbeat: 0,
        }
    }

    /// The epoch for commits: positive while the server counts this member in.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// What the member owns, with what it is taking and what it has not given up yet.
    #[cfg(test)]
    pub(crate) fn owned(&self) -> &BTreeSet<AssignedPartition> {
        &self.owned
    }

    /// When to send `Tick` at the latest; `None` while only an answer or a callback can bring news.
    pub(crate) fn next_tick(&self) -> Option<Millis> {
        if self.in_flight.is_some() {
            return None;
        }
        match self.phase {
            Phase::Joining if self.topics.is_empty() => None,
            Phase::Joining | Phase::Member if self.is_urgent() => Some(self.not_before),
            Phase::Joining | Phase::Member => Some(self.next_heartbeat.max(self.not_before)),
            Phase::Fenced | Phase::Closing | Phase::Leaving | Phase::Left | Phase::Failed => None,
        }
    }

    /// Applies one event at time `now`.
    pub(crate) fn step(&mut self, now: Millis, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Tick => {}
            Event::Subscribe(topics) => self.on_subscribe(topics),
            Event::Answered(answer) => self.on_answer(now, answer, out),
            Event::Unanswered => self.on_no_answer(now, out),
            Event::CallbackDone => self.on_callback_done(),
            Event::Close => self.close_wanted = true,
        }
        self.advance(now, out);
    }

    fn on_subscribe(&mut self, topics: BTreeSet<String>) {
        if self.topics != topics {
            self.topics = topics;
            self.subscription_due = true;
        }
    }

    fn on_answer(
        &mut self,
        now: Millis,
        answer: v1::ConsumerGroupHeartbeatResponse,
        out: &mut Vec<Command>,
    ) {
        let Some(sent) = self.in_flight.take() else {
            return;
        };
        if self.phase == Phase::Leaving {
            self.leave_done(out);
            return;
        }
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => self.on_accepted(now, &answer),
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.fence(now),
            ErrorCode::UnreleasedInstanceId if self.may_be_released(now) => {
                self.back_off(now, &sent);
            }
            code if code.is_retriable() => self.back_off(now, &sent),
            code => {
                self.phase = Phase::Failed;
                self.epoch = JOIN_EPOCH;
                self.joined_once = false;
                out.push(Command::Fail(Refused {
                    code,
                    message: answer.error_message,
                }));
            }
        }
    }

    fn on_accepted(&mut self, now: Millis, answer: &v1::ConsumerGroupHeartbeatResponse) {
        self.failures = 0;
        self.unreleased_since = None;
        self.not_before = 0;
        self.everything_due = false;
        if matches!(self.phase, Phase::Joining) {
            self.phase = Phase::Member;
        }
        self.epoch = answer.member_epoch;
        if answer.heartbeat_interval_ms > 0 {
            let interval = answer.heartbeat_interval_ms.unsigned_abs();
            self.interval_ms = Millis::from(interval).max(HEARTBEAT_INTERVAL_MIN_MS);
        }
        self.next_heartbeat = now + self.interval_ms;
        let Some(assignment) = &answer.assignment else {
            return;
        };
        let target = partitions_of(assignment);
        if self.target.as_ref() != Some(&target) {
            // Said explicitly even if nothing has to change hands: the server may wait for the word
            // that something it took back was never used. Changes are told anyway.
            self.owned_due |= target == self.owned;
            self.target = Some(target);
        }
    }

    fn on_no_answer(&mut self, now: Millis, out: &mut Vec<Command>) {
        let Some(sent) = self.in_flight.take() else {
            return;
        };
        if self.phase == Phase::Leaving {
            // The session's end will do what this heartbeat could not.
            self.leave_done(out);
            return;
        }
        // The server may or may not have seen it.
        self.everything_due = true;
        self.back_off(now, &sent);
    }

    fn back_off(&mut self, now: Millis, sent: &InFlight) {
        self.subscription_due |= sent.subscription;
        self.owned_due |= sent.owned;
        let delay = (BACKOFF_MIN_MS << self.failures.min(4)).min(BACKOFF_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + delay;
        self.next_heartbeat = self.not_before;
    }

    /// A predecessor of this static member that died without leaving holds the instance id until
    /// its session ends; longer than that, somebody else lives under the same id.
    fn may_be_released(&mut self, now: Millis) -> bool {
        let since = *self.unreleased_since.get_or_insert(now);
        now < since + UNRELEASED_PATIENCE_MS
    }

    fn fence(&mut self, now: Millis) {
        self.phase = Phase::Fenced;
        // A server that fences again and again must not make clients spin.
        self.not_before = now + BACKOFF_MIN_MS;
        self.epoch = JOIN_EPOCH;
        self.joined_once = false;
        self.target = None;
    }

    fn on_callback_done(&mut self) {
        match self.callback.take() {
            None => {}
            Some(Callback::Revoking(revoked)) => {
                self.owned.retain(|partition| !revoked.contains(partition));
                self.owned_due = true;
            }
            Some(Callback::Assigning) => {}
            Some(Callback::Losing) => self.owned.clear(),
        }
    }

    /// Goes on as far as it can without news.
    fn advance(&mut self, now: Millis, out: &mut Vec<Command>) {
        if self.close_wanted && matches!(self.phase, Phase::Joining | Phase::Member) {
            self.phase = Phase::Closing;
        }
        if self.callback.is_none() {
            self.start_callback(out);
        }
        match self.phase {
            Phase::Joining | Phase::Member => self.beat_if_due(now, out),
            Phase::Fenced if self.callback.is_none() => {
                self.rejoin();
                self.advance(now, out);
            }
            Phase::Failed if self.callback.is_none() && self.close_wanted => self.leave_done(out),
            Phase::Closing if self.callback.is_none() && self.in_flight.is_none() => {
                self.leave(out);
            }
            Phase::Fenced | Phase::Closing | Phase::Leaving | Phase::Left | Phase::Failed => {}
        }
    }

    /// Gives up first what is not wanted any more, then takes what is new.
    fn start_callback(&mut self, out: &mut Vec<Command>) {
        match self.phase {
            Phase::Member => self.reconcile(out),
            Phase::Closing if !self.owned.is_empty() => self.revoke(self.owned.clone(), out),
            Phase::Fenced | Phase::Failed if !self.owned.is_empty() => {
                self.callback = Some(Callback::Losing);
                out.push(Command::Lose(self.owned.clone()));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, out: &mut Vec<Command>) {
        let Some(target) = &self.target else { return };
        let revoked: BTreeSet<_> = self.owned.difference(target).cloned().collect();
        if !revoked.is_empty() {
            self.revoke(revoked, out);
            return;
        }
        let assigned: BTreeSet<_> = target.difference(&self.owned).cloned().collect();
        if !assigned.is_empty() {
            self.callback = Some(Callback::Assigning);
            self.owned.extend(assigned.iter().cloned());
            self.owned_due = true;
            out.push(Command::Assign(assigned));
        }
    }

    fn revoke(&mut self, partitions: BTreeSet<AssignedPartition>, out: &mut Vec<Command>) {
        self.callback = Some(Callback::Revoking(partitions.clone()));
        out.push(Command::Revoke(partitions));
    }

    fn rejoin(&mut self) {
        self.phase = if self.close_wanted {
            Phase::Closing
        } else {
            Phase::Joining
        };
        self.everything_due = true;
        self.next_heartbeat = self.not_before;
    }

    /// Whether the server waits for something that the next heartbeat will tell.
    fn is_urgent(&self) -> bool {
        self.phase == Phase::Joining || self.subscription_due || self.owned_due
    }

    fn beat_if_due(&mut self, now: Millis, out: &mut Vec<Command>) {
        let silent = self.phase == Phase::Joining && self.topics.is_empty();
        if silent || self.in_flight.is_some() || now < self.not_before {
            return;
        }
        if self.is_urgent() || now >= self.next_heartbeat {
            self.beat(out);
        }
    }

    fn beat(&mut self, out: &mut Vec<Command>) {
        let joins = self.phase == Phase::Joining;
        let everything = joins || self.everything_due;
        let subscription = everything || self.subscription_due;
        let owned = everything || self.owned_due;
        let mut request = self.request(self.epoch);
        if everything {
            request.rebalance_timeout_ms = self.config.rebalance_timeout_ms;
            request.rack_id.clone_from(&self.config.rack_id);
            request
                .server_assignor
                .clone_from(&self.config.server_assignor);
        }
        if subscription {
            let names = self.topics.iter().cloned().collect();
            request.subscribed_topics = Some(v1::TopicNames { names });
        }
        if owned {
            request.owned = Some(assignment_of(&self.owned));
        }
        self.subscription_due = false;
        self.owned_due = false;
        self.joined_once = true;
        self.in_flight = Some(InFlight {
            subscription,
            owned,
        });
        out.push(Command::Heartbeat(Box::new(request)));
    }

    fn leave(&mut self, out: &mut Vec<Command>) {
        if !self.joined_once {
            self.leave_done(out);
            return;
        }
        let is_static = !self.config.instance_id.is_empty();
        self.epoch = if is_static {
            LEAVE_FOR_A_WHILE_EPOCH
        } else {
            LEAVE_EPOCH
        };
        self.phase = Phase::Leaving;
        self.in_flight = Some(InFlight {
            subscription: false,
            owned: false,
        });
        out.push(Command::Heartbeat(Box::new(self.request(self.epoch))));
    }

    fn leave_done(&mut self, out: &mut Vec<Command>) {
        self.phase = Phase::Left;
        self.epoch = LEAVE_EPOCH;
        out.push(Command::Left);
    }

    fn request(&self, member_epoch: i32) -> v1::ConsumerGroupHeartbeatRequest {
        v1::ConsumerGroupHeartbeatRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.config.member_id.clone(),
            member_epoch,
            instance_id: self.config.instance_id.clone(),
            rack_id: String::new(),
            rebalance_timeout_ms: UNCHANGED,
            subscribed_topics: None,
            server_assignor: String::new(),
            owned: None,
        }
    }
}

/// What the wire calls an assignment, without duplicates and in order.
pub(crate) fn partitions_of(assignment: &v1::Assignment) -> BTreeSet<AssignedPartition> {
    let mut partitions = BTreeSet::new();
    for topic in &assignment.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        let topic_id = Uuid::from_slice(&topic.topic_id).unwrap_or(Uuid::nil());
        for &partition in &topic.partitions {
            partitions.insert(AssignedPartition {
                topic: Arc::clone(&name),
                topic_id,
                partition,
            });
        }
    }
    partitions
}

/// The other way round.
pub(crate) fn assignment_of(partitions: &BTreeSet<AssignedPartition>) -> v1::Assignment {
    let mut topics: Vec<v1::AssignedTopic> = Vec::new();
    for partition in partitions {
        let id = partition.topic_id.as_bytes();
        match topics.last_mut() {
            Some(topic) if topic.topic_id == id[..] && topic.topic == *partition.topic => {
                topic.partitions.push(partition.partition);
            }
            _ => topics.push(v1::AssignedTopic {
                topic_id: bytes::Bytes::copy_from_slice(id),
                topic: partition.topic.to_string(),
                partitions: vec![partition.partition],
            }),
        }
    }
    v1::Assignment { topics }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
