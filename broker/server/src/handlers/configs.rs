//! `DescribeConfigs`, `IncrementalAlterConfigs`: every setting with its source, and changes of a
//! topic's. A node's settings come from its file, environment and flags and are not changed here.

use std::sync::Arc;

use conveyor_controller::{ConfigAlteration, ConfigOperation};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, AlterOperation, ConfigEntry, ConfigResourceType, ConfigSource};

use super::item_error;
use crate::admin::configs::{self, ConfigChange, DescribedSetting, SettingSource};
use crate::node::{Node, Refusal};
use crate::request::Call;

pub(super) fn describe_configs(
    node: &Node,
    call: &Call,
    request: &v1::DescribeConfigsRequest,
) -> v1::DescribeConfigsResponse {
    let described = match ConfigResourceType::try_from(request.resource_type) {
        Ok(ConfigResourceType::Topic) => configs::topic(node, call, &request.resource_name),
        Ok(ConfigResourceType::Broker) => {
            // This protocol has no settings that are common to all nodes: no name is this one's.
            let this = node.node_id.to_string();
            let name = match request.resource_name.as_str() {
                "" => &this,
                name => name,
            };
            configs::broker(node, call, name)
        }
        Ok(ConfigResourceType::Unspecified) | Err(_) => {
            Err(unknown_resource(request.resource_type))
        }
    };
    let wanted = |entry: &ConfigEntry| {
        request.config_names.is_empty() || request.config_names.contains(&entry.name)
    };
    match described {
        Ok(settings) => {
            call.outcome(ErrorCode::None);
            let entries = settings.into_iter().map(config_entry);
            let entries = entries.filter(wanted).collect();
            v1::DescribeConfigsResponse {
                error: None,
                entries,
            }
        }
        Err(refusal) => {
            call.outcome(refusal.code);
            v1::DescribeConfigsResponse {
                error: Some(item_error(&refusal)),
                entries: Vec::new(),
            }
        }
    }
}

fn unknown_resource(number: i32) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("resource type {number} is not known"),
    )
}

fn config_entry(setting: DescribedSetting) -> ConfigEntry {
    let source = match setting.source {
        SettingSource::DynamicTopic => ConfigSource::Topic,
        SettingSource::StaticBroker => ConfigSource::StaticBroker,
        SettingSource::Default => ConfigSource::Default,
    };
    ConfigEntry {
        name: setting.name.to_owned(),
        value: setting.value.unwrap_or_default(),
        source: source.into(),
        read_only: setting.read_only,
        sensitive: false,
        documentation: setting.documentation.to_owned(),
    }
}

pub(super) async fn incremental_alter_configs(
    node: &Arc<Node>,
    call: &Call,
    request: v1::IncrementalAlterConfigsRequest,
) -> v1::IncrementalAlterConfigsResponse {
    let refusal = alter(node, call, request).await.err();
    call.outcome(
        refusal
            .as_ref()
            .map_or(ErrorCode::None, |refusal| refusal.code),
    );
    v1::IncrementalAlterConfigsResponse {
        error: refusal.as_ref().map(item_error),
    }
}

async fn alter(
    node: &Node,
    call: &Call,
    request: v1::IncrementalAlterConfigsRequest,
) -> Result<(), Refusal> {
    let alterations: Vec<ConfigAlteration> = request
        .alterations
        .into_iter()
        .map(alteration)
        .collect::<Result<_, _>>()?;
    let (name, change) = (request.resource_name, ConfigChange::Alter(alterations));
    match ConfigResourceType::try_from(request.resource_type) {
        Ok(ConfigResourceType::Topic) => {
            configs::change_topic(node, call, name, change, request.validate_only).await
        }
        Ok(ConfigResourceType::Broker) => configs::change_broker(node, call, &name, &change),
        Ok(ConfigResourceType::Unspecified) | Err(_) => {
            Err(unknown_resource(request.resource_type))
        }
    }
}

fn alteration(message: v1::ConfigAlteration) -> Result<ConfigAlteration, Refusal> {
    let operation = match AlterOperation::try_from(message.operation) {
        Ok(AlterOperation::Set) => ConfigOperation::Set(message.value),
        Ok(AlterOperation::Delete) => ConfigOperation::Delete,
        Ok(AlterOperation::Append) => ConfigOperation::Append(message.value),
        Ok(AlterOperation::Subtract) => ConfigOperation::Subtract(message.value),
        Ok(AlterOperation::Unspecified) | Err(_) => {
            let text = format!(
                "setting {}: operation {} is not known",
                message.name, message.operation
            );
            return Err(Refusal::new(ErrorCode::InvalidRequest, text));
        }
    };
    Ok(ConfigAlteration {
        name: message.name,
        operation,
    })
}
