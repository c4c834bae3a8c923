//! `DescribeUserScramCredentials`: nobody has any. They cannot be set as long as no listener asks for
//! them, so `AlterUserScramCredentials` is not served.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};

use super::{KafkaCall, KafkaService};
use crate::node::authorize_cluster;
use crate::request::Operation;

pub(super) async fn describe_user_scram_credentials(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if let Err(refusal) = authorize_cluster(call, Operation::Describe) {
        return DescribeUserScramCredentialsResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            ..DescribeUserScramCredentialsResponse::default()
        };
    }
    let asked = request.users.unwrap_or_default();
    let results = asked.into_iter().map(|user| {
        let message = format!("user {} has no SCRAM credentials", user.name);
        DescribeUserScramCredentialsResult {
            user: user.name,
            error_code: call.code(ErrorCode::ResourceNotFound),
            error_message: Some(message.into()),
            ..DescribeUserScramCredentialsResult::default()
        }
    });
    DescribeUserScramCredentialsResponse {
        results: results.collect(),
        error_code: call.code(ErrorCode::None),
        ..DescribeUserScramCredentialsResponse::default()
    }
}
