//! `ListPartitionReassignments`: those in progress. On a single node a reassignment is done at once.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::{KafkaCall, KafkaService};
use crate::node::authorize_cluster;
use crate::request::Operation;

pub(super) async fn list_partition_reassignments(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let refusal = authorize_cluster(call, Operation::Describe).err();
    let code = refusal.as_ref().map_or(ErrorCode::None, |it| it.code);
    ListPartitionReassignmentsResponse {
        error_code: call.code(code),
        error_message: refusal.map(|refusal| refusal.message.into()),
        ..ListPartitionReassignmentsResponse::default()
    }
}
