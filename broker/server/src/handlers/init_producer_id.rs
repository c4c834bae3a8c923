//! `InitProducerId`: an id for an idempotent producer, or a higher epoch for the one it has.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{InitProducerIdRequest, InitProducerIdResponse};

use super::no_error;
use crate::node::{Node, Refusal};
use crate::request::Call;

pub(super) async fn init_producer_id(
    node: &Arc<Node>,
    call: &Call,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    match assign(node, request).await {
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

async fn assign(node: &Node, request: &InitProducerIdRequest) -> Result<(i64, i32), Refusal> {
    if !request.transactional_id.is_empty() {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "transactions are not served yet: leave transactional_id empty",
        ));
    }
    let (id, epoch) = (request.producer_id, request.producer_epoch);
    // Proto3 cannot tell "not set" from 0, and id 0 with epoch 0 is a fresh id's first epoch: a
    // producer that asks for more always sends its own, real epoch along with its id.
    let has_id = id > 0 || (id == 0 && epoch > 0);
    if !has_id {
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
