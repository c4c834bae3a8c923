//! Which records to read, as rpk writes it: `start`, `end`, `:end`, `42`, `+5`, `-10`, `42:`, `:50`,
//! `42:50`, `@1700000000000`, `@2026-11-23T04:00:00Z`, `@-2h`, `@-48h:-24h`.

use std::str::FromStr;

/// From where to where to read each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetRange {
    pub(crate) from: Bound,
    /// Not included; `None`: go on for ever.
    pub(crate) until: Option<Bound>,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The first record there is.
    Start,
    /// Behind the last one, as it is now.
    End,
    /// An offset.
    At(i64),
    /// So many records after the start.
    AfterStart(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record not older than this, in ms since the epoch.
    Time(i64),
    /// The first record not older than this before now, in ms.
    Ago(i64),
}

/// A range that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no range of offsets: start, end, :end, N, N:M, +N (from the start), -N (from the \
     end), @MS, @2026-01-31T12:00:00Z, @-2h or @-48h:-24h"
)]
pub(crate) struct RangeError {
    text: String,
}

impl FromStr for OffsetRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        parse(text).ok_or_else(|| RangeError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<OffsetRange> {
    if let Some(times) = text.strip_prefix('@') {
        return parse_times(times);
    }
    let (from, until) = match text.split_once(':') {
        Some(("", until)) => (Bound::Start, Some(bound(until)?)),
        Some((from, "")) => (bound(from)?, None),
        Some((from, until)) => (bound(from)?, Some(bound(until)?)),
        None => (bound(text)?, None),
    };
    Some(OffsetRange { from, until })
}

fn bound(text: &str) -> Option<Bound> {
    match text {
        "start" | "oldest" | "beginning" => return Some(Bound::Start),
        "end" | "newest" => return Some(Bound::End),
        _ => {}
    }
    let count = |digits: &str| digits.parse::<i64>().ok().filter(|n| *n >= 0);
    match text.split_at_checked(1)? {
        ("+", digits) => count(digits).map(Bound::AfterStart),
        ("-", digits) => count(digits).map(Bound::BeforeEnd),
        _ => count(text).map(Bound::At),
    }
}

/// `T` or `T1:T2`; times of day have colons of their own, so each colon is tried.
fn parse_times(text: &str) -> Option<OffsetRange> {
    if let Some(from) = time(text) {
        return Some(OffsetRange { from, until: None });
    }
    text.match_indices(':').find_map(|(at, _)| {
        let (from, until) = (time(text.get(..at)?)?, time(text.get(at + 1..)?)?);
        Some(OffsetRange {
            from,
            until: Some(until),
        })
    })
}

fn time(text: &str) -> Option<Bound> {
    if text == "end" {
        return Some(Bound::End);
    }
    if let Some(ago) = text.strip_prefix('-') {
        return duration_ms(ago).map(Bound::Ago);
    }
    if let Ok(timestamp_ms) = text.parse::<i64>() {
        return Some(Bound::Time(timestamp_ms));
    }
    let moment: jiff::Timestamp = match text.parse() {
        Ok(moment) => moment,
        Err(_) if text.len() == 10 => format!("{text}T00:00:00Z").parse().ok()?,
        Err(_) => return None,
    };
    Some(Bound::Time(moment.as_millisecond()))
}

/// `90s`, `1h30m`, `7d`.
fn duration_ms(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, unit_and_rest) = rest.split_at_checked(digits)?;
        let (unit, next) = unit_and_rest.split_at_checked(1)?;
        let (unit_ms, next) = match (unit, next.strip_prefix('s')) {
            ("m", Some(next)) => (1, next),
            ("s", _) => (1_000, next),
            ("m", _) => (60_000, next),
            ("h", _) => (3_600_000, next),
            ("d", _) => (86_400_000, next),
            _ => return None,
        };
        total = total.checked_add(count.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> (Bound, Option<Bound>) {
        let range: OffsetRange = text.parse().unwrap_or_else(|e| panic!("{e}"));
        (range.from, range.until)
    }

    #[test]
    fn offsets() {
        assert_eq!(range("start"), (Bound::Start, None));
        assert_eq!(range(":end"), (Bound::Start, Some(Bound::End)));
        assert_eq!(range("42"), (Bound::At(42), None));
        assert_eq!(range("42:"), (Bound::At(42), None));
        assert_eq!(range("42:50"), (Bound::At(42), Some(Bound::At(50))));
        assert_eq!(range("+5"), (Bound::AfterStart(5), None));
        assert_eq!(range("-10:end"), (Bound::BeforeEnd(10), Some(Bound::End)));
    }

    #[test]
    fn times() {
        assert_eq!(
            range("@1700000000000"),
            (Bound::Time(1_700_000_000_000), None)
        );
        assert_eq!(
            range("@2026-11-23T04:05:06.789Z"),
            (Bound::Time(1_795_406_706_789), None)
        );
        assert_eq!(range("@1970-01-02"), (Bound::Time(86_400_000), None));
        assert_eq!(range("@-1h30m"), (Bound::Ago(5_400_000), None));
        assert_eq!(
            range("@-48h:-24h"),
            (Bound::Ago(172_800_000), Some(Bound::Ago(86_400_000)))
        );
        assert_eq!(
            range("@1970-01-01T00:00:01Z:1970-01-01T00:00:02Z"),
            (Bound::Time(1_000), Some(Bound::Time(2_000)))
        );
        assert_eq!(range("@-250ms:end"), (Bound::Ago(250), Some(Bound::End)));
    }

    #[test]
    fn nonsense_is_refused_with_what_is_known() {
        for text in ["", "now", "1:x", "--3", "@", "@-", "@-5x", "+"] {
            let error = text.parse::<OffsetRange>().unwrap_err().to_string();
            assert!(error.contains("@-48h:-24h"), "{error}");
        }
    }
}
