//! `OffsetCommit`: stores how far a group has read.

use std::sync::Arc;

use conveyor_group::{CommitRequest, OffsetResult, OffsetToCommit};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use conveyor_record::{LeaderEpoch, Offset};

use super::group_call::owned;
use super::{KafkaCall, KafkaService};
use crate::coordinator::decided;
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

/// The first version whose clients know of member epochs and of groups that are not there.
const CONSUMER_PROTOCOL_SINCE: i16 = 9;
/// The first version that names topics by id.
const IDS_SINCE: i16 = 10;

pub(super) async fn offset_commit(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let names: Vec<Result<String, Refusal>> = request
        .topics
        .iter()
        .map(|topic| allowed_name(service, call, topic))
        .collect();
    let outcome = commit(service, call, &request, &names).await;
    let (mut decided, refused) = match outcome {
        Ok(results) => (results.into_iter(), None),
        Err(refusal) => (Vec::new().into_iter(), Some(refusal)),
    };
    let topics = request.topics.into_iter().zip(names).map(|(topic, name)| {
        let name = name.map(drop);
        let partitions = topic.partitions.iter().map(|partition| {
            let result = match (&name, &refused) {
                (_, Some(refusal)) | (Err(refusal), None) => Err(refusal.clone()),
                // The coordinator was given the allowed topics, and answers in their order.
                (Ok(()), None) => decided
                    .next()
                    .map_or(Ok(()), |decided| decided.result.map_err(Refusal::from)),
            };
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: call.outcome_code(&result),
            }
        });
        OffsetCommitResponseTopic {
            partitions: partitions.collect(),
            name: topic.name,
            topic_id: topic.topic_id,
        }
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}

/// The name of a topic that the caller may read.
fn allowed_name(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    topic: &OffsetCommitRequestTopic,
) -> Result<String, Refusal> {
    let name = if call.version >= IDS_SINCE {
        service.name_of(topic.topic_id)?
    } else {
        topic.name.as_str().to_owned()
    };
    authorize_topic(call, Operation::Read, &name)?;
    Ok(name)
}

async fn commit(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: &OffsetCommitRequest,
    names: &[Result<String, Refusal>],
) -> Result<Vec<OffsetResult>, Refusal> {
    call.allow_group(Operation::Read, &request.group_id)?;
    let mut offsets = Vec::new();
    for (topic, name) in request.topics.iter().zip(names) {
        let Ok(name) = name else { continue };
        offsets.extend(topic.partitions.iter().map(|partition| OffsetToCommit {
            topic: name.clone(),
            partition: partition.partition_index,
            offset: Offset(partition.committed_offset),
            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
            metadata: owned(partition.committed_metadata.as_ref()).unwrap_or_default(),
        }));
    }
    let commit = CommitRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        member_epoch: request.generation_id_or_member_epoch,
        offsets,
    };
    let outcome: Result<_, Refusal> = service
        .groups
        .change(&request.group_id, move |coordinator, cluster, now_ms| {
            decided(coordinator.commit_offsets(now_ms, &commit, cluster))
        })
        .await?;
    outcome.map_err(|refusal| for_version(call.version, refusal))
}

/// Older clients know generations only.
fn for_version(version: i16, refusal: Refusal) -> Refusal {
    let code = match refusal.code {
        ErrorCode::GroupIdNotFound | ErrorCode::StaleMemberEpoch
            if version < CONSUMER_PROTOCOL_SINCE =>
        {
            ErrorCode::IllegalGeneration
        }
        code => code,
    };
    Refusal { code, ..refusal }
}
