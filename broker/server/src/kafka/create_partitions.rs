//! `CreatePartitions`: more partitions for a topic, on nodes of the broker's or the client's choice.

use std::collections::HashMap;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use conveyor_record::NodeId;

use super::{KafkaCall, KafkaService};
use crate::admin::topics::{Growth, add_partitions};
use crate::admin::within;
use crate::node::Refusal;

pub(super) async fn create_partitions(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut counts: HashMap<Text, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let grown = if counts[&name] > 1 {
            let message = format!("topic {name:?} comes more than once in the request");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            let growth = growth(topic, request.validate_only);
            within(
                request.timeout_ms,
                add_partitions(service.node(), call, growth),
            )
            .await
        };
        results.push(answered(call, name, grown));
    }
    CreatePartitionsResponse {
        results,
        ..CreatePartitionsResponse::default()
    }
}

fn growth(topic: CreatePartitionsTopic, validate_only: bool) -> Growth {
    let nodes = |assignment: CreatePartitionsAssignment| {
        assignment.broker_ids.into_iter().map(NodeId).collect()
    };
    Growth {
        topic: String::from(topic.name),
        total_count: topic.count,
        assignments: topic
            .assignments
            .map(|chosen| chosen.into_iter().map(nodes).collect()),
        validate_only,
    }
}

fn answered(
    call: &KafkaCall,
    name: Text,
    grown: Result<(), Refusal>,
) -> CreatePartitionsTopicResult {
    let (code, error_message) = match grown {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal.code, Some(refusal.message.into())),
    };
    CreatePartitionsTopicResult {
        name,
        error_code: call.code(code),
        error_message,
    }
}
