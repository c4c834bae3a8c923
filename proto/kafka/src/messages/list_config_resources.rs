//! `ListConfigResources`: resources that have settings.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The types of resource; none given means all.
    ListConfigResourcesRequest [0-1, flexible 0+] {
        resource_types: Vec<i8> [1+],
    }
}

message! {
    /// The resources.
    ListConfigResourcesResponse [0-1, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        config_resources: Vec<ConfigResource> [0+],
    }
}

structure! {
    /// An element of [`ListConfigResourcesResponse::config_resources`].
    ConfigResource {
        resource_name: Text [0+],
        resource_type: i8 [1+, ignorable] = 16,
    }
}
