//! What a broker without an authorizer of its own answers about access rules: that there are none.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;

use super::KafkaCall;

/// The code and the message.
pub(super) fn no_authorizer(call: &KafkaCall) -> (i16, Option<Text>) {
    let message = "this broker keeps no access rules: security is disabled";
    (call.code(ErrorCode::SecurityDisabled), Some(message.into()))
}
