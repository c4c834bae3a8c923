//! The member's task: sends heartbeats and hands callbacks to the consumer.
//!
//! It performs what [`Membership`] decides. Heartbeats go on whatever the consumer does; callbacks
//! run where the consumer polls, so that partitions never change hands while records of them are
//! being processed. A consumer that is dropped makes the task leave the group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_grpc::v1;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::committer::{MemberIdentity, refresh_coordinator};
use super::config::ConsumerConfig;
use super::inbox::{Delivery, Inbox};
use crate::client::{Client, services};
use crate::error::{Error, Result};
use crate::group::membership::{
    AssignedPartition, Command, Event, MemberConfig, Membership, Millis, Refused,
};

/// An answer that comes later than this is worth less than a new heartbeat: the session ends after
/// some tens of seconds.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the group asks of the consumer. All but the last two end with
/// [`GroupSession::callback_done`].
#[derive(Debug, Clone)]
pub(super) enum GroupNews {
    Revoke(BTreeSet<AssignedPartition>),
    Assign(BTreeSet<AssignedPartition>),
    Lose(BTreeSet<AssignedPartition>),
    Failed(Refused),
    Left,
}

/// The consumer's end of the task; dropping it makes the member leave.
#[derive(Debug)]
pub(super) struct GroupSession {
    inputs: Arc<Inputs>,
}

/// What the consumer has to say; coalesces, so it needs no queue.
#[derive(Debug, Default)]
struct Inputs {
    state: Mutex<InputState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct InputState {
    topics: Option<BTreeSet<String>>,
    callback_done: bool,
    close: bool,
    /// Nobody runs callbacks any more.
    dropped: bool,
}

impl GroupSession {
    /// Joins the group once there are topics.
    pub(super) fn start(
        client: Client,
        config: &ConsumerConfig,
        identity: Arc<MemberIdentity>,
        inbox: Arc<Inbox>,
    ) -> Self {
        let member = MemberConfig {
            group_id: identity.group_id.clone(),
            member_id: identity.member_id.clone(),
            instance_id: config.group_instance_id.clone().unwrap_or_default(),
            rack_id: config.client_rack.clone().unwrap_or_default(),
            rebalance_timeout_ms: config.rebalance_timeout_ms as i32,
            server_assignor: config.group_remote_assignor.clone().unwrap_or_default(),
        };
        let inputs = Arc::new(Inputs::default());
        let worker = Worker {
            client,
            identity,
            inbox,
            inputs: Arc::clone(&inputs),
            membership: Membership::new(member),
            heartbeat: None,
            started: Instant::now(),
        };
        tokio::spawn(worker.run());
        Self { inputs }
    }

    pub(super) fn subscribe(&self, topics: BTreeSet<String>) {
        self.inputs.change(|state| state.topics = Some(topics));
    }

    /// The callback that the last news asked for has run.
    pub(super) fn callback_done(&self) {
        self.inputs.change(|state| state.callback_done = true);
    }

    /// Asks to leave; ends with [`GroupNews::Left`].
    pub(super) fn close(&self) {
        self.inputs.change(|state| state.close = true);
    }
}

impl Drop for GroupSession {
    fn drop(&mut self) {
        self.inputs.change(|state| state.dropped = true);
    }
}

impl Inputs {
    fn change(&self, change: impl FnOnce(&mut InputState)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }
}

struct Worker {
    client: Client,
    identity: Arc<MemberIdentity>,
    inbox: Arc<Inbox>,
    inputs: Arc<Inputs>,
    membership: Membership,
    heartbeat: Option<BoxFuture<'static, Result<v1::ConsumerGroupHeartbeatResponse>>>,
    started: Instant,
}

impl Worker {
    async fn run(mut self) {
        let mut commands = Vec::new();
        self.step(Event::Tick, &mut commands);
        loop {
            for command in std::mem::take(&mut commands) {
                if self.perform(command, &mut commands) {
                    return;
                }
            }
            if !commands.is_empty() {
                continue;
            }
            let event = self.next_event().await;
            for event in event {
                self.step(event, &mut commands);
            }
        }
    }

