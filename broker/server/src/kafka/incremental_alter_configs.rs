//! `IncrementalAlterConfigs`: sets, deletes, appends to and subtracts from settings; all changes of a
//! resource or none.

use std::sync::Arc;

use conveyor_controller::{ConfigAlteration, ConfigOperation};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::config_changes::{Wanted, change_each};
use super::{KafkaCall, KafkaService};
use crate::admin::configs::ConfigChange;
use crate::node::Refusal;

pub(super) async fn incremental_alter_configs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        change: alterations(&resource.configs),
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
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    }
}

fn alterations(configs: &[AlterableConfig]) -> Result<ConfigChange, Refusal> {
    let alterations = configs.iter().map(alteration);
    alterations
        .collect::<Result<_, _>>()
        .map(ConfigChange::Alter)
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
