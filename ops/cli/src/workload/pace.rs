//! How fast events are sent: as event time passes, sped up, or as fast as they are taken.

use std::str::FromStr;
use std::time::Duration;

/// `--speed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as they are taken.
    Max,
    /// Event time passes so many times as fast as time.
    Times(f64),
}

/// A speed that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no speed: a number above 0 (3600: an hour of events a second) or max")]
pub(crate) struct SpeedError {
    text: String,
}

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.trim_end_matches('x').parse::<f64>().ok();
        match times.filter(|times| *times > 0.0 && times.is_finite()) {
            Some(times) => Ok(Self::Times(times)),
            None => Err(SpeedError {
                text: text.to_owned(),
            }),
        }
    }
}

impl Speed {
    /// How long after the first event one is due, by the times at which the two happened (ms).
    pub(crate) fn due(self, first_event_ms: i64, event_ms: i64) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(times) => {
                let passed_ms = event_ms.saturating_sub(first_event_ms).max(0) as f64;
                Duration::try_from_secs_f64(passed_ms / 1000.0 / times).unwrap_or(Duration::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_is_sped_up() {
        let speed: Speed = "3600x".parse().unwrap();
        assert_eq!(speed.due(1_000, 3_601_000), Duration::from_secs(1));
        assert_eq!(speed.due(5_000, 1_000), Duration::ZERO);
        assert_eq!(
            "max".parse::<Speed>().unwrap().due(0, i64::MAX),
            Duration::ZERO
        );
        for text in ["0", "-1", "fast", "NaN", "inf", ""] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
