//! `DescribeAcls`: refused as long as the broker keeps no access rules (see [`super::acls`]).

use std::sync::Arc;

use conveyor_kafka::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};

use super::acls::no_authorizer;
use super::{KafkaCall, KafkaService};

pub(super) async fn describe_acls(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    _: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let (error_code, error_message) = no_authorizer(call);
    DescribeAclsResponse {
        error_code,
        error_message,
        ..DescribeAclsResponse::default()
    }
}
