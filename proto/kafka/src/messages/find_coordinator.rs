//! `FindCoordinator`: which broker coordinates a group or a transactional id.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The keys whose coordinators are wanted.
    FindCoordinatorRequest [0-6, flexible 3+] {
        key: Text [0-3],
        key_type: i8 [1+],
        coordinator_keys: Vec<Text> [4+],
    }
}

message! {
    /// The coordinators, one by key from version 4 on.
    FindCoordinatorResponse [0-6, flexible 3+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [0-3],
        error_message: Option<Text> [1-3, ignorable],
        node_id: i32 [0-3],
        host: Text [0-3],
        port: i32 [0-3],
        coordinators: Vec<Coordinator> [4+],
    }
}

structure! {
    /// An element of [`FindCoordinatorResponse::coordinators`].
    Coordinator {
        key: Text [4+],
        node_id: i32 [4+],
        host: Text [4+],
        port: i32 [4+],
        error_code: i16 [4+],
        error_message: Option<Text> [4+, ignorable],
    }
}
