//! `EndTxn`: commits or aborts a producer's transaction. Answered once that is decided and durable;
//! the markers follow. From version 5 on the answer tells who the producer is from now on (KIP-890).

use std::sync::Arc;

use conveyor_kafka::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use conveyor_transaction::{EndTxn, Producer, TransactionVersion};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

/// The first version whose clients know that they are fenced.
const FENCED_SINCE: i16 = 2;
/// The first version for producers whose epoch grows with every transaction.
const SECOND_PROTOCOL_SINCE: i16 = 5;

pub(super) async fn end_txn(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let outcome = end(service, call, &request).await;
    let outcome = outcome.map_err(|refusal| call.fenced_since(FENCED_SINCE, refusal));
    let error_code = call.outcome_code(&outcome);
    let told = match outcome {
        Ok(producer) if call.version >= SECOND_PROTOCOL_SINCE => producer,
        _ => Producer::new(-1, -1),
    };
    EndTxnResponse {
        error_code,
        producer_id: told.id.value(),
        producer_epoch: told.epoch.value(),
        ..EndTxnResponse::default()
    }
}

async fn end(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &EndTxnRequest,
) -> Result<Producer, Refusal> {
    call.allow_transactional_id(Operation::Write, &request.transactional_id)?;
    let end = EndTxn {
        transactional_id: request.transactional_id.as_str().to_owned(),
        producer: Producer::new(request.producer_id, request.producer_epoch),
        commit: request.committed,
        version: if call.version >= SECOND_PROTOCOL_SINCE {
            TransactionVersion::V2
        } else {
            TransactionVersion::V0
        },
    };
    service.transactions.end_txn(end).await
}
