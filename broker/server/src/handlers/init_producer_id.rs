//! `InitProducerId`: an id for an idempotent producer, or a higher epoch for the one it has; for a
//! transactional producer what the coordinator of its id decides.

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{InitProducerIdRequest, InitProducerIdResponse};
use conveyor_transaction::{InitProducerId, Producer};

use super::{Services, no_error};
use crate::node::Refusal;
use crate::request::{Call, Operation};
use crate::transaction::authorize_transactional_id;

pub(super) async fn init_producer_id(
    services: &Services,
    call: &Call,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    match assign(services, call, request).await {
        Ok((producer_id, producer_epoch)) => {
            call.outcome(ErrorCode::None);
            InitProducerIdResponse {
                error_code: no_error(),
                error_message: String::new(),
                producer_id,
                producer_epoch,
            }
        }
        Err(refusal) => {
            call.outcome(refusal.code);
            InitProducerIdResponse {
                error_code: refusal.code.code(),
                error_message: refusal.message,
                producer_id: -1,
                producer_epoch: -1,
            }
        }
    }
}

async fn assign(
    services: &Services,
    call: &Call,
    request: &InitProducerIdRequest,
) -> Result<(i64, i32), Refusal> {
    if !request.transactional_id.is_empty() {
        let producer = initialise(services, call, request).await?;
        return Ok((producer.id.value(), i32::from(producer.epoch.value())));
    }
    let node = &services.node;
    let (id, epoch) = (request.producer_id, request.producer_epoch);
    if !has_producer(request) {
        let id = node.producer_ids.next(&node.metadata).await?;
        return Ok((id.value(), 0));
    }
    if id >= node.metadata.image().next_producer_id() {
        let message = format!("producer id {id} was never given out");
        return Err(Refusal::new(ErrorCode::UnknownProducerId, message));
    }
    match i16::try_from(epoch) {
        // The last epoch stays free, as in Kafka, so that fencing can always go one higher.
        Ok(epoch) if (0..i16::MAX - 1).contains(&epoch) => Ok((id, i32::from(epoch) + 1)),
        Ok(epoch) if epoch >= 0 => {
            let id = node.producer_ids.next(&node.metadata).await?;
            Ok((id.value(), 0))
        }
        _ => {
            let message = format!("producer epoch {epoch} is not possible");
            Err(Refusal::new(ErrorCode::InvalidProducerEpoch, message))
        }
    }
}

/// A transactional producer takes its id over, or goes on with what it has (KIP-360).
async fn initialise(
    services: &Services,
    call: &Call,
    request: &InitProducerIdRequest,
) -> Result<Producer, Refusal> {
    let id = request.transactional_id.as_str();
    authorize_transactional_id(call, Operation::Write, id)?;
    let expected = has_producer(request).then(|| {
        let epoch = i16::try_from(request.producer_epoch).unwrap_or(-1);
        Producer::new(request.producer_id, epoch)
    });
    let request = InitProducerId {
        expected,
        ..InitProducerId::new(id, request.transaction_timeout_ms)
    };
    services.transactions.init_producer_id(request).await
}

/// Whether the producer names what it has. Proto3 cannot tell "not set" from 0, and id 0 with epoch 0
/// is a fresh id's first epoch: a producer that asks for more sends its own, real epoch along.
fn has_producer(request: &InitProducerIdRequest) -> bool {
    let (id, epoch) = (request.producer_id, request.producer_epoch);
    id > 0 || (id == 0 && epoch > 0)
}
