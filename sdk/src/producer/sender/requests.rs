//! The sender's unary calls: producer identities and metadata. At most one of each is under way, and
//! failures are spaced by back-off.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_grpc::v1;
use conveyor_record::{ProducerEpoch, ProducerId};

use super::super::accumulator::Accumulator;
use super::super::sequencer::Identity;
use crate::client::{Backoff, Client, ClusterMetadata, TopicInfo, services};
use crate::error::{Error, Result};

/// A call under way.
pub(super) type Request<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Waits for the call under way and clears it; for ever if there is none.
pub(super) async fn resolve<T>(request: &mut Option<Request<T>>) -> Result<T> {
    let Some(call) = request else {
        return std::future::pending().await;
    };
    let answer = call.await;
    *request = None;
    answer
}

/// Who this producer is, and the call that finds it out.
pub(super) struct Identities {
    /// The newest identity; lanes take it over when they need one.
    pub(super) current: Option<Identity>,
    pub(super) request: Option<Request<Identity>>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    last_error: Option<Error>,
}

impl Identities {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            current: None,
            request: None,
            backoff: client.backoff(),
            retry_at: None,
            last_error: None,
        }
    }

    /// Asks for an identity, or for a higher epoch of the one there is.
    pub(super) fn start(&mut self, client: &Client, now: Instant) {
        if self.request.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        self.request = Some(Box::pin(init_producer_id(client.clone(), self.current)));
    }

    /// Takes the answer. An error that no retry mends is returned.
    pub(super) fn answered(&mut self, answer: Result<Identity>, now: Instant) -> Result<()> {
        match answer {
            Ok(identity) => {
                self.current = Some(identity);
                self.backoff.reset();
                self.last_error = None;
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(now + self.backoff.next_wait());
                tracing::debug!(%error, "no producer id yet");
                self.last_error = Some(error.clone());
                if error.is_retriable() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Why there is no identity, if that is so.
    pub(super) fn reason(&self) -> Option<String> {
        self.last_error.as_ref().map(ToString::to_string)
    }

    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        self.retry_at
            .filter(|&at| at > now)
            .unwrap_or_else(|| far_from(now))
    }
}

async fn init_producer_id(client: Client, present: Option<Identity>) -> Result<Identity> {
    let (address, channel) = client.any_channel()?;
    let request = v1::InitProducerIdRequest {
        transactional_id: String::new(),
        producer_id: present.map_or(-1, |identity| identity.id.value()),
        producer_epoch: present.map_or(-1, |identity| i32::from(identity.epoch.value())),
        transaction_timeout_ms: 0,
    };
    let mut service = services::produce(channel);
    let answer = client
        .call(
            "get a producer id",
            &address,
            service.init_producer_id(request),
        )
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            client.avoid(&address);
            return Err(error);
        }
    };
    Error::check(
        "get a producer id",
        String::new,
        answer.error_code,
        &answer.error_message,
    )?;
    let epoch = i16::try_from(answer.producer_epoch)
        .ok()
        .filter(|&epoch| epoch >= 0);
    let identity = epoch.map(|epoch| Identity {
        id: ProducerId(answer.producer_id),
        epoch: ProducerEpoch(epoch),
    });
    let follows = |identity: &Identity| {
        identity.id.is_some()
            && present
                .is_none_or(|present| identity.id != present.id || identity.epoch > present.epoch)
    };
    identity.filter(follows).ok_or_else(|| Error::Protocol {
        operation: "get a producer id",
        reason: format!(
            "id {} epoch {} after {present:?}",
            answer.producer_id, answer.producer_epoch
        ),
    })
}

/// The topics whose metadata are old or missing, and the call that mends that.
pub(super) struct TopicRefresh {
    stale: BTreeSet<Arc<str>>,
    /// Asked for in the call under way.
    asked: BTreeSet<Arc<str>>,
    pub(super) request: Option<Request<Arc<ClusterMetadata>>>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    last_full: Instant,
    max_age: Duration,
}

