//! `Heartbeat`: a classic member says that it is alive.

use crate::table::message;
use crate::text::Text;

message! {
    /// The member and the generation it believes in.
    HeartbeatRequest [0-4, flexible 4+] {
        group_id: Text [0+],
        generation_id: i32 [0+],
        member_id: Text [0+],
        group_instance_id: Option<Text> [3+],
    }
}

message! {
    /// Whether the member may go on, or has to rejoin.
    HeartbeatResponse [0-4, flexible 4+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [0+],
    }
}
