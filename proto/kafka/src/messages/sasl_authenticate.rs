//! `SaslAuthenticate`: one step of a SASL exchange.

use bytes::Bytes;

use crate::table::message;
use crate::text::Text;

message! {
    /// Bytes for the mechanism.
    SaslAuthenticateRequest [0-2, flexible 2+] {
        auth_bytes: Bytes [0+],
    }
}

message! {
    /// The mechanism's answer, and how long the session lasts.
    SaslAuthenticateResponse [0-2, flexible 2+] {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        auth_bytes: Bytes [0+],
        session_lifetime_ms: i64 [1+, ignorable],
    }
}
