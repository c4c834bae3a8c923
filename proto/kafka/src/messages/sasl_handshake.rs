//! `SaslHandshake`: agrees on a SASL mechanism.

use crate::table::message;
use crate::text::Text;

message! {
    /// The mechanism that the client wants.
    SaslHandshakeRequest [0-1] {
        mechanism: Text [0+],
    }
}

message! {
    /// The mechanisms that the broker has.
    SaslHandshakeResponse [0-1] {
        error_code: i16 [0+],
        mechanisms: Vec<Text> [0+],
    }
}
