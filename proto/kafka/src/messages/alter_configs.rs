//! `AlterConfigs`: replaces all settings of resources.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The resources with all their settings.
    AlterConfigsRequest [0-2, flexible 2+] {
        resources: Vec<AlterConfigsResource> [0+],
        validate_only: bool [0+],
    }
}

structure! {
    /// An element of [`AlterConfigsRequest::resources`].
    AlterConfigsResource {
        resource_type: i8 [0+],
        resource_name: Text [0+],
        configs: Vec<AlterableConfig> [0+],
    }
}

structure! {
    /// An element of [`AlterConfigsResource::configs`].
    AlterableConfig {
        name: Text [0+],
        value: Option<Text> [0+],
    }
}

message! {
    /// The outcome by resource.
    AlterConfigsResponse [0-2, flexible 2+] {
        throttle_time_ms: i32 [0+],
        responses: Vec<AlterConfigsResourceResponse> [0+],
    }
}

structure! {
    /// An element of [`AlterConfigsResponse::responses`].
    AlterConfigsResourceResponse {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        resource_type: i8 [0+],
        resource_name: Text [0+],
    }
}