    fn step(&mut self, event: Event, out: &mut Vec<Command>) {
        let now = self.now();
        self.membership.step(now, event, out);
        self.identity.set_epoch(self.membership.epoch());
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for the next thing to happen.
    async fn next_event(&mut self) -> Vec<Event> {
        let tick = self.membership.next_tick();
        let now = self.now();
        let wait = tick.map(|at| Duration::from_millis(at.saturating_sub(now)));
        tokio::select! {
            answer = until_answered(&mut self.heartbeat) => {
                self.heartbeat = None;
                vec![self.answered(answer).await]
            }
            () = self.inputs.changed.notified() => self.take_inputs(),
            () = sleep(wait) => vec![Event::Tick],
        }
    }

    async fn answered(&mut self, answer: Result<v1::ConsumerGroupHeartbeatResponse>) -> Event {
        match answer {
            Ok(answer) => {
                let check = || self.identity.group_id.clone();
                let outcome = Error::check(
                    "heartbeat to group",
                    check,
                    answer.error_code,
                    &answer.error_message,
                );
                if let Err(error) = outcome {
                    tracing::warn!(group = %self.identity.group_id, %error, "heartbeat refused");
                    if error.is_retriable() {
                        refresh_coordinator(&self.client).await;
                    }
                }
                Event::Answered(answer)
            }
            Err(error) => {
                tracing::warn!(group = %self.identity.group_id, %error, "no answer to a heartbeat");
                refresh_coordinator(&self.client).await;
                Event::Unanswered
            }
        }
    }

    fn take_inputs(&self) -> Vec<Event> {
        let mut state = self.inputs.state.lock();
        let mut events = Vec::new();
        if let Some(topics) = state.topics.take() {
            events.push(Event::Subscribe(topics));
        }
        if std::mem::take(&mut state.callback_done) {
            events.push(Event::CallbackDone);
        }
        if std::mem::take(&mut state.close) {
            events.push(Event::Close);
        }
        if state.dropped {
            // Closes, and answers the callback that may be waiting.
            events.push(Event::CallbackDone);
            events.push(Event::Close);
        }
        events
    }

    /// Does what the membership decided; returns whether the task is over.
    fn perform(&mut self, command: Command, out: &mut Vec<Command>) -> bool {
        let news = match command {
            Command::Heartbeat(request) => {
                self.heartbeat = Some(Box::pin(send(self.client.clone(), *request)));
                return false;
            }
            Command::Revoke(partitions) => GroupNews::Revoke(partitions),
            Command::Assign(partitions) => GroupNews::Assign(partitions),
            Command::Lose(partitions) => GroupNews::Lose(partitions),
            Command::Fail(refused) => {
                self.inbox.push(Delivery::Group(GroupNews::Failed(refused)));
                return false;
            }
            Command::Left => {
                self.inbox.push(Delivery::Group(GroupNews::Left));
                return true;
            }
        };
        if self.inputs.state.lock().dropped {
            self.step(Event::CallbackDone, out);
        } else {
            self.inbox.push(Delivery::Group(news));
        }
        false
    }
}

async fn send(
    client: Client,
    request: v1::ConsumerGroupHeartbeatRequest,
) -> Result<v1::ConsumerGroupHeartbeatResponse> {
    let call = async {
        let (node, channel) = client.coordinator(&request.group_id).await?;
        let mut group = services::group(channel);
        client
            .call("heartbeat", &node, group.consumer_group_heartbeat(request))
            .await
    };
    match tokio::time::timeout(HEARTBEAT_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Timeout {
            operation: "heartbeat",
            place: String::new(),
            after_ms: HEARTBEAT_TIMEOUT.as_millis() as u64,
            reason: "no answer".to_owned(),
        }),
    }
}

/// The answer to the heartbeat under way; never without one.
async fn until_answered(
    heartbeat: &mut Option<BoxFuture<'static, Result<v1::ConsumerGroupHeartbeatResponse>>>,
) -> Result<v1::ConsumerGroupHeartbeatResponse> {
    match heartbeat {
        Some(heartbeat) => heartbeat.await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
