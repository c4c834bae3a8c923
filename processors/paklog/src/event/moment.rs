//! A point in time as `PakLog`'s services write it.
//!
//! Written as an ISO 8601 string in UTC with milliseconds. Read from that, from a local date-time or
//! a date (taken as UTC), from Jackson's number arrays `[year, month, day, hour, minute, second,
//! nanosecond]` (trailing parts may be missing) and from epoch numbers.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// Epoch numbers below this are seconds, from it on milliseconds: it is 5138 in seconds and 1973 in
/// milliseconds, so no date that a warehouse writes is ambiguous.
const EPOCH_SECONDS_MAX: f64 = 1e11;

impl Moment {
    /// Reads the text forms.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Some(Self(timestamp.as_millisecond()));
        }
        let local = text.parse::<DateTime>().ok().or_else(|| {
            text.parse::<Date>()
                .ok()
                .map(|date| date.to_datetime(jiff::civil::Time::midnight()))
        })?;
        Self::from_civil(local)
    }

    fn from_civil(local: DateTime) -> Option<Self> {
        let zoned = local.to_zoned(TimeZone::UTC).ok()?;
        Some(Self(zoned.timestamp().as_millisecond()))
    }

    fn from_number(number: f64) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        let millis = if number.abs() < EPOCH_SECONDS_MAX {
            number * 1000.0
        } else {
            number
        };
        Timestamp::from_millisecond(millis.round() as i64)
            .ok()
            .map(|at| Self(at.as_millisecond()))
    }

    fn from_parts(parts: &[i64]) -> Option<Self> {
        let part = |index: usize| parts.get(index).copied().unwrap_or(0);
        if parts.len() < 3 {
            return None;
        }
        let local = DateTime::new(
            i16::try_from(part(0)).ok()?,
            i8::try_from(part(1)).ok()?,
            i8::try_from(part(2)).ok()?,
            i8::try_from(part(3)).ok()?,
            i8::try_from(part(4)).ok()?,
            i8::try_from(part(5)).ok()?,
            i32::try_from(part(6)).ok()?,
        )
        .ok()?;
        Self::from_civil(local)
    }
}

impl fmt::Display for Moment {
    /// `2017-01-01T18:24:46.000Z`; a moment outside of the years that dates can name is written as
    /// its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MomentVisitor)
    }
}

struct MomentVisitor;

impl<'de> Visitor<'de> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date as ISO text, as an array of numbers, or as an epoch number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
        Moment::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Moment, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Moment, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Moment, E> {
        Moment::from_number(number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Moment, A::Error> {
        let mut parts = [0_i64; 7];
        let mut length = 0;
        while let Some(part) = seq.next_element::<i64>()? {
            *parts
                .get_mut(length)
                .ok_or_else(|| de::Error::invalid_length(length + 1, &self))? = part;
            length += 1;
        }
        Moment::from_parts(&parts[..length]).ok_or_else(|| de::Error::invalid_length(length, &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_date_is_the_same_moment() {
        let expected = Moment(1_762_164_906_500);
        for json in [
            r#""2025-11-03T10:15:06.500Z""#,
            r#""2025-11-03T11:15:06.5+01:00""#,
            r#""2025-11-03T10:15:06.5""#,
            "[2025,11,3,10,15,6,500000000]",
            "1762164906.5",
            "1762164906500",
        ] {
            assert_eq!(
                serde_json::from_str::<Moment>(json).expect(json),
                expected,
                "{json}"
            );
        }
        assert_eq!(expected.to_string(), "2025-11-03T10:15:06.500Z");
    }

    #[test]
    fn a_short_array_means_zero_for_what_is_missing() {
        let midnight = serde_json::from_str::<Moment>("[2025,11,3]").expect("a date");
        assert_eq!(midnight, Moment::parse("2025-11-03").expect("a date"));
    }

    #[test]
    fn nonsense_is_an_error() {
        for json in [
            "[2025,13,3]",
            "[2025]",
            "[1,2,3,4,5,6,7,8]",
            r#""soon""#,
            "1e300",
            "null",
            "{}",
        ] {
            assert!(serde_json::from_str::<Moment>(json).is_err(), "{json}");
        }
    }
}
