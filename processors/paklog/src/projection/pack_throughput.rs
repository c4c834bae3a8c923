//! `pack_throughput`: whether packing keeps up, by station and minute.
//!
//! Tumbling windows of one minute by event time: an event counts in the minute in which it happened,
//! however late it is read, so a window is never closed and a late event mends it.
//!
//! Facts: which station a pack session is at (said by its start alone, so a small row of each open
//! session remembers it), sessions finished with their lines, cartons, grams and seconds, and checks
//! passed and failed. All events of a session stand in one partition, its start first. Sums of whole
//! numbers do not depend on order; weight is summed in grams for that reason, and shown in kilograms.
//!
//! `durations` holds how many sessions took how many seconds, `[seconds, sessions]`, exactly (a session
//! of more than a day counts as one day): `p50_s` and `p95_s` are exact (nearest rank), and those of an
//! hour or of all stations come from adding up the lists of their rows.

use std::collections::BTreeMap;

use conveyor_processors::table::Row;
use conveyor_processors::{
    ApplyError, ColumnType, Declaration, KeyPart, Projection, RowKey, Rows, Source, Table, Value,
};

use super::facts::{happened_ms, known, or_not_said, share, window_start};
use crate::event::payload::PackSessionCompleted;
use crate::event::{Event, Payload};
use crate::topics::Topic;

const TABLE: &str = "pack_throughput";
const SESSIONS: &str = "pack_throughput_session";

/// Width of a window.
const MINUTE_MS: i64 = 60_000;
/// A session that took longer counts as this.
const DURATION_MAX_S: i64 = 86_400;

/// What each packing station did in each minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackThroughput;

impl Projection for PackThroughput {
    type Event = Event;

    fn declaration(&self) -> Declaration {
        let window = [
            ("station", ColumnType::Text),
            ("minute_ms", ColumnType::Integer),
        ];
        let minutes = Table::new(TABLE, &window)
            .column("minute", ColumnType::Timestamp)
            .column("orders", ColumnType::Integer)
            .column("items", ColumnType::Integer)
            .column("cartons", ColumnType::Integer)
            .column("weight_g", ColumnType::Integer)
            .column("weight", ColumnType::Real)
            .column("qc_pass", ColumnType::Integer)
            .column("qc_fail", ColumnType::Integer)
            .column("qc_pass_rate", ColumnType::Real)
            .column("p50_s", ColumnType::Integer)
            .column("p95_s", ColumnType::Integer)
            .column("durations", ColumnType::Json)
            .index("minute");
        let sessions = Table::new(SESSIONS, &[("session_id", ColumnType::Text)])
            .column("station", ColumnType::Text);
        Declaration::new(TABLE, 2)
            .source(Topic::Pack.name())
            .table(minutes)
            .table(sessions)
    }

    fn touches(&self, event: &Event, _source: &Source) -> Vec<RowKey> {
        session_of(&event.payload)
            .map(|session_id| RowKey::new(SESSIONS, session_id))
            .into_iter()
            .collect()
    }

    fn apply(&self, event: &Event, source: &Source, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(session_id) = session_of(&event.payload) else {
            return Ok(());
        };
        let session = RowKey::new(SESSIONS, session_id);
        if let Payload::PackSessionStarted(started) = &event.payload {
            let row = rows.edit(&session)?;
            known(row, "station", Some(&started.packing_station));
            return Ok(());
        }
        let station = rows.get(&session)?.and_then(|row| row.text("station"));
        let station = or_not_said(station).to_owned();
        let said = match &event.payload {
            Payload::QualityChecked(check) => check.checked_at,
            Payload::PackSessionCompleted(session) => session.completed_at,
            _ => None,
        };
        let minute_ms = window_start(happened_ms(said, event, source), MINUTE_MS);
        let key = [KeyPart::from(station), KeyPart::from(minute_ms)];
        let row = rows.edit(&RowKey::of(TABLE, key))?;
        row.set("minute", Value::timestamp_ms(minute_ms));
        match &event.payload {
            Payload::QualityChecked(check) if check.passed() => row.increment("qc_pass", 1),
            Payload::QualityChecked(_) => row.increment("qc_fail", 1),
            Payload::PackSessionCompleted(completed) => finished(row, completed)?,
            _ => row,
        };
        let (passed, failed) = (row.integer("qc_pass"), row.integer("qc_fail"));
        row.set("qc_pass_rate", share(passed, passed + failed));
        if matches!(event.payload, Payload::PackSessionCompleted(_)) {
            rows.delete(&session)?;
        }
        Ok(())
    }
}

fn session_of(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::PackSessionStarted(session) => Some(&session.session_id),
        Payload::QualityChecked(check) => Some(&check.session_id),
        Payload::PackSessionCompleted(session) => Some(&session.session_id),
        _ => None,
    }
}

/// Counts a session that is done.
fn finished<'r>(
    row: &'r mut Row,
    session: &PackSessionCompleted,
) -> Result<&'r mut Row, ApplyError> {
    let grams = (session.total_weight_kg * 1000.0).round() as i64;
    row.increment("orders", 1)
        .increment("items", session.items_packed)
        .increment("cartons", session.cartons_used)
        .increment("weight_g", grams);
    let mut durations = durations(row)?;
    let seconds = session.duration_seconds.clamp(0, DURATION_MAX_S);
    *durations.entry(seconds).or_default() += 1;
    let (p50, p95) = (percentile(&durations, 50), percentile(&durations, 95));
    let pairs = durations
        .into_iter()
        .map(|(seconds, n)| [seconds, n].into());
    row.set("durations", serde_json::Value::Array(pairs.collect()))
        .set("p50_s", p50)
        .set("p95_s", p95);
    let kilograms = row.integer("weight_g") as f64 / 1000.0;
    Ok(row.set("weight", kilograms))
}

/// How many sessions took how many seconds.
fn durations(row: &Row) -> Result<BTreeMap<i64, i64>, ApplyError> {
    let Some(json) = row.json("durations") else {
        return Ok(BTreeMap::new());
    };
    let pairs: Vec<(i64, i64)> = serde::Deserialize::deserialize(json)
        .map_err(|error| ApplyError::record(format!("the store's list of durations: {error}")))?;
    Ok(pairs.into_iter().collect())
}

/// The least duration that `percent` of the sessions did not exceed.
fn percentile(durations: &BTreeMap<i64, i64>, percent: i64) -> Option<i64> {
    let all: i64 = durations.values().sum();
    let rank = (all * percent + 99) / 100;
    let mut seen = 0;
    durations.iter().find_map(|(seconds, sessions)| {
        seen += sessions;
        (seen >= rank).then_some(*seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let durations: BTreeMap<_, _> = [(10, 1), (20, 18), (90, 1)].into();
        assert_eq!(percentile(&durations, 50), Some(20));
        assert_eq!(percentile(&durations, 95), Some(20));
        assert_eq!(percentile(&durations, 96), Some(90));
        assert_eq!(percentile(&BTreeMap::new(), 50), None);
    }
}
