//! `ApiVersions`: the APIs and versions served, the first question of most clients (KIP-511).
//!
//! The response keeps header version 0 in every version. A client that asks with a version above
//! ours is answered by [`unsupported`].

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use conveyor_kafka::{ApiKey, Text};
use conveyor_transaction::TransactionVersion;

use super::apis::{ApiRow, rows};
use super::{KafkaCall, KafkaService};

/// The version that clients read when they do not know ours, and the one that has names in it.
const NAMES_SINCE: i16 = 3;
/// The first version whose clients know features that begin with level 0.
const LEVEL_ZERO_SINCE: i16 = 4;
/// The feature by which producers raise their epoch with every transaction (KIP-890), once it is
/// finalized at level 2.
const TRANSACTION_VERSION: &str = "transaction.version";
/// Older clients look for one exact old version of Produce before they compress, and older brokers
/// would have served it. It is listed and refused, as by Kafka.
const PRODUCE_LISTED_SINCE: i16 = 0;

pub(super) async fn api_versions(
    _: &Arc<KafkaService>,
    call: &KafkaCall,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let names = [
        request.client_software_name.as_str(),
        request.client_software_version.as_str(),
    ];
    if call.version >= NAMES_SINCE && !names.into_iter().all(is_legal) {
        return ApiVersionsResponse {
            error_code: call.code(ErrorCode::InvalidRequest),
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse {
        error_code: call.code(ErrorCode::None),
        api_keys: versions(),
        supported_features: supported_features(call.version),
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey {
            name: Text::from(TRANSACTION_VERSION),
            min_version_level: TransactionVersion::V2.level(),
            max_version_level: TransactionVersion::V2.level(),
        }],
        ..ApiVersionsResponse::default()
    }
}

/// The features that could be switched. Clients that ask by version 3 take a lowest level of 0 for
/// a fault (KAFKA-17011) and are not told of them.
fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    if version < LEVEL_ZERO_SINCE {
        return Vec::new();
    }
    vec![SupportedFeatureKey {
        name: Text::from(TRANSACTION_VERSION),
        min_version: TransactionVersion::V0.level(),
        max_version: TransactionVersion::V2.level(),
    }]
}

/// The answer to a version that is not served, to be sent as version 0.
pub(super) fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code() as i16,
        api_keys: versions(),
        ..ApiVersionsResponse::default()
    }
}

/// Every API by key.
fn versions() -> Vec<ApiVersion> {
    let mut versions: Vec<ApiVersion> = rows().map(listed).collect();
    versions.sort_by_key(|listed| listed.api_key);
    versions
}

fn listed(row: &ApiRow) -> ApiVersion {
    ApiVersion {
        api_key: row.key.code(),
        min_version: match row.key {
            ApiKey::Produce => PRODUCE_LISTED_SINCE,
            _ => *row.versions.start(),
        },
        max_version: *row.versions.end(),
    }
}

/// Letters, digits, dots and hyphens, the first and last neither dot nor hyphen (KIP-511).
fn is_legal(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(inner)
}

#[cfg(test)]
mod tests {
    use super::is_legal;

    #[test]
    fn names_of_software() {
        for name in ["apache-kafka-java", "4.3.1", "librdkafka", "a"] {
            assert!(is_legal(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "a_b", "ä"] {
            assert!(!is_legal(name), "{name}");
        }
    }
}
