//! `ApiVersions`: the APIs and versions that a broker serves, asked first on a connection.
//!
//! The response travels with header version 0 in every version, since a client reads it before it
//! knows what the broker speaks.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The name and version of the client's software.
    ApiVersionsRequest [0-4, flexible 3+] {
        client_software_name: Text [3+, ignorable],
        client_software_version: Text [3+, ignorable],
    }
}

message! {
    /// Ranges of versions by API, and finalized features.
    ApiVersionsResponse [0-4, flexible 3+] {
        error_code: i16 [0+],
        api_keys: Vec<ApiVersion> [0+],
        throttle_time_ms: i32 [1+, ignorable],
    } tagged {
        0 supported_features: Vec<SupportedFeatureKey> [3+, ignorable],
        1 finalized_features_epoch: i64 [3+, ignorable] = -1,
        2 finalized_features: Vec<FinalizedFeatureKey> [3+, ignorable],
        3 zk_migration_ready: bool [3+, ignorable],
    }
}

structure! {
    /// An element of [`ApiVersionsResponse::api_keys`].
    ApiVersion {
        api_key: i16 [0+],
        min_version: i16 [0+],
        max_version: i16 [0+],
    }
}

structure! {
    /// An element of [`ApiVersionsResponse::supported_features`].
    SupportedFeatureKey {
        name: Text [3+],
        min_version: i16 [3+],
        max_version: i16 [3+],
    }
}

structure! {
    /// An element of [`ApiVersionsResponse::finalized_features`].
    FinalizedFeatureKey {
        name: Text [3+],
        max_version_level: i16 [3+],
        min_version_level: i16 [3+],
    }
}
