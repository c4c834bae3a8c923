//! `ListGroups`: the groups that a broker coordinates.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// Filters by state and type.
    ListGroupsRequest [0-5, flexible 3+] {
        states_filter: Vec<Text> [4+],
        types_filter: Vec<Text> [5+],
    }
}

message! {
    /// The groups and their kinds.
    ListGroupsResponse [0-5, flexible 3+] {
        throttle_time_ms: i32 [1+, ignorable],
        error_code: i16 [0+],
        groups: Vec<ListedGroup> [0+],
    }
}

structure! {
    /// An element of [`ListGroupsResponse::groups`].
    ListedGroup {
        group_id: Text [0+],
        protocol_type: Text [0+],
        group_state: Text [4+, ignorable],
        group_type: Text [5+, ignorable],
    }
}
