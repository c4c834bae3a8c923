//! Creates, grows and deletes topics.

use std::sync::Arc;

use conveyor_controller::{
    self as controller, CreatedTopic, MetadataImage, NewTopic, is_internal_topic,
};
use conveyor_grpc::ErrorCode;
use conveyor_record::{NodeId, Offset};
use uuid::Uuid;

use crate::node::{Node, Refusal, authorize_topic};
use crate::request::{Call, Operation};

/// Creates topics, each or none of its own; the results are in the order of the topics. When this
/// returns the partitions have their leaders and can be written to.
pub(crate) async fn create_topics(
    node: &Arc<Node>,
    call: &Call,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Vec<Result<CreatedTopic, Refusal>> {
    let count = topics.len();
    let wanted: Vec<(NewTopic, Result<(), Refusal>)> = topics
        .into_iter()
        .map(|topic| {
            let allowed = authorize_topic(call, Operation::Create, &topic.name);
            (topic, allowed)
        })
        .collect();
    let defaults = node.config.topic_defaults();
    let outcome = node
        .metadata
        .change(move |image| {
            let mut working = image.clone();
            let mut records = Vec::new();
            let results: Vec<Result<CreatedTopic, Refusal>> = wanted
                .into_iter()
                .map(|(topic, allowed)| {
                    allowed?;
                    let made =
                        controller::create_topic(&working, &topic, Uuid::new_v4(), &defaults)?;
                    working.replay_all(&made.records);
                    records.extend(made.records);
                    Ok(made.response)
                })
                .collect();
            (if validate_only { Vec::new() } else { records }, results)
        })
        .await;
    outcome.unwrap_or_else(|error| vec![Err(Refusal::from(error)); count])
}

/// Creates a topic that a client asked about, with the node's defaults.
pub(crate) async fn auto_create(node: &Arc<Node>, name: &str) -> Result<(), Refusal> {
    ensure_topic(
        node,
        NewTopic {
            name: name.to_owned(),
            ..NewTopic::default()
        },
    )
    .await
}

/// Creates a topic for the broker itself or on a client's behalf; an error if it is there.
pub(crate) async fn ensure_topic(node: &Arc<Node>, topic: NewTopic) -> Result<(), Refusal> {
    let defaults = node.config.topic_defaults();
    node.metadata
        .change(move |image| {
            match controller::create_topic(image, &topic, Uuid::new_v4(), &defaults) {
                Ok(made) => (made.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            }
        })
        .await?
}

/// Deletes a topic with all its records.
pub(crate) async fn delete_topic(node: &Node, call: &Call, name: &str) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Delete, name)?;
    if !node.config.delete_topics {
        let message = "topics cannot be deleted on this node (delete.topic.enable)";
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, message));
    }
    let topic = name.to_owned();
    let decide = move |image: &MetadataImage| match controller::delete_topic(image, &topic) {
        Ok(gone) => (gone.records, Ok(())),
        Err(error) => (Vec::new(), Err(Refusal::from(error))),
    };
    node.metadata.change(decide).await??;
    node.metrics.forget_topic(name);
    Ok(())
}

/// More partitions for a topic.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    /// The topic.
    pub(crate) topic: String,
    /// How many it is to have in total.
    pub(crate) total_count: i32,
    /// The nodes of each new partition, when somebody has chosen them.
    pub(crate) assignments: Option<Vec<Vec<NodeId>>>,
    /// Only check.
    pub(crate) validate_only: bool,
}

/// Adds partitions to a topic.
pub(crate) async fn add_partitions(
    node: &Node,
    call: &Call,
    growth: Growth,
) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Alter, &growth.topic)?;
    let defaults = node.config.topic_defaults();
    node.metadata
        .change(move |image| {
            let grown = controller::create_partitions(
                image,
                &growth.topic,
                growth.total_count,
                growth.assignments.as_deref(),
                &defaults,
            );
            match grown {
                Ok(_) if growth.validate_only => (Vec::new(), Ok(())),
                Ok(grown) => (grown.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            }
        })
        .await?
}

/// Whether any partition of a topic has ever held a record: its keys would map to other partitions
/// if it had more of them.
pub(crate) fn holds_records(node: &Node, topic: &str) -> bool {
    if is_internal_topic(topic) {
        return false;
    }
    let Ok(topic) = node.partitions().topic(topic) else {
        return false;
    };
    topic
        .online()
        .any(|partition| partition.reader().log_end_offset() > Offset::ZERO)
}
