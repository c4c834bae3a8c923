//! `AddOffsetsToTxn`: the offsets of a group join a producer's transaction. Only clients of the first
//! protocol version ask for it; those of the second commit offsets at once.

use std::sync::Arc;

use conveyor_kafka::messages::add_offsets_to_txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse,
};
use conveyor_transaction::{Producer, TransactionVersion};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

/// The first version whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;

pub(super) async fn add_offsets_to_txn(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let outcome = add(service, call, &request).await;
    let outcome = outcome.map_err(|refusal| call.fenced_since(FENCED_SINCE, refusal));
    AddOffsetsToTxnResponse {
        error_code: call.outcome_code(&outcome),
        ..AddOffsetsToTxnResponse::default()
    }
}

async fn add(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &AddOffsetsToTxnRequest,
) -> Result<(), Refusal> {
    let id = request.transactional_id.as_str();
    call.allow_transactional_id(Operation::Write, id)?;
    call.allow_group(Operation::Read, &request.group_id)?;
    let place = service.transactions.offsets_of(&request.group_id).await?;
    let producer = Producer::new(request.producer_id, request.producer_epoch);
    service
        .transactions
        .add_partitions(id, producer, vec![place], TransactionVersion::V0)
        .await
}
