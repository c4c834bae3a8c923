//! `FindCoordinator`: which broker coordinates a group or a transactional id. A single node does.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::{Operation, Resource};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version that asks about several keys at once.
const BATCHED_SINCE: i16 = 4;

pub(super) async fn find_coordinator(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if call.version >= BATCHED_SINCE {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(coordinator(service, call, request.key_type, key).await);
        }
        return FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
    }
    let only = coordinator(service, call, request.key_type, request.key).await;
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    }
}

async fn coordinator(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    key_type: i8,
    key: Text,
) -> Coordinator {
    match find(service, call, key_type, &key).await {
        Ok(()) => {
            let (host, port) = call.endpoint();
            Coordinator {
                key,
                node_id: service.node.node_id.value(),
                host: host.into(),
                port: i32::from(port),
                error_code: call.code(ErrorCode::None),
                error_message: None,
            }
        }
        Err(refusal) => Coordinator {
            key,
            node_id: -1,
            host: Text::default(),
            port: -1,
            error_code: call.refused(&refusal),
            error_message: Some(refusal.message.into()),
        },
    }
}

/// Whether this node coordinates the key. Creates the topic behind its groups when it has to be.
async fn find(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    key_type: i8,
    key: &str,
) -> Result<(), Refusal> {
    match key_type {
        GROUP => {
            call.allow_group(Operation::Describe, key)?;
            service.groups.prepare().await
        }
        TRANSACTION => {
            if call.may(Operation::Describe, Resource::TransactionalId(key)) {
                return Ok(());
            }
            let message = format!("{} may not see {key}", call.principal());
            Err(Refusal::new(
                ErrorCode::TransactionalIdAuthorizationFailed,
                message,
            ))
        }
        other => {
            let message = format!("there are no coordinators of kind {other}");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}
