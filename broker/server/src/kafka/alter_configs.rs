//! `AlterConfigs`: replaces the settings of a resource by those given; the older way, before
//! `IncrementalAlterConfigs`.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, AlterableConfig,
};

use super::config_changes::{Wanted, change_each};
use super::{KafkaCall, KafkaService};
use crate::admin::configs::ConfigChange;
use crate::node::Refusal;

pub(super) async fn alter_configs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        change: replacement(&resource.configs),
        resource_type: resource.resource_type,
        name: resource.resource_name,
    });
    let wanted = wanted.collect();
    let outcomes = change_each(service.node(), call, wanted, request.validate_only).await;
    let responses = outcomes
        .into_iter()
        .map(|outcome| AlterConfigsResourceResponse {
            error_code: outcome.error_code,
            error_message: outcome.error_message,
            resource_type: outcome.resource_type,
            resource_name: outcome.name,
        });
    AlterConfigsResponse {
        responses: responses.collect(),
        ..AlterConfigsResponse::default()
    }
}

fn replacement(configs: &[AlterableConfig]) -> Result<ConfigChange, Refusal> {
    let pairs = configs.iter().map(|config| {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!("setting {} has no value", config.name);
            Refusal::new(ErrorCode::InvalidRequest, message)
        })?;
        Ok((config.name.to_string(), value.to_string()))
    });
    pairs.collect::<Result<_, _>>().map(ConfigChange::Replace)
}
