//! Moments as text, for stores that keep them as text: `2026-11-23T04:05:06.789Z` sorts, and people
//! and SQL read it.

use jiff::Timestamp;

/// `2026-11-23T04:05:06.789Z`; the plain number for what lies outside the years -9999 to 9999.
pub(crate) fn to_text(timestamp_ms: i64) -> String {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => timestamp_ms.to_string(),
    }
}

pub(crate) fn from_text(text: &str) -> Option<i64> {
    match text.parse::<Timestamp>() {
        Ok(timestamp) => Some(timestamp.as_millisecond()),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_read_like_dates() {
        assert_eq!(to_text(1_795_406_706_789), "2026-11-23T04:05:06.789Z");
        assert_eq!(to_text(0), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn every_timestamp_comes_back(timestamp: i64) {
            prop_assert_eq!(from_text(&to_text(timestamp)), Some(timestamp));
        }
    }
}
