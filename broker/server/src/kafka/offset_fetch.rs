//! `OffsetFetch`: reads what groups have committed.

use std::collections::HashSet;
use std::sync::Arc;

use conveyor_group::{CommittedOffset, FetchOffsetsRequest, FetchedOffset};
use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use uuid::Uuid;

use super::distinct::distinct_by;
use super::group_call::owned;
use super::{KafkaCall, KafkaService};
use crate::node::{Refusal, authorize_topic};
use crate::request::Operation;

/// The first version with an error for the group as a whole.
const GROUP_ERROR_SINCE: i16 = 2;
/// The first version that asks about several groups.
const GROUPS_SINCE: i16 = 8;
/// The first version that names topics by id.
const IDS_SINCE: i16 = 10;

/// A topic of a request, or of all that there are.
struct Wanted {
    name: Text,
    topic_id: Uuid,
    partitions: Vec<i32>,
}

/// A topic of a response.
struct Found {
    name: Text,
    topic_id: Uuid,
    partitions: Vec<(i32, Result<Option<CommittedOffset>, Refusal>)>,
}

pub(super) async fn offset_fetch(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if call.version >= GROUPS_SINCE {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in distinct_by(request.groups, |group| group.group_id.clone()) {
            groups.push(one_group(service, call, group, request.require_stable).await);
        }
        return OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        };
    }
    only_group(service, call, request).await
}

async fn one_group(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let wanted = group.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| Wanted {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.clone(),
        });
        topics.collect::<Vec<_>>()
    });
    let fetch = FetchOffsetsRequest {
        group_id: group.group_id.as_str().to_owned(),
        member_id: owned(group.member_id.as_ref()).unwrap_or_default(),
        member_epoch: group.member_epoch,
        require_stable,
        partitions: None,
    };
    let outcome = fetch_topics(service, call, fetch, wanted).await;
    let error_code = call.outcome_code(&outcome);
    let topics = outcome.unwrap_or_default().into_iter().map(|found| {
        let partitions = found.partitions.into_iter();
        let partitions = partitions.map(|(partition_index, committed)| {
            let error_code = call.outcome_code(&committed);
            let (offset, epoch, metadata) = fields(committed);
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: offset,
                committed_leader_epoch: epoch,
                metadata: Some(metadata),
                error_code,
            }
        });
        OffsetFetchResponseTopics {
            name: found.name,
            topic_id: found.topic_id,
            partitions: partitions.collect(),
        }
    });
    OffsetFetchResponseGroup {
        group_id: group.group_id,
        topics: topics.collect(),
        error_code,
    }
}

/// The layout of older versions.
async fn only_group(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let wanted = || {
        let topics = request.topics.as_ref()?.iter().map(|topic| Wanted {
            name: topic.name.clone(),
            topic_id: Uuid::nil(),
            partitions: topic.partition_indexes.clone(),
        });
        Some(topics.collect::<Vec<_>>())
    };
    let fetch = FetchOffsetsRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_epoch: -1,
        require_stable: request.require_stable,
        ..FetchOffsetsRequest::default()
    };
    let outcome = fetch_topics(service, call, fetch, wanted()).await;
    let mut error_code = call.outcome_code(&outcome);
    let found = outcome.unwrap_or_else(|refusal| {
        let is_told_above = call.version >= GROUP_ERROR_SINCE;
        let topics = wanted().filter(|_| !is_told_above).unwrap_or_default();
        all_refused(topics, &refusal)
    });
    if call.version < GROUP_ERROR_SINCE {
        error_code = 0;
    }
    let topics = found.into_iter().map(|found| {
        let partitions = found.partitions.into_iter();
        let partitions = partitions.map(|(partition_index, committed)| {
            let error_code = call.outcome_code(&committed);
            let (offset, epoch, metadata) = fields(committed);
            OffsetFetchResponsePartition {
                partition_index,
                committed_offset: offset,
                committed_leader_epoch: epoch,
                metadata: Some(metadata),
                error_code,
            }
        });
        OffsetFetchResponseTopic {
            name: found.name,
            partitions: partitions.collect(),
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code,
        ..OffsetFetchResponse::default()
    }
}

fn all_refused(topics: Vec<Wanted>, refusal: &Refusal) -> Vec<Found> {
    let refuse = |topic: Wanted| Found {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| (partition, Err(refusal.clone())))
            .collect(),
    };
    topics.into_iter().map(refuse).collect()
}

