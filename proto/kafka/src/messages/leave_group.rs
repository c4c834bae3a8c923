//! `LeaveGroup`: members leave a classic group.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The members that leave; before version 3 it is one.
    LeaveGroupRequest [0-5, flexible 4+] {
        group_id: Text [0+],
        member_id: Text [0-2],
        members: Vec<MemberIdentity> [3+],
    }
}

structure! {
    /// An element of [`LeaveGroupRequest::members`].
    MemberIdentity {
        member_id: Text [3+],
        group_instance_id: Option<Text> [3+],
        reason: Option<Text> [5+, ignorable],
    }
}

message! {
    /// The outcome by member.
    LeaveGroupResponse [0-5, flexible 4+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [0+],
        members: Vec<MemberResponse> [3+],
    }
}

structure! {
    /// An element of [`LeaveGroupResponse::members`].
    MemberResponse {
        member_id: Text [3+],
        group_instance_id: Option<Text> [3+],
        error_code: i16 [3+],
    }
}
