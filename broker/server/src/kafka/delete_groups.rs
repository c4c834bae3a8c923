//! `DeleteGroups`: deletes groups that have no members.

use std::sync::Arc;

use conveyor_kafka::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::{KafkaCall, KafkaService};
use crate::node::Refusal;
use crate::request::Operation;

pub(super) async fn delete_groups(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let outcome = delete(service, call, &group_id).await;
        results.push(DeletableGroupResult {
            group_id,
            error_code: call.outcome_code(&outcome),
        });
    }
    DeleteGroupsResponse {
        results,
        ..DeleteGroupsResponse::default()
    }
}

async fn delete(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    group_id: &str,
) -> Result<(), Refusal> {
    call.allow_group(Operation::Delete, group_id)?;
    service.groups.delete(group_id).await
}
