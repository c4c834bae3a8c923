//! `UpdateFeatures`: changes finalized feature levels.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The features and their wanted levels.
    UpdateFeaturesRequest [0-2, flexible 0+] {
        timeout_ms: i32 [0+] = 60000,
        feature_updates: Vec<FeatureUpdateKey> [0+],
        validate_only: bool [1+],
    }
}

structure! {
    /// An element of [`UpdateFeaturesRequest::feature_updates`].
    FeatureUpdateKey {
        feature: Text [0+],
        max_version_level: i16 [0+],
        allow_downgrade: bool [0-0],
        upgrade_type: i8 [1+] = 1,
    }
}

message! {
    /// The outcome by feature.
    UpdateFeaturesResponse [0-2, flexible 0+] {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        results: Vec<UpdatableFeatureResult> [0-1, ignorable],
    }
}

structure! {
    /// An element of [`UpdateFeaturesResponse::results`].
    UpdatableFeatureResult {
        feature: Text [0+],
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
    }
}
