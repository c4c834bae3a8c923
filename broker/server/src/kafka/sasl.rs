//! `SaslHandshake` and `SaslAuthenticate`: the client names a mechanism, then exchanges bytes with
//! it. What follows from them is decided in [`super::authentication`].

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};
use conveyor_kafka::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::{KafkaCall, Session};

/// Answers a handshake.
pub(super) fn handshake(
    session: &mut Session,
    call: &KafkaCall,
    request: &SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    let chosen = session.authentication.choose(&request.mechanism);
    SaslHandshakeResponse {
        error_code: call.code(chosen.err().unwrap_or(ErrorCode::None)),
        mechanisms: session
            .authentication
            .mechanisms()
            .map(Into::into)
            .collect(),
    }
}

/// Answers a step of the exchange; the connection is the principal's once it is known.
pub(super) fn authenticate(
    session: &mut Session,
    call: &KafkaCall,
    request: &SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    match session.authentication.authenticate(&request.auth_bytes) {
        Ok((auth_bytes, principal)) => {
            if let Some(principal) = principal {
                session.caller.become_principal(principal);
            }
            SaslAuthenticateResponse {
                error_code: call.code(ErrorCode::None),
                auth_bytes,
                ..SaslAuthenticateResponse::default()
            }
        }
        Err(refusal) => SaslAuthenticateResponse {
            error_code: call.code(refusal.code),
            error_message: Some(refusal.message.into()),
            ..SaslAuthenticateResponse::default()
        },
    }
}
