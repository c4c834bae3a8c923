//! `DescribeClientQuotas`: the limits of users and client ids that a filter takes.

use std::sync::Arc;

use conveyor_controller::{QuotaEntity, QuotaFilter, QuotaMatch, QuotaName};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData,
    EntryData, ValueData,
};

use super::{KafkaCall, KafkaService};
use crate::admin::quotas;
use crate::node::{Node, Refusal};

/// Kafka's names of what a quota may belong to.
pub(super) const USER: &str = "user";
pub(super) const CLIENT_ID: &str = "client-id";
pub(super) const IP: &str = "ip";

pub(super) async fn describe_client_quotas(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    match entries(service.node(), call, request) {
        Ok(entries) => DescribeClientQuotasResponse {
            error_code: call.code(ErrorCode::None),
            entries: Some(entries),
            ..DescribeClientQuotasResponse::default()
        },
        Err(refusal) => DescribeClientQuotasResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    }
}

fn entries(
    node: &Node,
    call: &KafkaCall,
    request: DescribeClientQuotasRequest,
) -> Result<Vec<EntryData>, Refusal> {
    let all = quotas::describe(node, call)?;
    let Some(filter) = filter(request)? else {
        return Ok(Vec::new());
    };
    let taken = all.iter().filter(|(entity, _)| filter.takes(entity));
    let entries = taken.map(|(entity, limits)| EntryData {
        entity: entity_data(entity),
        values: limits
            .iter()
            .map(|(key, rate)| ValueData {
                key: key.as_str().into(),
                value: rate.value(),
            })
            .collect(),
    });
    Ok(entries.collect())
}

/// The filter that is asked for; `None` if it takes nothing that is kept here.
fn filter(request: DescribeClientQuotasRequest) -> Result<Option<QuotaFilter>, Refusal> {
    let mut filter = QuotaFilter {
        strict: request.strict,
        ..QuotaFilter::default()
    };
    let mut by_address = false;
    for component in request.components {
        let invalid = |what: &str| {
            let message = format!("filter for entity type {:?}: {what}", component.entity_type);
            Refusal::new(ErrorCode::InvalidRequest, message)
        };
        let place = match component.entity_type.as_str() {
            USER => &mut filter.user,
            CLIENT_ID => &mut filter.client_id,
            IP if !by_address => {
                by_address = true;
                continue;
            }
            IP => return Err(invalid("it comes more than once")),
            "" => return Err(invalid("it is empty")),
            _ => {
                let message = format!("entity type {:?} is not known", component.entity_type);
                return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
            }
        };
        let wanted = name_match(&component).ok_or_else(|| invalid("its match is not one"))?;
        if place.replace(wanted).is_some() {
            return Err(invalid("it comes more than once"));
        }
    }
    if by_address && (filter.user.is_some() || filter.client_id.is_some()) {
        let message = "an address cannot be combined with a user or client id";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok((!by_address).then_some(filter))
}

fn name_match(component: &ComponentData) -> Option<QuotaMatch> {
    Some(match (component.match_type, &component.r#match) {
        (0, Some(name)) => QuotaMatch::Exact(name.to_string()),
        (1, None) => QuotaMatch::Default,
        (2, None) => QuotaMatch::Any,
        _ => return None,
    })
}

fn entity_data(entity: &QuotaEntity) -> Vec<EntityData> {
    let part = |entity_type: &str, name: &Option<QuotaName>| {
        name.as_ref().map(|name| EntityData {
            entity_type: entity_type.into(),
            entity_name: name.as_option().map(Text::from),
        })
    };
    let parts = [part(USER, &entity.user), part(CLIENT_ID, &entity.client_id)];
    parts.into_iter().flatten().collect()
}
