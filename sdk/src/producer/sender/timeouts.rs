//! What the sender gives up: batches whose time is over, links that do not answer, everything when
//! no retry can help.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use conveyor_record::NodeId;
use tonic::Status;

use super::super::accumulator::{OpenBatch, QueueId};
use super::super::delivery::BatchOutcome;
use super::super::metrics::Counters;
use super::super::sequencer::BatchId;
use super::lane::Lane;
use super::link::{Link, LinkState};
use super::{Sender, TICK_MAX};
use crate::error::Error;

/// A leader that has not answered for so long may not be the leader any more: others are asked.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between two looks.
const TICK_MIN: Duration = Duration::from_millis(5);

impl Sender {
    /// Looks for timeouts, from time to time.
    pub(super) fn tick(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        let delivery_timeout = Duration::from_millis(self.config.delivery_timeout_ms);
        let request_timeout = Duration::from_millis(self.client.config().request_timeout_ms);
        self.next_tick =
            now + (delivery_timeout.min(request_timeout) / 10).clamp(TICK_MIN, TICK_MAX);
        if let Some(limit) = now.checked_sub(delivery_timeout) {
            self.expire_before(limit);
        }
        if let Some(limit) = now.checked_sub(request_timeout) {
            self.break_silent_links(limit);
        }
        if let Some(limit) = now.checked_sub(SUSPECT_AFTER) {
            self.suspect_silent_leaders(limit);
        }
        self.topics
            .refresh_old(self.lanes.values().map(|lane| &lane.topic));
    }

    /// Asks who leads the partitions of which no answer comes: a node that is frozen, or cut off from
    /// the others, does not say that it leads no more.
    fn suspect_silent_leaders(&mut self, limit: Instant) {
        for lane in self.lanes.values() {
            if lane
                .oldest_unanswered()
                .is_some_and(|(_, sent_at)| sent_at < limit)
            {
                self.topics.stale(&lane.topic);
            }
        }
    }

    /// Takes back what waits at nodes that have lost the lead, to be sent to those that have it now.
    /// The sequences see to it that nothing is appended twice.
    pub(super) fn follow_leaders(&mut self) {
        let mut moved = Vec::new();
        for (queue, lane) in &mut self.lanes {
            let leader = self.client.cached_leader(&lane.topic, lane.partition);
            let (Some(leader), Some((node, _))) = (leader, lane.oldest_unanswered()) else {
                continue;
            };
            if leader.node == node {
                continue;
            }
            let error = Error::Broker {
                operation: "produce to",
                place: lane.place(),
                code: ErrorCode::NotLeaderOrFollower,
                message: format!("node {} leads it now, not node {node}", leader.node),
            };
            moved.extend(lane.lost(node, &error));
            self.active.insert(*queue);
        }
        Counters::add(&self.counters.retries, moved.len() as u64);
        for id in moved {
            self.forget(id);
        }
    }

    fn expire_before(&mut self, limit: Instant) {
        for queue in self.active.clone() {
            let mut expired = Vec::new();
            if let Some(lane) = self.lanes.get_mut(&queue)
                && lane.oldest().is_some_and(|opened| opened < limit)
            {
                expired = lane.expire(limit);
            }
            for flight in expired {
                self.forget(flight.id);
                let error = self.timed_out(queue, flight.last_error.as_ref());
                self.failed(&flight, BatchOutcome::failed(error));
            }
            while let Some(batch) = self.accumulator.take_opened_before(queue, limit) {
                self.open_failed(&batch, self.timed_out(queue, None));
            }
        }
    }

    fn timed_out(&self, queue: QueueId, last_error: Option<&Error>) -> Error {
        let (topic, partition) = self.accumulator.place(queue);
        let reason = match last_error {
            Some(error) => error.to_string(),
            None => self.identities.reason().unwrap_or_else(|| {
                match self.client.cached_leader(&topic, partition) {
                    Some(leader) => format!("no answer from node {}", leader.node),
                    None => "the partition's leader is not known".to_owned(),
                }
            }),
        };
        Error::Timeout {
            operation: "produce to",
            place: format!("{topic}-{partition}"),
            after_ms: self.config.delivery_timeout_ms,
            reason,
        }
    }

    /// A batch that was given up no longer counts against its link's window when it is answered.
    fn forget(&mut self, id: BatchId) {
        let Some(entry) = self.on_the_way.remove(&id) else {
            return;
        };
        if let Some(LinkState {
            link: Link::Up(link),
            ..
        }) = self.links.get_mut(&entry.node)
        {
            link.answered(entry.bytes);
        }
    }

    fn break_silent_links(&mut self, limit: Instant) {
        let silent: BTreeSet<NodeId> = self
            .lanes
            .values()
            .filter_map(Lane::oldest_unanswered)
            .filter(|&(_, sent_at)| sent_at < limit)
            .map(|(node, _)| node)
            .collect();
        for node in silent {
            self.link_broken(
                node,
                &Status::deadline_exceeded("no answer in request_timeout_ms"),
            );
        }
    }

    /// Reports everything that waits as failed, because of an error that no retry mends. Records
    /// sent later are tried again from the beginning.
    pub(super) fn fail_everything(&mut self, error: &Error) {
        for queue in self.active.clone() {
            let flights = self
                .lanes
                .get_mut(&queue)
                .map(Lane::give_up_all)
                .unwrap_or_default();
            for flight in flights {
                self.forget(flight.id);
                self.failed(&flight, BatchOutcome::failed(error.clone()));
            }
            while let Some(batch) = self
                .accumulator
                .take_opened_before(queue, Instant::now() + TICK_MAX)
            {
                self.open_failed(&batch, error.clone());
            }
        }
    }

    /// Reports a batch as failed that never got a sequence.
    pub(super) fn open_failed(&self, batch: &OpenBatch, error: Error) {
        let count = batch.builder.record_count();
        Counters::add(&self.counters.records_failed, count as u64);
        if let Some(transactions) = &self.transactions {
            transactions.batch_failed(&error);
        }
        let outcome = BatchOutcome::failed(error);
        self.accumulator
            .settle(batch.id, &batch.completion, batch.memory, outcome);
    }
}
