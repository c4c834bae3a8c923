//! `InitProducerId`: gives a producer its id and epoch.
//!
//! Without a transactional id any producer gets a fresh id, whatever it had. With one, the producer
//! takes the id over, or goes on with what it has (KIP-360).

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use conveyor_transaction::{InitProducerId, Producer};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

/// The first version whose clients know that they are fenced.
const FENCED_SINCE: i16 = 4;

pub(super) async fn init_producer_id(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let outcome = initialise(service, call, &request).await;
    let outcome = outcome.map_err(|refusal| call.fenced_since(FENCED_SINCE, refusal));
    let error_code = call.outcome_code(&outcome);
    let producer = outcome.unwrap_or(Producer::new(-1, -1));
    InitProducerIdResponse {
        error_code,
        producer_id: producer.id.value(),
        producer_epoch: producer.epoch.value(),
        ..InitProducerIdResponse::default()
    }
}

async fn initialise(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &InitProducerIdRequest,
) -> Result<Producer, Refusal> {
    let expected = expected(request)?;
    let Some(transactional_id) = &request.transactional_id else {
        let node = &service.node;
        call.allow_idempotent_write(&node.metadata.image())?;
        let fresh = node.producer_ids.next(&node.metadata).await?;
        return Ok(Producer::new(fresh.value(), 0));
    };
    call.allow_transactional_id(Operation::Write, transactional_id)?;
    let request = InitProducerId {
        expected,
        ..InitProducerId::new(transactional_id.as_str(), request.transaction_timeout_ms)
    };
    service.transactions.init_producer_id(request).await
}

/// What the producer has: id and epoch, or neither.
fn expected(request: &InitProducerIdRequest) -> Result<Option<Producer>, Refusal> {
    let expected = Producer::new(request.producer_id, request.producer_epoch);
    match (expected.id.is_some(), expected.epoch.is_some()) {
        (true, true) => Ok(Some(expected)),
        (false, false) => Ok(None),
        _ => {
            let message = "producer id and producer epoch belong together";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}
