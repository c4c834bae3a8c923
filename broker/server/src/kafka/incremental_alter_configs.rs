//! `IncrementalAlterConfigs`: sets, deletes, appends to and subtracts from settings; all changes of a
//! resource or none.

use std::sync::Arc;

use conveyor_controller::{ConfigAlteration, ConfigOperation};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::config_changes::{Resources, change};
use super::{KafkaCall, KafkaService};
use crate::admin::configs::ConfigChange;
use crate::node::{Node, Refusal};

pub(super) async fn incremental_alter_configs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let all = request.resources.iter();
    let resources = Resources::count(all.map(|r| (r.resource_type, &r.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (resource_type, name) = (resource.resource_type, resource.resource_name.clone());
        let altered = match resources.check_distinct(resource_type, &name) {
            Ok(()) => alter(service.node(), call, resource, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        let refusal = altered.err();
        let code = refusal.as_ref().map_or(ErrorCode::None, |it| it.code);
        responses.push(AlterConfigsResourceResponse {
            error_code: call.code(code),
            error_message: refusal.map(|refusal| refusal.message.into()),
            resource_type,
            resource_name: name,
        });
    }
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

async fn alter(
    node: &Node,
    call: &KafkaCall,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let alterations: Result<Vec<_>, _> = resource.configs.iter().map(alteration).collect();
    let place = (resource.resource_type, &resource.resource_name);
    let wanted = ConfigChange::Alter(alterations?);
    change(node, call, place, wanted, validate_only).await
}

fn alteration(config: &AlterableConfig) -> Result<ConfigAlteration, Refusal> {
    let invalid = |what: &str| {
        let message = format!("setting {}: {what}", config.name);
        Refusal::new(ErrorCode::InvalidRequest, message)
    };
    let value = || {
        let value = config.value.as_ref();
        value
            .map(ToString::to_string)
            .ok_or_else(|| invalid("it has no value"))
    };
    let operation = match config.config_operation {
        0 => ConfigOperation::Set(value()?),
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append(value()?),
        3 => ConfigOperation::Subtract(value()?),
        other => return Err(invalid(&format!("operation {other} is not known"))),
    };
    Ok(ConfigAlteration {
        name: config.name.to_string(),
        operation,
    })
}
