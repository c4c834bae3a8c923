//! `SyncGroup`: the leader hands in assignments, every member gets its own.

use bytes::Bytes;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The member, and from the leader everybody's assignments.
    SyncGroupRequest [0-5, flexible 4+] {
        group_id: Text [0+],
        generation_id: i32 [0+],
        member_id: Text [0+],
        group_instance_id: Option<Text> [3+],
        protocol_type: Option<Text> [5+, ignorable],
        protocol_name: Option<Text> [5+, ignorable],
        assignments: Vec<SyncGroupRequestAssignment> [0+],
    }
}

structure! {
    /// An element of [`SyncGroupRequest::assignments`].
    SyncGroupRequestAssignment {
        member_id: Text [0+],
        assignment: Bytes [0+],
    }
}

message! {
    /// The assignment of the member that asked.
    SyncGroupResponse [0-5, flexible 4+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [0+],
        protocol_type: Option<Text> [5+, ignorable],
        protocol_name: Option<Text> [5+, ignorable],
        assignment: Bytes [0+],
    }
}
