//! `DeleteAcls`: removes access rules by filter.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The filters.
    DeleteAclsRequest [1-3, flexible 2+] {
        filters: Vec<DeleteAclsFilter> [0+],
    }
}

structure! {
    /// An element of [`DeleteAclsRequest::filters`].
    DeleteAclsFilter {
        resource_type_filter: i8 [0+],
        resource_name_filter: Option<Text> [0+],
        pattern_type_filter: i8 [1+] = 3,
        principal_filter: Option<Text> [0+],
        host_filter: Option<Text> [0+],
        operation: i8 [0+],
        permission_type: i8 [0+],
    }
}

message! {
    /// The rules removed, by filter.
    DeleteAclsResponse [1-3, flexible 2+] {
        throttle_time_ms: i32 [0+],
        filter_results: Vec<DeleteAclsFilterResult> [0+],
    }
}

structure! {
    /// An element of [`DeleteAclsResponse::filter_results`].
    DeleteAclsFilterResult {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        matching_acls: Vec<DeleteAclsMatchingAcl> [0+],
    }
}

structure! {
    /// An element of [`DeleteAclsFilterResult::matching_acls`].
    DeleteAclsMatchingAcl {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        resource_type: i8 [0+],
        resource_name: Text [0+],
        pattern_type: i8 [1+] = 3,
        principal: Text [0+],
        host: Text [0+],
        operation: i8 [0+],
        permission_type: i8 [0+],
    }
}
