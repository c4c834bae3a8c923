//! `ListOffsets`: offsets by position or by time.

use std::collections::HashSet;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::records::offsets::{
    EARLIEST, EARLIEST_LOCAL, FoundOffset, LATEST, LATEST_TIERED, MAX_TIMESTAMP, look_up,
};
use crate::records::read::Isolation;

/// The first version that tells leader epochs.
const EPOCHS_SINCE: i16 = 4;

pub(super) async fn list_offsets(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = Isolation::from_kafka(request.isolation_level);
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let found = if seen.insert((topic.name.clone(), wanted.partition_index)) {
                look(service, call, &topic.name, &wanted, isolation).await
            } else {
                let message = format!("{} is asked about twice", topic.name);
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            };
            partitions.push(answered(call, &wanted, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }
}

async fn look(
    service: &KafkaService,
    call: &KafkaCall,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Option<Isolation>,
) -> Result<FoundOffset, Refusal> {
    if !is_known(wanted.timestamp, call.version) {
        let message = format!(
            "timestamp {} stands for nothing in version {}",
            wanted.timestamp, call.version
        );
        return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
    }
    let Some(isolation) = isolation else {
        let message = "the isolation level is not known";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    };
    let place = (topic, wanted.partition_index);
    let epoch = wanted.current_leader_epoch;
    look_up(
        &service.node,
        call,
        place,
        epoch,
        wanted.timestamp,
        isolation,
    )
    .await
}

/// Whether a negative timestamp has a meaning in this version.
fn is_known(timestamp: i64, version: i16) -> bool {
    let since = match timestamp {
        LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        time => return time >= 0,
    };
    version >= since
}

fn answered(
    call: &KafkaCall,
    wanted: &ListOffsetsPartition,
    found: Result<FoundOffset, Refusal>,
) -> ListOffsetsPartitionResponse {
    let (code, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(refusal) => (refusal.code, FoundOffset::NONE),
    };
    ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        error_code: call.code(code),
        timestamp: found.timestamp_ms,
        offset: found.offset.value(),
        leader_epoch: if call.version >= EPOCHS_SINCE {
            found.leader_epoch.value()
        } else {
            -1
        },
    }
}
