//! Creates, grows and deletes topics.

use std::sync::Arc;

use conveyor_controller::{Answer, Change, CreatedTopic, NewTopic, is_internal_topic};
use conveyor_grpc::ErrorCode;
use conveyor_record::{NodeId, Offset};
use uuid::Uuid;

use crate::metadata_host::MetadataError;
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
    let mut results: Vec<Option<Result<CreatedTopic, Refusal>>> = Vec::with_capacity(topics.len());
    let mut allowed = Vec::new();
    for topic in topics {
        let refusal = authorize_topic(call, Operation::Create, &topic.name).err();
        if refusal.is_none() {
            allowed.push(topic);
        }
        results.push(refusal.map(Err));
    }
    let mut created = create(node, allowed, validate_only).await.into_iter();
    let lost = || Err(Refusal::from(MetadataError::OtherAnswer));
    let results = results
        .into_iter()
        .map(|result| result.or_else(|| created.next()).unwrap_or_else(lost));
    results.collect()
}

/// As many results as topics.
async fn create(
    node: &Node,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Vec<Result<CreatedTopic, Refusal>> {
    let count = topics.len();
    if count == 0 {
        return Vec::new();
    }
    // Drawn here, so that a change which is sent again does not create the topic again.
    let topics = topics.into_iter().map(|topic| (Uuid::new_v4(), topic));
    let change = Change::CreateTopics {
        topics: topics.collect(),
        validate_only,
    };
    let refusal = match node.metadata.submit(change).await {
        Ok(Answer::TopicsCreated(results)) => {
            let results = results.into_iter();
            return results
                .map(|result| result.map_err(Refusal::from))
                .collect();
        }
        Ok(_) => Refusal::from(MetadataError::OtherAnswer),
        Err(error) => Refusal::from(error),
    };
    vec![Err(refusal); count]
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
    let created = create(node, vec![topic], false).await.pop();
    let created = created.unwrap_or_else(|| Err(MetadataError::OtherAnswer.into()));
    created.map(|_| ())
}

/// Deletes a topic with all its records.
pub(crate) async fn delete_topic(node: &Node, call: &Call, name: &str) -> Result<(), Refusal> {
    authorize_topic(call, Operation::Delete, name)?;
    if !node.config.delete_topics {
        let message = "topics cannot be deleted on this node (delete.topic.enable)";
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, message));
    }
    let change = Change::DeleteTopic {
        name: name.to_owned(),
    };
    node.metadata.submit(change).await?;
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
    let change = Change::CreatePartitions {
        topic: growth.topic,
        total_count: growth.total_count,
        assignments: growth.assignments,
        validate_only: growth.validate_only,
    };
    node.metadata.submit(change).await?;
    Ok(())
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
