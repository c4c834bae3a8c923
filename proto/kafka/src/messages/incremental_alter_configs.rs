//! `IncrementalAlterConfigs`: sets, deletes, appends to and takes from single settings.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The operations by resource.
    IncrementalAlterConfigsRequest [0-1, flexible 1+] {
        resources: Vec<AlterConfigsResource> [0+],
        validate_only: bool [0+],
    }
}

structure! {
    /// An element of [`IncrementalAlterConfigsRequest::resources`].
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
        config_operation: i8 [0+],
        value: Option<Text> [0+],
    }
}

message! {
    /// The outcome by resource.
    IncrementalAlterConfigsResponse [0-1, flexible 1+] {
        throttle_time_ms: i32 [0+],
        responses: Vec<AlterConfigsResourceResponse> [0+],
    }
}

structure! {
    /// An element of [`IncrementalAlterConfigsResponse::responses`].
    AlterConfigsResourceResponse {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        resource_type: i8 [0+],
        resource_name: Text [0+],
    }
}
