//! `CreateAcls`: adds access rules.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The rules.
    CreateAclsRequest [1-3, flexible 2+] {
        creations: Vec<AclCreation> [0+],
    }
}

structure! {
    /// An element of [`CreateAclsRequest::creations`].
    AclCreation {
        resource_type: i8 [0+],
        resource_name: Text [0+],
        resource_pattern_type: i8 [1+] = 3,
        principal: Text [0+],
        host: Text [0+],
        operation: i8 [0+],
        permission_type: i8 [0+],
    }
}

message! {
    /// The outcome by rule.
    CreateAclsResponse [1-3, flexible 2+] {
        throttle_time_ms: i32 [0+],
        results: Vec<AclCreationResult> [0+],
    }
}

structure! {
    /// An element of [`CreateAclsResponse::results`].
    AclCreationResult {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
