//! `WriteTxnMarkers`: writes the ends of transactions to partitions. A coordinator asks for it of
//! other brokers, and an administrator to end a transaction that hangs.

use std::sync::Arc;

use conveyor_kafka::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use conveyor_transaction::{Producer, TopicPartition};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::{Operation, Resource};
use crate::transaction::Marker;

pub(super) async fn write_txn_markers(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    // Who may alter the cluster may end what hangs.
    let allowed = if call.may(Operation::Alter, Resource::Cluster) {
        Ok(())
    } else {
        call.allow_cluster_action()
    };
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(service, call, marker, &allowed).await);
    }
    WriteTxnMarkersResponse { markers }
}

async fn write(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    wanted: WritableTxnMarker,
    allowed: &Result<(), Refusal>,
) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer: Producer::new(wanted.producer_id, wanted.producer_epoch),
        commit: wanted.transaction_result,
        coordinator_epoch: wanted.coordinator_epoch,
    };
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in wanted.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            let place = TopicPartition::new(topic.name.as_str(), partition_index);
            let outcome = match allowed {
                Ok(()) => service.transactions.write_marker(&place, marker).await,
                Err(refusal) => Err(refusal.clone()),
            };
            partitions.push(WritableTxnMarkerPartitionResult {
                partition_index,
                error_code: call.outcome_code(&outcome),
            });
        }
        topics.push(WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions,
        });
    }
    WritableTxnMarkerResult {
        producer_id: wanted.producer_id,
        topics,
    }
}
