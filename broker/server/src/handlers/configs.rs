//! `DescribeConfigs`, `IncrementalAlterConfigs`: every setting with its source, and changes of a
//! topic's. A node's settings come from its file, environment and flags and are not changed here.

use std::sync::Arc;

use conveyor_controller::{
    self as controller, ConfigAlteration, ConfigOperation, Setting, topic_settings,
};
use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{self, AlterOperation, ConfigEntry, ConfigResourceType, ConfigSource};

use super::item_error;
use crate::BrokerConfig;
use crate::config::ValueSource;
use crate::node::{Node, Refusal, authorize_topic};
use crate::request::{Call, Operation, Resource};

pub(super) fn describe_configs(
    node: &Node,
    call: &Call,
    request: &v1::DescribeConfigsRequest,
) -> v1::DescribeConfigsResponse {
    let described = match ConfigResourceType::try_from(request.resource_type) {
        Ok(ConfigResourceType::Topic) => topic_entries(node, call, &request.resource_name),
        Ok(ConfigResourceType::Broker) => node_entries(node, call, &request.resource_name),
        Ok(ConfigResourceType::Unspecified) | Err(_) => {
            Err(unknown_resource(request.resource_type))
        }
    };
    let wanted = |entry: &ConfigEntry| {
        request.config_names.is_empty() || request.config_names.contains(&entry.name)
    };
    match described {
        Ok(mut entries) => {
            call.outcome(ErrorCode::None);
            entries.retain(wanted);
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

fn topic_entries(node: &Node, call: &Call, name: &str) -> Result<Vec<ConfigEntry>, Refusal> {
    authorize_topic(call, Operation::DescribeConfigs, name)?;
    let image = node.metadata.image();
    let topic = image.topic(name).ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {name:?} does not exist"),
        )
    })?;
    let entry = |setting: &Setting| {
        let own = topic.configs.get(setting.name).map(String::as_str);
        let of_node = || {
            node.config
                .topic_config_defaults()
                .get(setting.name)
                .map(String::as_str)
        };
        let (value, source) = match own {
            Some(value) => (value, ConfigSource::Topic),
            None => match of_node() {
                Some(value) => (value, ConfigSource::StaticBroker),
                None => (setting.default, ConfigSource::Default),
            },
        };
        config_entry(setting, value, source, false)
    };
    Ok(topic_settings().iter().map(entry).collect())
}

fn node_entries(node: &Node, call: &Call, name: &str) -> Result<Vec<ConfigEntry>, Refusal> {
    if !call.may(Operation::DescribeConfigs, Resource::Cluster) {
        let message = format!("{} may not see the settings of nodes", call.principal());
        return Err(Refusal::new(ErrorCode::ClusterAuthorizationFailed, message));
    }
    if !name.is_empty() && name != node.node_id.to_string() {
        let message = format!("node {name:?} is not this one ({})", node.node_id);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let entry = |setting: &Setting| {
        let set = node.config.value(setting.name);
        let value = set.map_or(setting.default, |set| &set.value);
        let source = match set.map(|set| set.source) {
            None | Some(ValueSource::Default) => ConfigSource::Default,
            Some(_) => ConfigSource::StaticBroker,
        };
        config_entry(setting, value, source, true)
    };
    Ok(BrokerConfig::documented().iter().map(entry).collect())
}

fn config_entry(
    setting: &Setting,
    value: &str,
    source: ConfigSource,
    read_only: bool,
) -> ConfigEntry {
    ConfigEntry {
        name: setting.name.to_owned(),
        value: value.to_owned(),
        source: source.into(),
        read_only,
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
    match ConfigResourceType::try_from(request.resource_type) {
        Ok(ConfigResourceType::Topic) => {}
        Ok(ConfigResourceType::Broker) => {
            let message = "settings of a node come from its file, environment and flags: change them \
                           there and restart it";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Ok(ConfigResourceType::Unspecified) | Err(_) => {
            return Err(unknown_resource(request.resource_type));
        }
    }
    let topic = request.resource_name;
    authorize_topic(call, Operation::AlterConfigs, &topic)?;
    let alterations: Vec<ConfigAlteration> = request
        .alterations
        .into_iter()
        .map(alteration)
        .collect::<Result<_, _>>()?;
    let defaults = node.config.topic_defaults();
    let validate_only = request.validate_only;
    node.metadata
        .change(move |image| {
            match controller::alter_topic_configs(image, &topic, &alterations, &defaults) {
                Ok(_) if validate_only => (Vec::new(), Ok(())),
                Ok(altered) => (altered.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            }
        })
        .await?
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
