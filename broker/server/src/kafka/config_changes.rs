//! What `AlterConfigs` and `IncrementalAlterConfigs` have in common: each resource once, topics are
//! changed, the others refused as Kafka refuses what is read-only.

use std::collections::HashMap;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;

use super::KafkaCall;
use super::config_resource::ResourceType;
use crate::admin::configs::{ConfigChange, change_broker, change_topic};
use crate::node::{Node, Refusal};

/// How often each resource comes in a request.
#[derive(Debug, Default)]
struct Resources(HashMap<(i8, Text), usize>);

impl Resources {
    fn count<'a>(resources: impl Iterator<Item = (i8, &'a Text)>) -> Self {
        let mut counts = HashMap::new();
        for (resource_type, name) in resources {
            *counts.entry((resource_type, name.clone())).or_default() += 1;
        }
        Self(counts)
    }

    /// Refuses a resource that comes several times.
    fn check_distinct(&self, resource_type: i8, name: &Text) -> Result<(), Refusal> {
        match self.0.get(&(resource_type, name.clone())) {
            Some(2..) => {
                let message = format!("{name:?} comes more than once in the request");
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
            _ => Ok(()),
        }
    }
}

/// What a request asks of one resource.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) resource_type: i8,
    pub(super) name: Text,
    /// The change, or why the request makes none.
    pub(super) change: Result<ConfigChange, Refusal>,
}

/// What became of one resource, as either response tells it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) error_code: i16,
    pub(super) error_message: Option<Text>,
    pub(super) resource_type: i8,
    pub(super) name: Text,
}

/// Changes each resource by itself; outcomes in order of the request.
pub(super) async fn change_each(
    node: &Node,
    call: &KafkaCall,
    wanted: Vec<Wanted>,
    validate_only: bool,
) -> Vec<Outcome> {
    let resources = Resources::count(wanted.iter().map(|one| (one.resource_type, &one.name)));
    let mut outcomes = Vec::with_capacity(wanted.len());
    for Wanted {
        resource_type,
        name,
        change: wanted,
    } in wanted
    {
        let wanted = resources.check_distinct(resource_type, &name).and(wanted);
        let refusal = match wanted {
            Ok(wanted) => change(node, call, (resource_type, &name), wanted, validate_only)
                .await
                .err(),
            Err(refusal) => Some(refusal),
        };
        let code = refusal.as_ref().map_or(ErrorCode::None, |it| it.code);
        outcomes.push(Outcome {
            error_code: call.code(code),
            error_message: refusal.map(|refusal| refusal.message.into()),
            resource_type,
            name,
        });
    }
    outcomes
}

/// Changes the settings of a resource, if it has any that can be changed.
async fn change(
    node: &Node,
    call: &KafkaCall,
    (resource_type, name): (i8, &Text),
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    let refused = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match ResourceType::from_number(resource_type) {
        Some(ResourceType::Topic) => {
            change_topic(node, call, name.to_string(), change, validate_only).await
        }
        Some(ResourceType::Broker) => change_broker(node, call, name, &change),
        Some(ResourceType::Group) => {
            refused("settings of a group follow from the node's group.consumer settings")
        }
        Some(ResourceType::ClientMetrics) => {
            refused("clients send no telemetry here: there is nothing to subscribe to")
        }
        Some(ResourceType::BrokerLogger) => refused("log levels are chosen at start (--log)"),
        None => refused("this type of resource has no settings"),
    }
}
