//! `OffsetForLeaderEpoch`: where the records of a leader epoch end (KIP-320). Consumers ask before
//! they go on after a change of leader, to find out whether what they read is still there.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use conveyor_record::LeaderEpoch;

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::records::read::{check_epoch, end_of_epoch};
use crate::request::Operation;

pub(super) async fn offset_for_leader_epoch(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = look(service, call, &topic.topic, wanted);
            answered(call, wanted, found)
        });
        OffsetForLeaderTopicResult {
            partitions: partitions.collect(),
            topic: topic.topic,
        }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

/// Epoch and end; -1 for both if the epoch is newer than any here.
fn look(
    service: &KafkaService,
    call: &KafkaCall,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), Refusal> {
    let node = &service.node;
    let partition = node.partition_for(call, Operation::Describe, topic, wanted.partition)?;
    check_epoch(&partition, wanted.current_leader_epoch)?;
    let found = end_of_epoch(&partition, LeaderEpoch(wanted.leader_epoch));
    Ok(found.map_or((-1, -1), |found| {
        (found.leader_epoch.value(), found.end_offset.value())
    }))
}

fn answered(
    call: &KafkaCall,
    wanted: &OffsetForLeaderPartition,
    found: Result<(i32, i64), Refusal>,
) -> EpochEndOffset {
    let (code, (leader_epoch, end_offset)) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(refusal) => (refusal.code, (-1, -1)),
    };
    EpochEndOffset {
        error_code: call.code(code),
        partition: wanted.partition,
        leader_epoch,
        end_offset,
    }
}
