//! The one task of a producer: takes batches that are due, numbers and compresses them, sends each
//! to its partition's leader, and settles them as the answers come.
//!
//! Everything here is owned by the task; callers of `send` meet it only in the [`Accumulator`]. What
//! may be sent when is decided by each lane's sequencer and each link's window; this module brings
//! events to them and carries out what they allow. It waits in one place, [`Sender::run`].

mod lane;
mod link;
mod requests;
mod timeouts;

pub(super) use self::requests::register;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conveyor_grpc::{ErrorCode, v1};
use conveyor_record::{Compressor, NodeId};
use futures::FutureExt as _;
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::Status;

use self::lane::{Flight, Lane, answer_for, wants_metadata};
use self::link::{Link, LinkEvent, LinkState, LinkStream, OpenLink, Room};
use self::requests::{Identities, TopicRefresh, resolve};
use super::accumulator::{Accumulator, QueueId, Take};
use super::config::ProducerConfig;
use super::delivery::BatchOutcome;
use super::metrics::Counters;
use super::sequencer::{BatchId, Sequencer, Verdict};
use super::transaction::Transactions;
use crate::client::Client;
use crate::error::Error;

/// Batches compressed before events are looked at again: each takes some 100 µs of this task.
const ENCODED_PER_ROUND: usize = 8;
/// Events of links taken in one go.
const EVENTS_PER_ROUND: usize = 64;
/// The longest time between two looks for timeouts.
const TICK_MAX: Duration = Duration::from_millis(500);

/// The producer's task.
pub(crate) struct Sender {
    client: Client,
    config: Arc<ProducerConfig>,
    accumulator: Arc<Accumulator>,
    counters: Arc<Counters>,
    /// With a transactional id: they say under which id and epoch to write, and when to give up.
    transactions: Option<Arc<Transactions>>,
    compressor: Compressor,
    identities: Identities,
    topics: TopicRefresh,
    lanes: BTreeMap<QueueId, Lane>,
    /// Queues with something to do, now or later.
    active: BTreeSet<QueueId>,
    /// Where the next round begins, so that no partition is always served first.
    first: QueueId,
    links: HashMap<NodeId, LinkState>,
    events: StreamMap<NodeId, LinkStream>,
    /// Batches on their way, by correlation id.
    on_the_way: HashMap<BatchId, OnTheWay>,
    next_tick: Instant,
}

struct OnTheWay {
    queue: QueueId,
    node: NodeId,
    bytes: usize,
}