impl TopicRefresh {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            stale: BTreeSet::new(),
            asked: BTreeSet::new(),
            request: None,
            backoff: client.backoff(),
            retry_at: None,
            last_full: Instant::now(),
            max_age: Duration::from_millis(client.config().metadata_max_age_ms),
        }
    }

    /// Where new topics to look up are put.
    pub(super) fn wanted(&mut self) -> &mut BTreeSet<Arc<str>> {
        &mut self.stale
    }

    /// What is known of a topic has turned out wrong.
    pub(super) fn stale(&mut self, topic: &Arc<str>) {
        if !self.stale.contains(topic) {
            self.stale.insert(Arc::clone(topic));
        }
    }

    pub(super) fn all_stale<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<str>>) {
        topics.for_each(|topic| self.stale(topic));
    }

    /// Marks everything once it has reached its age.
    pub(super) fn refresh_old<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<str>>) {
        if self.last_full.elapsed() > self.max_age {
            self.last_full = Instant::now();
            self.all_stale(topics);
        }
    }

    /// Asks, if there is something to ask and it is time.
    pub(super) fn start(&mut self, client: &Client, now: Instant) {
        let waits = self.retry_at.is_some_and(|at| at > now);
        if self.stale.is_empty() || self.request.is_some() || waits {
            return;
        }
        self.asked = std::mem::take(&mut self.stale);
        let client = client.clone();
        let topics = self.asked.clone();
        self.request = Some(Box::pin(async move {
            let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
            client.refresh_metadata(&names).await
        }));
        // Also after a success: a leader that is being elected is asked for again, not at once.
        self.retry_at = Some(now + self.backoff.next_wait());
    }

    /// Makes the answer known to the accumulator.
    pub(super) fn answered(
        &mut self,
        answer: Result<Arc<ClusterMetadata>>,
        accumulator: &Accumulator,
        now: Instant,
    ) {
        let asked = std::mem::take(&mut self.asked);
        match answer {
            Ok(metadata) => {
                let known = asked.iter().filter_map(|topic| metadata.topic(topic));
                known.for_each(|topic| register(accumulator, topic));
                if asked.iter().all(|topic| has_leaders(metadata.topic(topic))) {
                    self.backoff.reset();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "metadata could not be refreshed");
                self.retry_at = Some(now + self.backoff.next_wait());
                self.stale.extend(asked);
            }
        }
    }

    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        let waits = !self.stale.is_empty() && self.request.is_none();
        self.retry_at
            .filter(|&at| waits && at > now)
            .unwrap_or_else(|| far_from(now))
    }
}

/// Tells the accumulator of a topic's partitions.
pub(in crate::producer) fn register(accumulator: &Accumulator, topic: &TopicInfo) {
    let available = (0..).zip(&topic.partitions);
    let available = available
        .filter(|(_, info)| info.leader.is_some())
        .map(|(index, _)| index);
    accumulator.register(&topic.name, topic.partitions.len(), available.collect());
}

fn has_leaders(topic: Option<&Arc<TopicInfo>>) -> bool {
    topic.is_some_and(|topic| topic.partitions.iter().all(|info| info.leader.is_some()))
}

fn far_from(now: Instant) -> Instant {
    now + Duration::from_hours(1)
}

#[cfg(test)]
mod tests {
    use conveyor_grpc::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn an_error_that_no_retry_mends_is_handed_on() {
        let client = Client::new(crate::ClientConfig::new("127.0.0.1:1")).unwrap();
        let mut identities = Identities::new(&client);
        let refused = |code| {
            Err(Error::Broker {
                operation: "get a producer id",
                place: String::new(),
                code,
                message: "no".to_owned(),
            })
        };
        let now = Instant::now();
        assert!(
            identities
                .answered(refused(ErrorCode::CoordinatorNotAvailable), now)
                .is_ok()
        );
        assert!(identities.wake_at(now) > now);
        assert!(
            identities
                .answered(refused(ErrorCode::ClusterAuthorizationFailed), now)
                .is_err()
        );
        assert!(
            identities
                .reason()
                .unwrap()
                .contains("CLUSTER_AUTHORIZATION_FAILED")
        );
    }
}
