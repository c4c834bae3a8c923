//! The group coordinator as a shard hosts it.

use conveyor_group::{
    ClusterView as _, DecodeError, Expired, GroupConfig, GroupCoordinator, GroupError, Record,
    Reply, TransactionProducer, Transition,
};
use conveyor_record::{ControlRecord, ControlType};

use super::cluster::ClusterSnapshot;
use super::machine::{Coordinator, Decision, Ticket, TransactionalProducer};
use crate::metadata_host::MetadataHost;
use crate::node::Refusal;

impl Coordinator for GroupCoordinator {
    type Record = Record;
    type Config = GroupConfig;
    type View = ClusterSnapshot;
    type Reply = Reply;
    type Expired = Expired;
    type DecodeError = DecodeError;

    const KEEPS: &'static str = "group state";

    fn new(config: &GroupConfig) -> Self {
        Self::new(config.clone())
    }

    fn encode(record: &Record) -> (Vec<u8>, Option<Vec<u8>>) {
        let encoded = record.encode();
        (encoded.key, encoded.value)
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, DecodeError> {
        Record::decode(key, value)
    }

    fn replay(
        &mut self,
        record: &Record,
        timestamp_ms: i64,
        producer: Option<TransactionalProducer>,
    ) {
        match producer {
            None => Self::replay(self, record, timestamp_ms),
            Some(producer) => {
                self.replay_transactional(producer.into(), record, timestamp_ms);
            }
        }
    }

    fn replay_marker(&mut self, producer: TransactionalProducer, marker: ControlRecord) {
        let is_commit = match marker.control_type {
            ControlType::Commit => true,
            ControlType::Abort => false,
            ControlType::Other(_) => return,
        };
        Self::replay_marker(self, producer.into(), marker.coordinator_epoch, is_commit);
    }

    fn start(&mut self, now_ms: i64) {
        Self::start(self, now_ms);
    }

    fn next_deadline(&self) -> Option<i64> {
        Self::next_deadline(self)
    }

    fn tick(&mut self, now_ms: i64, _view: &ClusterSnapshot) -> Option<Decision<Self, Expired>> {
        Some(decision(Self::tick(self, now_ms)?))
    }

    fn view(metadata: &MetadataHost) -> ClusterSnapshot {
        ClusterSnapshot::take(metadata)
    }

    fn follow(&mut self, before: Option<&ClusterSnapshot>, now: &ClusterSnapshot) -> Vec<Record> {
        let is_gone = |topic: &str| match before {
            Some(before) => before.is_gone(topic, now),
            None => now.topic(topic).is_none(),
        };
        self.forget_topics(is_gone).records
    }
}

impl From<TransactionalProducer> for TransactionProducer {
    fn from(producer: TransactionalProducer) -> Self {
        Self {
            id: producer.id,
            epoch: producer.epoch,
        }
    }
}

/// Says what a timer found.
pub(super) fn tell_expired(expired: &Expired) {
    tracing::info!(?expired, "timer");
}

/// What the coordinator has decided.
pub(super) fn decision<R>(transition: Transition<R>) -> Decision<GroupCoordinator, R> {
    let replies = transition.replies.into_iter();
    let replies = replies.map(|(ticket, reply)| (Ticket(ticket.0), reply));
    Decision::new(transition.records, transition.response).with_replies(replies.collect())
}

/// What the coordinator has decided, or why not.
pub(crate) fn decided<R>(
    outcome: Result<Transition<R>, GroupError>,
) -> Decision<GroupCoordinator, Result<R, Refusal>> {
    match outcome {
        Ok(transition) => {
            let Decision {
                write,
                replies,
                response,
            } = decision(transition);
            Decision::write(write, Ok(response)).with_replies(replies)
        }
        Err(error) => Decision::nothing(Err(Refusal::from(error))),
    }
}
