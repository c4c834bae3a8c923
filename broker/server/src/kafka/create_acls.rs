//! `CreateAcls`: refused as long as the broker keeps no access rules (see [`super::acls`]).

use std::sync::Arc;

use conveyor_kafka::messages::create_acls::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};

use super::acls::no_authorizer;
use super::{KafkaCall, KafkaService};

pub(super) async fn create_acls(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let results = request.creations.iter().map(|_| {
        let (error_code, error_message) = no_authorizer(call);
        AclCreationResult {
            error_code,
            error_message,
        }
    });
    CreateAclsResponse {
        results: results.collect(),
        ..CreateAclsResponse::default()
    }
}
