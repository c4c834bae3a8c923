//! Commits offsets, in the order in which they were given.
//!
//! A task of its own, so that a commit outlives a caller who stops waiting. One request is under way
//! at a time; what is given meanwhile is merged, later offsets replacing earlier ones, so the queue
//! is bounded by the number of partitions (and of callers who wait).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use conveyor_grpc::{ErrorCode, v1};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::records::OffsetAndMetadata;
use super::topic_partition::TopicPartition;
use crate::client::{Client, services};
use crate::error::{Error, Result};

const OPERATION: &str = "commit offsets of";
/// Outside of membership; then the group must be empty.
const NO_EPOCH: i32 = -1;

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// Who commits: a group, and the member with its present epoch.
#[derive(Debug)]
pub(super) struct MemberIdentity {
    pub(super) group_id: String,
    pub(super) member_id: String,
    epoch: AtomicI32,
}

impl MemberIdentity {
    /// Outside of membership until [`MemberIdentity::set_epoch`].
    pub(super) fn new(group_id: String, member_id: String) -> Self {
        Self {
            group_id,
            member_id,
            epoch: AtomicI32::new(NO_EPOCH),
        }
    }

    pub(super) fn set_epoch(&self, epoch: i32) {
        self.epoch.store(epoch, Ordering::Release);
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::Acquire)
    }
}

/// Commits offsets of a consumer's group; clones share one queue. Works from other tasks too.
#[derive(Debug, Clone)]
pub struct OffsetCommitter {
    shared: Option<Arc<Shared>>,
}

/// A commit under way. Awaiting it is optional.
#[derive(Debug)]
#[must_use = "await it to know whether the commit worked, or drop it on purpose"]
pub struct CommitHandle {
    outcome: oneshot::Receiver<Result<()>>,
}

impl Future for CommitHandle {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let closed = || {
            Err(Error::Closed {
                operation: "commit offsets",
            })
        };
        Pin::new(&mut self.outcome)
            .poll(context)
            .map(|outcome| outcome.unwrap_or_else(|_| closed()))
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    offsets: Offsets,
    waiters: Vec<Waiter>,
    closed: bool,
}

#[derive(Debug)]
struct Waiter {
    partitions: Vec<TopicPartition>,
    outcome: oneshot::Sender<Result<()>>,
}

impl OffsetCommitter {
    /// Starts the task; it ends after [`OffsetCommitter::close`] once everything given is done.
    pub(super) fn start(client: Client, identity: Arc<MemberIdentity>) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Notify::new(),
        });
        let worker = Worker {
            client,
            identity,
            shared: Arc::clone(&shared),
        };
        tokio::spawn(worker.run());
        Self {
            shared: Some(shared),
        }
    }

    /// One that refuses everything: the consumer has no group.
    pub(super) fn without_group() -> Self {
        Self { shared: None }
    }

    /// Commits these offsets soon, after those given before. Retries what a retry can mend, for the
    /// client's `api_timeout_ms`.
    pub fn commit_async(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> CommitHandle {
        let (sender, outcome) = oneshot::channel();
        let handle = CommitHandle { outcome };
        let Some(shared) = &self.shared else {
            let error = Error::Config {
                setting: "group_id",
                reason: "is not set, but needed to commit".to_owned(),
            };
            // The receiver is right here.
            _ = sender.send(Err(error));
            return handle;
        };
        let mut queue = shared.queue.lock();
        if queue.closed {
            return handle;
        }
        let mut partitions = Vec::new();
        for (partition, offset) in offsets {
            partitions.push(partition.clone());
            queue.offsets.insert(partition, offset);
        }
        queue.waiters.retain(|waiter| !waiter.outcome.is_closed());
        queue.waiters.push(Waiter {
            partitions,
            outcome: sender,
        });
        drop(queue);
        shared.changed.notify_one();
        handle
    }

    /// Commits these offsets and waits for the outcome.
    pub async fn commit_sync(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        self.commit_async(offsets).await
    }

    /// Takes no more; what was given before is still done.
    pub(super) fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.queue.lock().closed = true;
            shared.changed.notify_one();
        }
    }
}

struct Worker {
    client: Client,
    identity: Arc<MemberIdentity>,
    shared: Arc<Shared>,
}

