//! Ways to note facts in a row that come out the same in whatever order the facts come.

use conveyor_processors::table::Row;
use conveyor_processors::{Source, Value};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::event::{Event, Moment};

/// Stands in a key where an event does not say the warehouse, the zone, the worker or the station.
pub(super) const NOT_SAID: &str = "-";

/// What an event says, or that it does not say it.
pub(super) fn or_not_said(said: Option<&str>) -> &str {
    said.filter(|text| !text.is_empty()).unwrap_or(NOT_SAID)
}

/// The start of the window of this width that a moment lies in.
pub(super) const fn window_start(at_ms: i64, width_ms: i64) -> i64 {
    at_ms.saturating_sub(at_ms.rem_euclid(width_ms))
}

/// The day of a moment in UTC as a number: 20261123. One for all that dates cannot name, before and after.
pub(super) fn day_of(at_ms: i64) -> i64 {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => {
            let date = at.to_zoned(TimeZone::UTC).date();
            let (year, month, day) = (date.year(), date.month(), date.day());
            i64::from(year) * 10_000 + i64::from(month) * 100 + i64::from(day)
        }
        Err(_) if at_ms < 0 => -99_999_999,
        Err(_) => 99_999_999,
    }
}

/// `part` of `whole`, 0 to 1; 0 of nothing.
pub(super) fn share(part: i64, whole: i64) -> f64 {
    if whole > 0 {
        part as f64 / whole as f64
    } else {
        0.0
    }
}

/// When it happened: what the payload says, else the event, else the record.
pub(super) fn happened_ms(said: Option<Moment>, event: &Event, source: &Source) -> i64 {
    said.or(event.attributes.time)
        .map_or(source.timestamp_ms, |at| at.0)
}

/// Notes a time; the earliest stays.
pub(super) fn first_at(row: &mut Row, column: &str, at_ms: i64) {
    if row
        .timestamp_ms(column)
        .is_none_or(|known_ms| at_ms < known_ms)
    {
        row.set(column, Value::timestamp_ms(at_ms));
    }
}

/// Notes a time; the latest stays.
pub(super) fn last_at(row: &mut Row, column: &str, at_ms: i64) {
    if row
        .timestamp_ms(column)
        .is_none_or(|known_ms| at_ms > known_ms)
    {
        row.set(column, Value::timestamp_ms(at_ms));
    }
}

/// Notes a text that never changes once it is known. Nothing and empty text say nothing.
pub(super) fn known(row: &mut Row, column: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty())
        && row.text(column).is_none()
    {
        row.set(column, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_number_that_reads_like_a_date() {
        assert_eq!(day_of(1_795_406_706_789), 20_261_123);
        assert_eq!((day_of(0), day_of(-1)), (19_700_101, 19_691_231));
        assert_eq!(
            (day_of(i64::MAX), day_of(i64::MIN)),
            (99_999_999, -99_999_999)
        );
    }
}
