//! `SaslHandshake`: the client names a mechanism. On a listener without authentication there is
//! nothing to shake hands about, which is told as Kafka tells it.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::{KafkaCall, KafkaService};

pub(super) async fn sasl_handshake(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    _: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    SaslHandshakeResponse {
        error_code: call.code(ErrorCode::IllegalSaslState),
        mechanisms: Vec::new(),
    }
}
