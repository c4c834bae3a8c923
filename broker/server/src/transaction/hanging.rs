//! Finds transactions that nobody will ever end: open in a partition, unknown to their coordinator.
//!
//! Such a one holds back everybody who reads committed records. It takes a fault to make one (a
//! client of old versions, a log that was copied from elsewhere), and an administrator to end it.
//! The logs are looked at before and after the coordinators, so that a transaction which ends in
//! between is not taken for one that hangs.

use std::collections::BTreeSet;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_log::ActiveProducer;
use conveyor_record::{Offset, ProducerId};
use conveyor_transaction::{Producer, TopicPartition};

use super::{Marker, TransactionHost};
use crate::coordinator::Decision;
use crate::node::{Node, Refusal};
use crate::partition::Partition;

/// A transaction that is open in a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpenTransaction {
    /// Where.
    pub(crate) place: TopicPartition,
    /// Whose.
    pub(crate) producer: Producer,
    /// The term of the coordinator that wrote the producer's last marker there, or -1.
    pub(crate) coordinator_epoch: i32,
    /// Its first offset.
    pub(crate) start: Offset,
    /// When its producer was last heard of there, in ms since the epoch.
    pub(crate) last_seen_ms: i64,
}

impl TransactionHost {
    /// The transactions that hang, whose producers have been silent for `silent_for_ms`.
    pub(crate) async fn hanging(
        &self,
        silent_for_ms: i64,
    ) -> Result<Vec<OpenTransaction>, Refusal> {
        let open = self.open_anywhere().await?;
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.known().await?;
        let still_open: BTreeSet<_> = self
            .open_anywhere()
            .await?
            .into_iter()
            .map(|open| (open.place, open.start))
            .collect();
        let before = self.node.now_ms().saturating_sub(silent_for_ms);
        let hanging = open.into_iter().filter(|open| {
            open.last_seen_ms <= before
                && !known.contains(&(open.producer.id, open.place.clone()))
                && still_open.contains(&(open.place.clone(), open.start))
        });
        Ok(hanging.collect())
    }

    /// Ends the hanging transaction that begins at `start` by an abort marker.
    pub(crate) async fn abort_hanging(
        &self,
        place: &TopicPartition,
        start: Offset,
    ) -> Result<(), Refusal> {
        let found = self.hanging(0).await?.into_iter();
        let mut found = found.filter(|open| open.place == *place && open.start == start);
        let Some(hanging) = found.next() else {
            let message = format!(
                "no transaction hangs in {place} at offset {start}: it is not open, or its coordinator will end it"
            );
            return Err(Refusal::new(ErrorCode::InvalidTxnState, message));
        };
        let marker = Marker {
            producer: hanging.producer,
            commit: false,
            coordinator_epoch: hanging.coordinator_epoch.max(0),
        };
        self.write_marker(place, marker).await
    }

    /// Every open transaction of every partition.
    async fn open_anywhere(&self) -> Result<Vec<OpenTransaction>, Refusal> {
        let node = Arc::clone(&self.node);
        let look = tokio::task::spawn_blocking(move || open_in(&node));
        look.await.map_err(|error| {
            let message = format!("the look at the logs was given up: {error}");
            Refusal::new(ErrorCode::UnknownServerError, message)
        })
    }

    /// The partitions of all transactions that coordinators will end, by producer id.
    async fn known(&self) -> Result<BTreeSet<(ProducerId, TopicPartition)>, Refusal> {
        let mut known = BTreeSet::new();
        for shard in self.shards.get().map_or(&[][..], Vec::as_slice) {
            let found = shard.change(|hosted, (), _| {
                Decision::nothing(hosted.coordinator.open_partitions().collect::<Vec<_>>())
            });
            known.extend(found.await?);
        }
        Ok(known)
    }
}

fn open_in(node: &Node) -> Vec<OpenTransaction> {
    let partitions = node.partitions().online();
    let mut open: Vec<_> = partitions
        .iter()
        .filter(|partition| has_any(partition))
        .flat_map(|partition| {
            let producers = partition.active_producers().into_iter();
            producers.filter_map(|producer| open_transaction(partition, producer))
        })
        .collect();
    open.sort();
    open
}

/// Whether something keeps readers of committed records from the end.
fn has_any(partition: &Partition) -> bool {
    let reader = partition.reader();
    reader.last_stable_offset() < reader.high_watermark()
}

fn open_transaction(partition: &Partition, producer: ActiveProducer) -> Option<OpenTransaction> {
    Some(OpenTransaction {
        place: TopicPartition::new(&**partition.topic(), partition.index()),
        producer: Producer {
            id: producer.id,
            epoch: producer.epoch,
        },
        coordinator_epoch: producer.coordinator_epoch,
        start: producer.transaction_start?,
        last_seen_ms: producer.last_seen_ms,
    })
}