/// Offset, leader epoch and metadata as a response has them.
fn fields(committed: Result<Option<CommittedOffset>, Refusal>) -> (i64, i32, Text) {
    match committed {
        Ok(Some(committed)) => (
            committed.offset.value(),
            committed.leader_epoch.value(),
            committed.metadata.into(),
        ),
        Ok(None) | Err(_) => (-1, -1, Text::default()),
    }
}

/// Everything asked for, in the order asked for; all that the caller may see, if nothing is named.
async fn fetch_topics(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    fetch: FetchOffsetsRequest,
    wanted: Option<Vec<Wanted>>,
) -> Result<Vec<Found>, Refusal> {
    call.allow_group(Operation::Describe, &fetch.group_id)?;
    let Some(wanted) = wanted else {
        let fetched = service.groups.fetch_offsets(fetch).await?;
        return Ok(all_topics(service, call, fetched));
    };
    let mut found = Vec::with_capacity(wanted.len());
    let mut places = Vec::new();
    let mut seen = HashSet::new();
    for mut topic in wanted {
        let (id, key) = (topic.topic_id, topic.name.clone());
        let is_new = |partition: &i32| seen.insert((key.clone(), id, *partition));
        topic.partitions.retain(is_new);
        let name = allowed_name(service, call, &topic);
        if let Ok(name) = &name {
            places.extend(topic.partitions.iter().map(|p| (name.clone(), *p)));
        }
        found.push((topic, name));
    }
    let fetch = FetchOffsetsRequest {
        partitions: Some(places),
        ..fetch
    };
    let mut fetched = service.groups.fetch_offsets(fetch).await?.into_iter();
    let answered = found.into_iter().map(|(topic, name)| {
        let name = name.map(drop);
        let partitions = topic.partitions.into_iter().map(|partition| {
            let committed = match &name {
                Err(refusal) => Err(refusal.clone()),
                // The coordinator was given the allowed topics, and answers in their order.
                Ok(()) => fetched
                    .next()
                    .map_or(Ok(None), |fetched| fetched.committed.map_err(Refusal::from)),
            };
            (partition, committed)
        });
        Found {
            partitions: partitions.collect(),
            name: topic.name,
            topic_id: topic.topic_id,
        }
    });
    Ok(answered.collect())
}

/// The name of a topic that the caller may see.
fn allowed_name(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    topic: &Wanted,
) -> Result<String, Refusal> {
    let name = if call.version >= IDS_SINCE {
        service.name_of(topic.topic_id)?
    } else {
        topic.name.as_str().to_owned()
    };
    authorize_topic(call, Operation::Describe, &name)?;
    Ok(name)
}

/// Offsets topic by topic, of those that the caller may see and that the version can name.
fn all_topics(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    fetched: Vec<FetchedOffset>,
) -> Vec<Found> {
    let image = service.node.metadata.image();
    let mut topics: Vec<Found> = Vec::new();
    for offset in fetched {
        let committed = offset.committed.map_err(Refusal::from);
        if let Some(last) = topics.last_mut()
            && last.name.as_str() == offset.topic
        {
            last.partitions.push((offset.partition, committed));
            continue;
        }
        let topic_id = image.topic(&offset.topic).map(|topic| topic.id);
        topics.push(Found {
            name: offset.topic.into(),
            topic_id: topic_id.unwrap_or_default(),
            partitions: vec![(offset.partition, committed)],
        });
    }
    topics.retain(|topic| {
        let has_name = call.version < IDS_SINCE || !topic.topic_id.is_nil();
        has_name && authorize_topic(call, Operation::Describe, &topic.name).is_ok()
    });
    topics
}

impl KafkaService {
    /// The name of a topic by its id.
    pub(super) fn name_of(&self, topic_id: Uuid) -> Result<String, Refusal> {
        let image = self.node.metadata.image();
        let name = image.topic_by_id(topic_id).map(|topic| topic.name.clone());
        name.ok_or_else(|| {
            let message = format!("there is no topic with id {topic_id}");
            Refusal::new(ErrorCode::UnknownTopicId, message)
        })
    }
}