impl Worker {
    async fn run(self) {
        loop {
            let (offsets, waiters, closed) = {
                let mut queue = self.shared.queue.lock();
                let offsets = std::mem::take(&mut queue.offsets);
                (offsets, std::mem::take(&mut queue.waiters), queue.closed)
            };
            if waiters.is_empty() {
                if closed {
                    return;
                }
                self.shared.changed.notified().await;
                continue;
            }
            let failures = self.commit(offsets).await;
            for waiter in waiters {
                let failure = waiter.partitions.iter().find_map(|p| failures.get(p));
                // A caller who does not wait does not care.
                _ = waiter
                    .outcome
                    .send(failure.map_or(Ok(()), |error| Err(error.clone())));
            }
        }
    }

    /// Tries until everything is committed or failed for good; returns the failures.
    async fn commit(&self, mut offsets: Offsets) -> BTreeMap<TopicPartition, Error> {
        let limit = Duration::from_millis(self.client.config().api_timeout_ms);
        let deadline = Instant::now() + limit;
        let mut backoff = self.client.backoff();
        let mut failures = BTreeMap::new();
        while !offsets.is_empty() {
            let retriable = self.attempt(&mut offsets, &mut failures).await;
            let Some(error) = retriable else { break };
            let wait = backoff.next_wait();
            if Instant::now() + wait >= deadline {
                failures.extend(
                    offsets
                        .into_keys()
                        .map(|partition| (partition, error.clone())),
                );
                break;
            }
            tracing::debug!(%error, "retrying to commit offsets");
            tokio::time::sleep(wait).await;
            self.refresh_coordinator().await;
        }
        failures
    }

    /// One request. Takes what is done out of `offsets` and returns why the rest is to be tried
    /// again.
    async fn attempt(
        &self,
        offsets: &mut Offsets,
        failures: &mut BTreeMap<TopicPartition, Error>,
    ) -> Option<Error> {
        let results = match self.request(offsets).await {
            Ok(results) => results,
            Err(error) if error.is_retriable() => return Some(error),
            Err(error) => {
                let failed = std::mem::take(offsets).into_keys();
                failures.extend(failed.map(|partition| (partition, error.clone())));
                return None;
            }
        };
        let mut again = None;
        for result in results {
            let partition = TopicPartition::new(result.topic, result.partition);
            let place = || format!("group {} in {partition}", self.identity.group_id);
            match Error::check(OPERATION, place, result.error_code, &result.error_message) {
                Err(error) if is_worth_a_retry(&error) => again = Some(error),
                Err(error) => {
                    offsets.remove(&partition);
                    failures.insert(partition, error);
                }
                Ok(()) => _ = offsets.remove(&partition),
            }
        }
        if again.is_none() && !offsets.is_empty() {
            let error = Error::Protocol {
                operation: OPERATION,
                reason: format!("it leaves out {} partitions", offsets.len()),
            };
            let failed = std::mem::take(offsets).into_keys();
            failures.extend(failed.map(|partition| (partition, error.clone())));
        }
        again
    }

    async fn request(&self, offsets: &Offsets) -> Result<Vec<v1::OffsetResult>> {
        let identity = &self.identity;
        let epoch = identity.epoch();
        if epoch == 0 || epoch < NO_EPOCH {
            return Err(Error::Broker {
                operation: OPERATION,
                place: format!("group {}", identity.group_id),
                code: ErrorCode::UnknownMemberId,
                message: "this consumer is not a member of the group at the moment".to_owned(),
            });
        }
        let member = if epoch == NO_EPOCH {
            ""
        } else {
            identity.member_id.as_str()
        };
        let request = v1::CommitOffsetsRequest {
            group_id: identity.group_id.clone(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            offsets: offsets
                .iter()
                .map(|(partition, offset)| offset.to_wire(partition))
                .collect(),
        };
        let (node, channel) = self.client.coordinator(&identity.group_id).await?;
        let mut group = services::group(channel);
        let call = group.commit_offsets(request);
        Ok(self
            .client
            .call("commit offsets", &node, call)
            .await?
            .results)
    }

    async fn refresh_coordinator(&self) {
        refresh_coordinator(&self.client).await;
    }
}

/// Where the group lives may have changed: asks for the offsets topic's leaders again.
pub(super) async fn refresh_coordinator(client: &Client) {
    const OFFSETS_TOPIC: &str = "__consumer_offsets";
    const LIMIT: Duration = Duration::from_secs(5);
    match tokio::time::timeout(LIMIT, client.refresh_metadata(&[OFFSETS_TOPIC])).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot look for the group's coordinator"),
        Err(_) => tracing::debug!("no answer when looking for the group's coordinator"),
    }
}

/// A stale epoch means that a heartbeat with a newer one is under way.
fn is_worth_a_retry(error: &Error) -> bool {
    error.is_retriable() || error.code() == Some(ErrorCode::StaleMemberEpoch)
}
