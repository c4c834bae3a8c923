//! `DeleteRecords`: raises the log start offset of partitions.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};

use super::{KafkaCall, KafkaService};
use crate::records::delete::delete_before;

pub(super) async fn delete_records(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let place = (topic.name.as_str(), wanted.partition_index);
            let deleted = delete_before(&service.node, call, place, wanted.offset).await;
            let (code, low_watermark) = match deleted {
                Ok(start) => (ErrorCode::None, start.value()),
                Err(refusal) => (refusal.code, -1),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark,
                error_code: call.code(code),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        topics,
        ..DeleteRecordsResponse::default()
    }
}
