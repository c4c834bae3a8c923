//! `JoinGroup`: a member enters a classic group, or its next generation.

use bytes::Bytes;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The member, its timeouts and the protocols that it supports.
    JoinGroupRequest [0-9, flexible 6+] {
        group_id: Text [0+],
        session_timeout_ms: i32 [0+],
        rebalance_timeout_ms: i32 [1+, ignorable] = -1,
        member_id: Text [0+],
        group_instance_id: Option<Text> [5+],
        protocol_type: Text [0+],
        protocols: Vec<JoinGroupRequestProtocol> [0+],
        reason: Option<Text> [8+, ignorable],
    }
}

structure! {
    /// An element of [`JoinGroupRequest::protocols`].
    JoinGroupRequestProtocol {
        name: Text [0+],
        metadata: Bytes [0+],
    }
}

message! {
    /// The generation, the protocol chosen, and for the leader all members.
    JoinGroupResponse [0-9, flexible 6+] {
        throttle_time_ms: i32 [2+, ignorable],
        error_code: i16 [0+],
        generation_id: i32 [0+] = -1,
        protocol_type: Option<Text> [7+, ignorable],
        protocol_name: Option<Text> [0+, nullable 7+],
        leader: Text [0+],
        skip_assignment: bool [9+],
        member_id: Text [0+],
        members: Vec<JoinGroupResponseMember> [0+],
    }
}

structure! {
    /// An element of [`JoinGroupResponse::members`].
    JoinGroupResponseMember {
        member_id: Text [0+],
        group_instance_id: Option<Text> [5+, ignorable],
        metadata: Bytes [0+],
    }
}
