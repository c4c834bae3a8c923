//! `DeleteAcls`: refused as long as the broker keeps no access rules (see [`super::acls`]).

use std::sync::Arc;

use conveyor_kafka::messages::delete_acls::{
    DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse,
};

use super::acls::no_authorizer;
use super::{KafkaCall, KafkaService};

pub(super) async fn delete_acls(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let results = request.filters.iter().map(|_| {
        let (error_code, error_message) = no_authorizer(call);
        DeleteAclsFilterResult {
            error_code,
            error_message,
            ..DeleteAclsFilterResult::default()
        }
    });
    DeleteAclsResponse {
        filter_results: results.collect(),
        ..DeleteAclsResponse::default()
    }
}
