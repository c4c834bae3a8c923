//! `CreateTopics`: each topic is created or refused by itself; those that are can be written to at
//! once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use conveyor_controller::{CreatedTopic, NewTopic};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use conveyor_record::NodeId;
use uuid::Uuid;

use super::config_resource::source_number;
use super::{KafkaCall, KafkaService};
use crate::admin::{configs, topics, within};
use crate::node::{Node, Refusal};
use crate::request::{Operation, Resource};

/// Stands for the node's default.
const UNSET: i32 = -1;

pub(super) async fn create_topics(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let validate_only = request.validate_only;
    let asked = distinct(request.topics);
    let names: Vec<Text> = asked.iter().map(|(name, _)| name.clone()).collect();
    let mut results: Vec<Result<CreatedTopic, Refusal>> = Vec::with_capacity(asked.len());
    let mut wanted = Vec::new();
    for (_, topic) in asked {
        match topic {
            Ok(topic) => {
                wanted.push((results.len(), topic));
                // Until it is known.
                results.push(Err(Refusal::new(ErrorCode::UnknownServerError, "not done")));
            }
            Err(refusal) => results.push(Err(refusal)),
        }
    }
    let (places, topics): (Vec<usize>, Vec<NewTopic>) = wanted.into_iter().unzip();
    let create = topics::create_topics(service.node(), call, topics, validate_only);
    let outcome = within(request.timeout_ms, async { Ok(create.await) }).await;
    let outcome = outcome.unwrap_or_else(|refusal| vec![Err(refusal); places.len()]);
    for (place, result) in places.into_iter().zip(outcome) {
        results[place] = result;
    }
    let topics = names.into_iter().zip(results).map(|(name, result)| {
        let result = result.map(|topic| CreatedTopic {
            id: if validate_only { Uuid::nil() } else { topic.id },
            ..topic
        });
        answered(service.node(), call, &name, result)
    });
    CreateTopicsResponse {
        topics: topics.collect(),
        ..CreateTopicsResponse::default()
    }
}

/// Each name once; one that comes several times is refused.
fn distinct(topics: Vec<CreatableTopic>) -> Vec<(Text, Result<NewTopic, Refusal>)> {
    let mut places: HashMap<Text, usize> = HashMap::with_capacity(topics.len());
    let mut distinct: Vec<(Text, Result<NewTopic, Refusal>)> = Vec::with_capacity(topics.len());
    for topic in topics {
        let name = topic.name.clone();
        if let Some(place) = places.get(&name) {
            let message = format!("topic {name:?} comes more than once in the request");
            distinct[*place].1 = Err(Refusal::new(ErrorCode::InvalidRequest, message));
        } else {
            places.insert(name.clone(), distinct.len());
            distinct.push((name, new_topic(topic)));
        }
    }
    distinct
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, Refusal> {
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            let message = format!("setting {} has no value", config.name);
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(String::from(config.name), String::from(value));
    }
    let given = |number: i32| (number != UNSET).then_some(number);
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let nodes = assignment.broker_ids.into_iter().map(NodeId).collect();
        (assignment.partition_index, nodes)
    });
    Ok(NewTopic {
        name: String::from(topic.name),
        partitions: given(topic.num_partitions),
        replication_factor: given(i32::from(topic.replication_factor)),
        configs,
        assignments: assignments.collect(),
        internal: false,
    })
}

fn answered(
    node: &Node,
    call: &KafkaCall,
    name: &Text,
    result: Result<CreatedTopic, Refusal>,
) -> CreatableTopicResult {
    let refused = |code: i16| CreatableTopicResult {
        name: name.clone(),
        error_code: code,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    };
    match result {
        Err(refusal) => CreatableTopicResult {
            error_message: Some(refusal.message.into()),
            ..refused(call.code(refusal.code))
        },
        // Who may not see a topic's settings may still create it.
        Ok(topic) if !call.may(Operation::DescribeConfigs, Resource::Topic(name)) => {
            CreatableTopicResult {
                topic_id: topic.id,
                topic_config_error_code: ErrorCode::TopicAuthorizationFailed.code() as i16,
                ..refused(call.code(ErrorCode::None))
            }
        }
        Ok(topic) => CreatableTopicResult {
            topic_id: topic.id,
            num_partitions: topic.partitions as i32,
            replication_factor: topic.replication_factor as i16,
            configs: Some(settings(node, &topic.configs)),
            ..refused(call.code(ErrorCode::None))
        },
    }
}

fn settings(node: &Node, own: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let settings = configs::of_topic(&node.config, own).into_iter();
    let shown = settings.map(|setting| CreatableTopicConfigs {
        name: setting.name.into(),
        value: setting.value.map(Text::from),
        read_only: setting.read_only,
        config_source: source_number(setting.source),
        is_sensitive: false,
    });
    shown.collect()
}
