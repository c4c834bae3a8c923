//! `DescribeAcls`: lists access rules by filter.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The filter.
    DescribeAclsRequest [1-3, flexible 2+] {
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
    /// The rules that match, by resource.
    DescribeAclsResponse [1-3, flexible 2+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        resources: Vec<DescribeAclsResource> [0+],
    }
}

structure! {
    /// An element of [`DescribeAclsResponse::resources`].
    DescribeAclsResource {
        resource_type: i8 [0+],
        resource_name: Text [0+],
        pattern_type: i8 [1+] = 3,
        acls: Vec<AclDescription> [0+],
    }
}

structure! {
    /// An element of [`DescribeAclsResource::acls`].
    AclDescription {
        principal: Text [0+],
        host: Text [0+],
        operation: i8 [0+],
        permission_type: i8 [0+],
    }
}