/// What a lane waits for.
enum Wait {
    /// Nothing to do until the accumulator says so.
    Idle,
    /// An answer, a link, an identity, metadata.
    Event,
    Until(Instant),
    /// There is more to do at once.
    Nothing,
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        config: Arc<ProducerConfig>,
        accumulator: Arc<Accumulator>,
        counters: Arc<Counters>,
        transactions: Option<Arc<Transactions>>,
    ) -> Self {
        Self {
            identities: Identities::new(&client),
            topics: TopicRefresh::new(&client),
            client,
            config,
            accumulator,
            counters,
            transactions,
            compressor: Compressor::new(),
            lanes: BTreeMap::new(),
            active: BTreeSet::new(),
            first: 0,
            links: HashMap::new(),
            events: StreamMap::new(),
            on_the_way: HashMap::new(),
            next_tick: Instant::now(),
        }
    }

    /// Works until the producer is closed and everything is settled, or it is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            self.accumulator
                .take_changed(&mut self.active, self.topics.wanted());
            let now = Instant::now();
            self.discard();
            self.tick(now);
            let wake_at = self.round(now);
            if self.accumulator.is_finished() {
                return;
            }
            tokio::select! {
                biased;
                event = self.events.next(), if !self.events.is_empty() => {
                    self.take_events(event);
                }
                answer = resolve(&mut self.identities.request) => {
                    if let Err(error) = self.identities.answered(answer, Instant::now()) {
                        self.fail_everything(&error);
                    }
                }
                answer = resolve(&mut self.topics.request) => {
                    self.topics.answered(answer, &self.accumulator, Instant::now());
                    self.follow_leaders();
                }
                () = self.accumulator.changed() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Gives up all that waits, when its transaction is lost or being aborted.
    fn discard(&mut self) {
        let transactions = self.transactions.as_ref();
        if let Some(error) = transactions.and_then(|transactions| transactions.discards()) {
            self.fail_everything(&error);
        }
    }

    /// Serves every active queue once. Returns when to look again if nothing happens.
    fn round(&mut self, now: Instant) -> Instant {
        let mut wake_at = if self.active.is_empty() {
            now + TICK_MAX
        } else {
            self.next_tick
        };
        let mut budget = ENCODED_PER_ROUND;
        let later = self.active.range(self.first..).copied();
        let order: Vec<QueueId> = later
            .chain(self.active.range(..self.first).copied())
            .collect();
        for queue in order {
            match self.serve(queue, now, &mut budget) {
                Wait::Idle => {
                    self.active.remove(&queue);
                }
                Wait::Event => {}
                Wait::Until(at) => wake_at = wake_at.min(at),
                Wait::Nothing => {
                    self.first = queue;
                    wake_at = now;
                    break;
                }
            }
        }
        self.topics.start(&self.client, now);
        wake_at
            .min(self.identities.wake_at(now))
            .min(self.topics.wake_at(now))
    }

    /// Sends what one queue may send.
    fn serve(&mut self, queue: QueueId, now: Instant, budget: &mut usize) -> Wait {
        if let Some(wait) = self.prepare_lane(queue, now) {
            return wait;
        }
        loop {
            let Some(lane) = self.lanes.get_mut(&queue) else {
                return Wait::Event;
            };
            if let Some(bytes) = lane.next_to_send().map(|flight| flight.bytes.len()) {
                if let Some(wait) = self.send_next(queue, bytes, now) {
                    return wait;
                }
                continue;
            }
            if !lane.sequencer.has_room() {
                return Wait::Event;
            }
            if *budget == 0 {
                return Wait::Nothing;
            }
            match self.accumulator.take(queue, now) {
                Take::Batch(batch) => {
                    *budget -= 1;
                    if let Err(refused) = lane.admit(batch, &mut self.compressor) {
                        let (batch, source) = *refused;
                        let (operation, place) = ("encode batch for", lane.place());
                        self.open_failed(
                            &batch,
                            Error::Batch {
                                operation,
                                place,
                                source,
                            },
                        );
                    }
                }
                Take::LingersUntil(at) => return Wait::Until(at),
                Take::Empty if lane.sequencer.is_empty() => return Wait::Idle,
                Take::Empty => return Wait::Event,
            }
        }
    }

    /// Makes sure that the lane exists, has an identity and may be tried; else says what to wait
    /// for.
    fn prepare_lane(&mut self, queue: QueueId, now: Instant) -> Option<Wait> {
        let identity = match &self.transactions {
            Some(transactions) => transactions.identity(),
            None => self.identities.current,
        };
        let Some(identity) = identity else {
            self.want_identity(now);
            return Some(Wait::Event);
        };
        let lane = self.lanes.entry(queue).or_insert_with(|| {
            let sequencer = Sequencer::new(identity, self.config.max_in_flight);
            Lane::new(
                self.accumulator.place(queue),
                sequencer,
                self.client.backoff(),
            )
        });
        if let Some(retry_at) = lane.retry_at {
            if retry_at > now {
                return Some(Wait::Until(retry_at));
            }
            lane.retry_at = None;
        }
        let is_new = lane.sequencer.identity() != identity;
        if self.transactions.is_some() && is_new {
            if !lane.is_empty() {
                return Some(Wait::Event);
            }
            lane.start_over(Sequencer::new(identity, self.config.max_in_flight));
        } else if lane.sequencer.needs_identity() {
            if !is_new {
                self.want_identity(now);
                return Some(Wait::Event);
            }
            lane.reset(identity);
        }
        None
    }

    /// Asks for an identity, unless that is the caller's to do with a transaction's begin or end.
    fn want_identity(&mut self, now: Instant) {
        if self.transactions.is_none() {
            self.identities.start(&self.client, now);
        }
    }

    /// Sends the next batch of a lane, or says what to wait for.
    fn send_next(&mut self, queue: QueueId, bytes: usize, now: Instant) -> Option<Wait> {
        let lane = self.lanes.get_mut(&queue)?;
        let Some(leader) = self.client.cached_leader(&lane.topic, lane.partition) else {
            self.topics.stale(&lane.topic);
            return Some(Wait::Event);
        };
        let link = match open_link(
            &mut self.links,
            &mut self.events,
            &self.client,
            &self.config,
            leader.node,
            now,
        ) {
            Ok(link) => link,
            Err(wait) => return Some(wait),
        };
        match link.room(bytes, now) {
            Room::Yes => {}
            Room::No => return Some(Wait::Event),
            Room::NotBefore(at) => return Some(Wait::Until(at)),
        }
        let flight = lane.next_to_send()?;
        let id = flight.id;
        let is_taken = link.send(v1::ProduceStreamBatch {
            correlation_id: id,
            topic: lane.topic.to_string(),
            partition: lane.partition,
            batch: flight.bytes.clone(),
        });
        if !is_taken {
            return Some(Wait::Event);
        }
        lane.sent(id, leader.node, now);
        self.on_the_way.insert(
            id,
            OnTheWay {
                queue,
                node: leader.node,
                bytes,
            },
        );
        None
    }

    /// Takes one event and those that are there already.
    fn take_events(&mut self, first: Option<(NodeId, LinkEvent)>) {
        let mut next = first;
        let mut left = EVENTS_PER_ROUND;
        while let Some((node, event)) = next {
            match event {
                LinkEvent::Response(response) => self.take_response(node, response),
                LinkEvent::Broken(status) => self.link_broken(node, &status),
            }
            left -= 1;
            if left == 0 {
                return;
            }
            next = self.events.next().now_or_never().flatten();
        }
    }

    fn take_response(&mut self, node: NodeId, response: v1::ProduceStreamResponse) {
        let now = Instant::now();
        if let Some(LinkState {
            link: Link::Up(link),
            backoff,
        }) = self.links.get_mut(&node)
        {
            if let Some(limits) = &response.limits {
                link.set_window(limits.window_bytes);
                backoff.reset();
            }
            link.throttle(now, response.throttle_time_ms);
        }
        for ack in response.acks {
            self.take_ack(node, ack, now);
        }
    }

    fn take_ack(&mut self, node: NodeId, ack: v1::ProduceStreamAck, now: Instant) {
        // Not on its way: given up in the meantime, or a node that answers what was not asked.
        let Some(entry) = self.on_the_way.remove(&ack.correlation_id) else {
            return;
        };
        if let Some(LinkState {
            link: Link::Up(link),
            ..
        }) = self.links.get_mut(&entry.node)
        {
            link.answered(entry.bytes);
        }
        let Some(lane) = self.lanes.get_mut(&entry.queue) else {
            return;
        };
        self.active.insert(entry.queue);
        let code = ErrorCode::from_code(ack.error_code);
        let error = Error::check(
            "produce to",
            || lane.place(),
            ack.error_code,
            &ack.error_message,
        )
        .err();
        if wants_metadata(code) {
            self.topics.stale(&lane.topic);
        }
        let (mut verdict, mut settled) =
            lane.answered(ack.correlation_id, answer_for(code), error.as_ref(), now);
        if self.transactions.is_some() && verdict == Verdict::NumberAgain {
            // Another epoch comes with another transaction only: this one is lost.
            verdict = Verdict::Failed;
            settled = lane.give_up_one(ack.correlation_id);
        }
        match verdict {
            Verdict::SendAgain | Verdict::NumberAgain => {
                tracing::debug!(%node, %code, topic = %lane.topic, partition = lane.partition,
                    "batch will be sent again");
                Counters::add(&self.counters.retries, 1);
            }
            Verdict::Delivered | Verdict::Failed | Verdict::Settled => {}
        }
        let Some(flight) = settled else { return };
        match (verdict, error) {
            (Verdict::Delivered, _) => self.delivered(&flight, &ack, now),
            (_, error) => {
                let error = error.unwrap_or(Error::Closed {
                    operation: "produce",
                });
                let errors = ack.record_errors.into_iter();
                let record_errors = errors.map(|one| (one.batch_index, one.message)).collect();
                self.failed(
                    &flight,
                    BatchOutcome::Failed {
                        error,
                        record_errors,
                    },
                );
            }
        }
    }

    fn delivered(&self, flight: &Flight, ack: &v1::ProduceStreamAck, now: Instant) {
        let counters = &self.counters;
        Counters::add(&counters.records_delivered, flight.record_count as u64);
        Counters::add(&counters.batches_delivered, 1);
        Counters::add(&counters.batch_bytes, flight.bytes.len() as u64);
        Counters::add(&counters.record_bytes, flight.record_bytes as u64);
        counters.record_latency(now.saturating_duration_since(flight.opened));
        // A duplicate of long ago comes with an error code and without an offset.
        let base_offset = if ack.error_code == 0 {
            ack.base_offset
        } else {
            -1
        };
        let outcome = BatchOutcome::Delivered {
            base_offset,
            log_append_timestamp_ms: ack.log_append_timestamp_ms,
        };
        self.accumulator
            .settle(flight.id, &flight.completion, flight.memory, outcome);
    }

    fn failed(&self, flight: &Flight, outcome: BatchOutcome) {
        if let (Some(transactions), BatchOutcome::Failed { error, .. }) =
            (&self.transactions, &outcome)
        {
            transactions.batch_failed(error);
        }
        Counters::add(&self.counters.records_failed, flight.record_count as u64);
        self.accumulator
            .settle(flight.id, &flight.completion, flight.memory, outcome);
    }

    /// A stream has failed: what was on it is sent again, on a new one.
    fn link_broken(&mut self, node: NodeId, status: &Status) {
        self.events.remove(&node);
        let Some(state) = self.links.get_mut(&node) else {
            return;
        };
        let was_established = matches!(&state.link, Link::Up(link) if link.is_established());
        state.link = Link::Down {
            retry_at: Instant::now() + state.backoff.next_wait(),
        };
        Counters::add(&self.counters.connection_failures, 1);
        let error = Error::rpc("produce", &format!("node {node}"), status);
        if was_established {
            tracing::info!(%node, %error, "produce stream broke, reconnecting");
        } else {
            tracing::debug!(%node, %error, "produce stream could not be opened");
        }
        let mut retried = 0;
        for lane in self.lanes.values_mut() {
            for id in lane.lost(node, &error) {
                self.on_the_way.remove(&id);
                retried += 1;
            }
        }
        Counters::add(&self.counters.retries, retried);
        self.topics
            .all_stale(self.lanes.values().map(|lane| &lane.topic));
        if !error.is_retriable() {
            self.fail_everything(&error);
        }
    }
}

