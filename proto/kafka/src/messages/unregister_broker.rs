//! `UnregisterBroker`: forgets a broker.

use crate::table::message;
use crate::text::Text;

message! {
    /// The broker.
    UnregisterBrokerRequest [0-0, flexible 0+] {
        broker_id: i32 [0+],
    }
}

message! {
    /// The outcome.
    UnregisterBrokerResponse [0-0, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
