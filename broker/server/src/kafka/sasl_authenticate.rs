//! `SaslAuthenticate`: bytes for the mechanism chosen before. On a listener without authentication
//! none was, which is told as Kafka tells it.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};

use super::{KafkaCall, KafkaService};

pub(super) async fn sasl_authenticate(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    _: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let listener = &call.listener.name;
    let message = format!("listener {listener} has no authentication: connect without SASL");
    SaslAuthenticateResponse {
        error_code: call.code(ErrorCode::IllegalSaslState),
        error_message: Some(message.into()),
        ..SaslAuthenticateResponse::default()
    }
}
