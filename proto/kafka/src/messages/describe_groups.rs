//! `DescribeGroups`: state and members of classic groups.

use bytes::Bytes;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The groups to describe.
    DescribeGroupsRequest [0-6, flexible 5+] {
        groups: Vec<Text> [0+],
        include_authorized_operations: bool [3+],
    }
}

message! {
    /// The groups, with members and assignments.
    DescribeGroupsResponse [0-6, flexible 5+] {
        throttle_time_ms: i32 [1+, ignorable],
        groups: Vec<DescribedGroup> [0+],
    }
}

structure! {
    /// An element of [`DescribeGroupsResponse::groups`].
    DescribedGroup {
        error_code: i16 [0+],
        error_message: Option<Text> [6+],
        group_id: Text [0+],
        group_state: Text [0+],
        protocol_type: Text [0+],
        protocol_data: Text [0+],
        members: Vec<DescribedGroupMember> [0+],
        authorized_operations: i32 [3+] = i32::MIN,
    }
}

structure! {
    /// An element of [`DescribedGroup::members`].
    DescribedGroupMember {
        member_id: Text [0+],
        group_instance_id: Option<Text> [4+, ignorable],
        client_id: Text [0+],
        client_host: Text [0+],
        member_metadata: Bytes [0+],
        member_assignment: Bytes [0+],
    }
}
