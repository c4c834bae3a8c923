//! `DescribeConfigs`: settings of topics, brokers and groups, with their sources.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The resources, and which of their settings.
    DescribeConfigsRequest [1-4, flexible 4+] {
        resources: Vec<DescribeConfigsResource> [0+],
        include_synonyms: bool [1+],
        include_documentation: bool [3+],
    }
}

structure! {
    /// An element of [`DescribeConfigsRequest::resources`].
    DescribeConfigsResource {
        resource_type: i8 [0+],
        resource_name: Text [0+],
        configuration_keys: Option<Vec<Text>> [0+],
    }
}

message! {
    /// Settings by resource.
    DescribeConfigsResponse [1-4, flexible 4+] {
        throttle_time_ms: i32 [0+],
        results: Vec<DescribeConfigsResult> [0+],
    }
}

structure! {
    /// An element of [`DescribeConfigsResponse::results`].
    DescribeConfigsResult {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        resource_type: i8 [0+],
        resource_name: Text [0+],
        configs: Vec<DescribeConfigsResourceResult> [0+],
    }
}

structure! {
    /// An element of [`DescribeConfigsResult::configs`].
    DescribeConfigsResourceResult {
        name: Text [0+],
        value: Option<Text> [0+],
        read_only: bool [0+],
        config_source: i8 [1+, ignorable] = -1,
        is_sensitive: bool [0+],
        synonyms: Vec<DescribeConfigsSynonym> [1+, ignorable],
        config_type: i8 [3+, ignorable],
        documentation: Option<Text> [3+, ignorable],
    }
}

structure! {
    /// An element of [`DescribeConfigsResourceResult::synonyms`].
    DescribeConfigsSynonym {
        name: Text [1+],
        value: Option<Text> [1+],
        source: i8 [1+],
    }
}
