//! `DescribeConfigs`: every setting of a topic, of this node or of a group, with its source, type,
//! documentation and every place that gives it a value.

use std::sync::Arc;

use conveyor_controller::validate_topic_name;
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::config_resource::{ResourceType, source_number, type_number};
use super::distinct::distinct_by;
use super::{KafkaCall, KafkaService};
use crate::admin::configs::{self, DescribedSetting};
use crate::node::{Node, Refusal};

/// Most resources that one response describes: each may have dozens of settings.
const RESOURCES_MAX: usize = 10_000;

/// What is told besides the values.
#[derive(Debug, Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub(super) async fn describe_configs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let resources = distinct_by(request.resources, |resource| {
        let keys = resource.configuration_keys.clone();
        (resource.resource_type, resource.resource_name.clone(), keys)
    });
    let results = resources.into_iter().enumerate().map(|(index, resource)| {
        if index < RESOURCES_MAX {
            return describe(service.node(), call, resource, detail);
        }
        let message = format!("at most {RESOURCES_MAX} resources are described at a time");
        refused(
            call,
            resource,
            Refusal::new(ErrorCode::PolicyViolation, message),
        )
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..DescribeConfigsResponse::default()
    }
}

fn describe(
    node: &Node,
    call: &KafkaCall,
    resource: DescribeConfigsResource,
    detail: Detail,
) -> DescribeConfigsResult {
    let found = settings(node, call, resource.resource_type, &resource.resource_name);
    let settings = match found {
        Ok(settings) => settings,
        Err(refusal) => return refused(call, resource, refusal),
    };
    let keys = resource.configuration_keys.unwrap_or_default();
    let wanted =
        |setting: &DescribedSetting| keys.is_empty() || keys.iter().any(|key| key == setting.name);
    DescribeConfigsResult {
        error_code: call.code(ErrorCode::None),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: settings
            .into_iter()
            .filter(wanted)
            .map(|setting| shown(setting, detail))
            .collect(),
        ..DescribeConfigsResult::default()
    }
}

fn refused(
    call: &KafkaCall,
    resource: DescribeConfigsResource,
    refusal: Refusal,
) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: call.code(refusal.code),
        error_message: Some(refusal.message.into()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..DescribeConfigsResult::default()
    }
}

fn settings(
    node: &Node,
    call: &KafkaCall,
    resource_type: i8,
    name: &str,
) -> Result<Vec<DescribedSetting>, Refusal> {
    let refused = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match ResourceType::from_number(resource_type) {
        Some(ResourceType::Topic) => {
            validate_topic_name(name)
                .map_err(|invalid| Refusal::new(ErrorCode::InvalidTopic, invalid.to_string()))?;
            configs::topic(node, call, name)
        }
        Some(ResourceType::Broker) => configs::broker(node, call, name),
        Some(ResourceType::Group) => configs::group(node, call, name),
        // No subscription has been set, and clients send no telemetry here.
        Some(ResourceType::ClientMetrics) => Ok(Vec::new()),
        Some(ResourceType::BrokerLogger) => {
            refused("log levels are chosen at start (--log), there is none to show")
        }
        None => refused("this type of resource has no settings"),
    }
}

fn shown(setting: DescribedSetting, detail: Detail) -> DescribeConfigsResourceResult {
    let synonyms = if detail.synonyms {
        setting.synonyms
    } else {
        Vec::new()
    };
    let synonyms = synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: Some(synonym.value.into()),
        source: source_number(synonym.source),
    });
    DescribeConfigsResourceResult {
        name: setting.name.into(),
        value: setting.value.map(Text::from),
        read_only: setting.read_only,
        config_source: source_number(setting.source),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: type_number(setting.value_type),
        documentation: detail.documentation.then(|| setting.documentation.into()),
    }
}
