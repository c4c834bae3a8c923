//! `AlterConfigs`: replaces the settings of a resource by those given; the older way, before
//! `IncrementalAlterConfigs`.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::config_changes::{Resources, change};
use super::{KafkaCall, KafkaService};
use crate::admin::configs::ConfigChange;
use crate::node::{Node, Refusal};

pub(super) async fn alter_configs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let all = request.resources.iter();
    let resources = Resources::count(all.map(|r| (r.resource_type, &r.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (resource_type, name) = (resource.resource_type, resource.resource_name.clone());
        let altered = match resources.check_distinct(resource_type, &name) {
            Ok(()) => replace(service.node(), call, resource, request.validate_only).await,
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
    AlterConfigsResponse {
        responses,
        ..AlterConfigsResponse::default()
    }
}

async fn replace(
    node: &Node,
    call: &KafkaCall,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let mut configs = Vec::with_capacity(resource.configs.len());
    for config in resource.configs {
        let Some(value) = config.value else {
            let message = format!("setting {} has no value", config.name);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        };
        configs.push((config.name.to_string(), value.to_string()));
    }
    let place = (resource.resource_type, &resource.resource_name);
    let wanted = ConfigChange::Replace(configs);
    change(node, call, place, wanted, validate_only).await
}
