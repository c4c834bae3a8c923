//! Carries out what was decided: the marker in every partition of a transaction, then the note that
//! all are there.
//!
//! One task a decided transaction. It writes to all partitions at once and tries again those that
//! failed, until each has its marker or its topic is gone; only then is the transaction complete, and
//! its producer may begin the next. A restart begins again from the decision, so that a partition may
//! get its marker twice: the second one ends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use conveyor_controller::OFFSETS_TOPIC;
use conveyor_grpc::ErrorCode;
use conveyor_record::{ControlRecord, ControlType};
use conveyor_transaction::{Producer, TopicPartition, WriteMarkers};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::TransactionHost;
use crate::coordinator::TransactionalProducer;
use crate::internal_log;
use crate::node::Refusal;
use crate::partition::{Permits, Reply};

/// The first pause before a marker is tried again; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// The transactions that are being carried out, so that none is twice.
#[derive(Debug, Default)]
pub(super) struct Carried {
    running: Mutex<BTreeSet<(String, Producer, i64)>>,
}

/// The end of a transaction, as it is written to a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marker {
    /// Whose.
    pub(crate) producer: Producer,
    /// Commit, or abort.
    pub(crate) commit: bool,
    /// The term of the coordinator that has decided it.
    pub(crate) coordinator_epoch: i32,
}

impl Marker {
    fn control(&self) -> ControlRecord {
        ControlRecord {
            control_type: if self.commit {
                ControlType::Commit
            } else {
                ControlType::Abort
            },
            coordinator_epoch: self.coordinator_epoch,
        }
    }

    fn transactional(&self) -> TransactionalProducer {
        TransactionalProducer {
            id: self.producer.id,
            epoch: self.producer.epoch,
        }
    }
}

/// Starts the task of a decided transaction, unless it runs already.
pub(super) fn carry_out(host: Arc<TransactionHost>, markers: WriteMarkers) {
    let key = (
        markers.transactional_id.clone(),
        markers.producer,
        markers.decided_ms,
    );
    if !host.carried.running.lock().insert(key.clone()) {
        return;
    }
    tokio::spawn(async move {
        let stopping = host.node.stopping.clone();
        tokio::select! {
            () = write_all(&host, markers) => {}
            // The next start goes on with it.
            () = stopping.cancelled() => {}
        }
        host.carried.running.lock().remove(&key);
    });
}

async fn write_all(host: &TransactionHost, markers: WriteMarkers) {
    let id = markers.transactional_id.as_str();
    let mut left = markers.partitions.clone();
    let mut pause = PAUSE_FIRST;
    while !left.is_empty() {
        let marker = Marker {
            producer: markers.producer,
            commit: markers.commit,
            coordinator_epoch: host.coordinator_epoch(id),
        };
        let writes = left.iter().map(|place| host.write_marker(place, marker));
        let results = join_all(writes).await;
        let outcomes = std::mem::take(&mut left).into_iter().zip(results);
        left.extend(outcomes.filter_map(|(place, result)| {
            let refusal = result.err()?;
            must_retry(id, &place, &refusal).then_some(place)
        }));
        if !left.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
    while let Err(refusal) = host.complete(&markers).await {
        tracing::warn!(
            transactional_id = id,
            reason = refusal.message,
            "not completed yet"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// Whether a marker that was refused can still get into its partition.
fn must_retry(transactional_id: &str, place: &TopicPartition, refusal: &Refusal) -> bool {
    match refusal.code {
        // Its topic was deleted, and the records of the transaction with it.
        ErrorCode::UnknownTopicOrPartition => false,
        // A newer marker of the producer is there: it has ended the transaction.
        ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced => {
            let reason = &refusal.message;
            tracing::warn!(transactional_id, %place, reason, "the marker is out of date");
            false
        }
        _ => {
            let reason = &refusal.message;
            tracing::warn!(transactional_id, %place, reason, "the marker is not written yet");
            true
        }
    }
}

impl TransactionHost {
    /// Writes a marker to a partition; returns when it is durable.
    pub(crate) async fn write_marker(
        &self,
        place: &TopicPartition,
        marker: Marker,
    ) -> Result<(), Refusal> {
        let found = self.node.partitions().get(&place.topic, place.partition);
        let partition = found.map_err(Refusal::from)?;
        if place.topic == OFFSETS_TOPIC {
            partition.end_transaction(marker.producer.id);
            return self
                .groups
                .complete_transaction(
                    place.partition,
                    marker.transactional(),
                    marker.coordinator_epoch,
                    marker.commit,
                )
                .await;
        }
        let now_ms = self.node.now_ms();
        let batch = internal_log::build_marker(marker.transactional(), marker.control(), now_ms)
            .map_err(Refusal::from)?;
        let permits = Permits::new(partition.permit(batch.bytes.len()).await, None);
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::Once(sender);
        partition.append_marker(marker.producer.id, batch, reply, permits);
        match receiver.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failure)) => Err(Refusal::from(failure)),
            Err(_) => {
                let message = format!("{}: the node is stopping", partition.name());
                Err(Refusal::new(ErrorCode::NotLeaderOrFollower, message))
            }
        }
    }
}
