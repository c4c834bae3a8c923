//! `DeleteGroups`: deletes groups that have no members.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The groups.
    DeleteGroupsRequest [0-2, flexible 2+] {
        groups_names: Vec<Text> [0+],
    }
}

message! {
    /// The outcome by group.
    DeleteGroupsResponse [0-2, flexible 2+] {
        throttle_time_ms: i32 [0+],
        results: Vec<DeletableGroupResult> [0+],
    }
}

structure! {
    /// An element of [`DeleteGroupsResponse::results`].
    DeletableGroupResult {
        group_id: Text [0+],
        error_code: i16 [0+],
    }
}