impl Drop for Sender {
    /// However the task ends, nobody is left waiting.
    fn drop(&mut self) {
        let left = self.accumulator.fail_all(&Error::Closed {
            operation: "produce",
        });
        if left > 0 {
            tracing::warn!(
                batches = left,
                "producer ended before all batches were acknowledged"
            );
        }
    }
}

/// The open link to a node; opens one if there is none and it is time.
fn open_link<'a>(
    links: &'a mut HashMap<NodeId, LinkState>,
    events: &mut StreamMap<NodeId, LinkStream>,
    client: &Client,
    config: &ProducerConfig,
    node: NodeId,
    now: Instant,
) -> Result<&'a mut OpenLink, Wait> {
    let state = links.entry(node).or_insert_with(|| LinkState {
        link: Link::Down { retry_at: now },
        backoff: client.backoff(),
    });
    if let Link::Down { retry_at } = state.link {
        if retry_at > now {
            return Err(Wait::Until(retry_at));
        }
        let Ok(channel) = client.channel(node) else {
            // Named as leader but not among the nodes: the next metadata will tell.
            state.link = Link::Down {
                retry_at: now + state.backoff.next_wait(),
            };
            return Err(Wait::Event);
        };
        let open = v1::ProduceStreamOpen {
            acks: v1::Acks::from(config.acks).into(),
            timeout_ms: server_timeout_ms(client.config().request_timeout_ms),
            transactional_id: config.transactional_id.clone().unwrap_or_default(),
        };
        let (link, stream) = OpenLink::open(channel, open);
        events.insert(node, stream);
        state.link = Link::Up(link);
    }
    match &mut state.link {
        Link::Up(link) => Ok(link),
        Link::Down { retry_at } => Err(Wait::Until(*retry_at)),
    }
}

/// The node gives up before the client does, so that a slow disk is answered and not taken for a
/// broken connection.
fn server_timeout_ms(request_timeout_ms: u64) -> i32 {
    i32::try_from(request_timeout_ms / 4 * 3).unwrap_or(i32::MAX)
}
