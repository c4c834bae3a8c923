//! `AlterClientQuotas`: limits of users and client ids, in force once this is answered.

use std::sync::Arc;

use conveyor_controller::{QuotaEntity, QuotaName};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, EntryDataResult,
};

use super::describe_client_quotas::{CLIENT_ID, IP, USER};
use super::{KafkaCall, KafkaService};
use crate::admin::quotas;
use crate::node::{Node, Refusal};

pub(super) async fn alter_client_quotas(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let altered = alter(service.node(), call, &entry, request.validate_only).await;
        let refusal = altered.err();
        let code = refusal.as_ref().map_or(ErrorCode::None, |it| it.code);
        entries.push(EntryDataResult {
            error_code: call.code(code),
            error_message: refusal.map(|refusal| refusal.message.into()),
            entity: entry.entity,
        });
    }
    AlterClientQuotasResponse {
        entries,
        ..AlterClientQuotasResponse::default()
    }
}

async fn alter(
    node: &Node,
    call: &KafkaCall,
    entry: &EntryData,
    validate_only: bool,
) -> Result<(), Refusal> {
    let entity = entity(&entry.entity)?;
    let changes = entry.ops.iter().map(|op| {
        let rate = (!op.remove).then_some(op.value);
        (op.key.to_string(), rate)
    });
    let changes: Vec<(String, Option<f64>)> = changes.collect();
    quotas::alter(node, call, entity, changes, validate_only).await
}

fn entity(parts: &[EntityData]) -> Result<QuotaEntity, Refusal> {
    let mut entity = QuotaEntity::default();
    for part in parts {
        let invalid = |what: &str| {
            let message = format!("entity type {:?}: {what}", part.entity_type);
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        };
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => return invalid("limits of addresses are not kept here"),
            _ => return invalid("it is not known"),
        };
        let name = match &part.entity_name {
            None => QuotaName::Default,
            Some(name) if name.is_empty() => return invalid("the name is empty"),
            Some(name) => QuotaName::Named(name.to_string()),
        };
        if place.replace(name).is_some() {
            return invalid("it comes more than once");
        }
    }
    Ok(entity)
}
