//! The two hidden tables of a projection.
//!
//! | table | key | columns |
//! |---|---|---|
//! | `<projection>_parked_keys` | `topic`, `partition`, `parked_at` | `record_key`, `error`, `reason`, `attempts`, `since`, `queue` (offsets, in order) |
//! | `<projection>_parked` | `topic`, `partition`, `offset` | `parked_at`, `recorded_at`, `record` (key, value and headers as JSON) |
//!
//! The first is small and read whole when a partition is claimed; records are read when they are
//! redriven.

use std::collections::BTreeSet;

use conveyor_record::Offset;
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::encoding::{bytes_from_json, bytes_to_json, record_from_json, record_to_json};
use super::{DamagedRecord, Failure, KeyName, ParkedKey};
use crate::projection::{ApplyError, Declaration};
use crate::record::{Source, SourceRecord, TopicPartition};
use crate::rows::Rows;
use crate::table::{Row, RowKey, Table};
use crate::value::{ColumnType, KeyPart, Value};

/// The hidden tables of one projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedTables {
    keys: &'static str,
    records: &'static str,
}

impl ParkedTables {
    /// Those of the projection of that name.
    pub fn of(projection: &str) -> Self {
        Self {
            keys: intern(format!("{projection}_parked_keys")),
            records: intern(format!("{projection}_parked")),
        }
    }

    /// Adds them to a declaration that does not have them yet.
    pub fn declare(&self, declaration: Declaration) -> Declaration {
        if declaration.find_table(self.keys).is_some() {
            return declaration;
        }
        let place = [
            ("topic", ColumnType::Text),
            ("partition", ColumnType::Integer),
        ];
        let keyed_by = |last| [place[0], place[1], (last, ColumnType::Integer)];
        let keys = Table::new(self.keys, &keyed_by("parked_at"))
            .column("record_key", ColumnType::Json)
            .column("error", ColumnType::Text)
            .column("reason", ColumnType::Text)
            .column("attempts", ColumnType::Integer)
            .column("since", ColumnType::Timestamp)
            .column("queue", ColumnType::Json);
        let records = Table::new(self.records, &keyed_by("offset"))
            .column("parked_at", ColumnType::Integer)
            .column("recorded_at", ColumnType::Timestamp)
            .column("record", ColumnType::Json);
        declaration.table(keys).table(records)
    }

    /// Name of the table of keys.
    pub const fn keys_table(&self) -> &'static str {
        self.keys
    }

    /// Name of the table of records.
    pub const fn records_table(&self) -> &'static str {
        self.records
    }

    /// The row of a parked key.
    pub fn key_row(&self, partition: &TopicPartition, parked_at: Offset) -> RowKey {
        row_key(self.keys, partition, parked_at)
    }

    /// The row of a record that waits.
    pub fn record_row(&self, partition: &TopicPartition, offset: Offset) -> RowKey {
        row_key(self.records, partition, offset)
    }

    /// Writes a key as it is now; one with an empty queue is removed.
    pub(crate) fn write_key(
        &self,
        rows: &mut Rows,
        partition: &TopicPartition,
        key: &ParkedKey,
    ) -> Result<(), ApplyError> {
        let row_key = self.key_row(partition, key.parked_at);
        if key.queue.is_empty() {
            return rows.delete(&row_key);
        }
        let queue: Vec<_> = key.queue.iter().map(|offset| offset.value()).collect();
        let record_key = bytes_to_json(key.name.key().map(|key| &**key));
        rows.edit(&row_key)?
            .set("record_key", json_or_null(record_key))
            .set("error", storable(&key.failure.error_name))
            .set("reason", storable(&key.failure.reason))
            .set("attempts", i64::from(key.attempts))
            .set("since", Value::timestamp_ms(key.since_ms))
            .set("queue", Json::from(queue));
        Ok(())
    }

    /// Writes a record that waits.
    pub(crate) fn write_record(
        &self,
        rows: &mut Rows,
        record: &SourceRecord,
        parked_at: Offset,
    ) -> Result<(), ApplyError> {
        let row_key = self.record_row(&record.topic_partition(), record.source.offset);
        rows.edit(&row_key)?
            .set("parked_at", parked_at.value())
            .set(
                "recorded_at",
                Value::timestamp_ms(record.source.timestamp_ms),
            )
            .set("record", record_to_json(record));
        Ok(())
    }

    /// Reads a row of the table of keys.
    pub fn read_key(&self, row: &Row) -> Result<(TopicPartition, ParkedKey), DamagedRecord> {
        let partition = partition_of(row)?;
        let parked_at = Offset(row.integer("parked_at"));
        let damaged = |what: &str| DamagedRecord::new(format!("{partition}@{parked_at}: {what}"));
        let queue = row.json("queue").and_then(Json::as_array);
        let queue: Option<Vec<_>> = queue.and_then(|offsets| {
            let offset = |o: &Json| o.as_i64().map(Offset);
            offsets.iter().map(offset).collect()
        });
        let queue = queue.filter(|queue| !queue.is_empty());
        let queue = queue.ok_or_else(|| damaged("it has no queue"))?;
        let name = match row.json("record_key").map(bytes_from_json).transpose()? {
            Some(Some(key)) => KeyName::Key(key),
            _ => KeyName::Alone(parked_at),
        };
        let attempts = u32::try_from(row.integer("attempts"));
        let parked = ParkedKey {
            name,
            parked_at,
            failure: Failure {
                error_name: row.text("error").unwrap_or_default().to_owned(),
                reason: row.text("reason").unwrap_or_default().to_owned(),
            },
            attempts: attempts.map_err(|_| damaged("its attempts are no count"))?,
            since_ms: row.timestamp_ms("since").unwrap_or_default(),
            queue,
        };
        Ok((partition, parked))
    }

    /// Reads a row of the table of records: the record, and where its key was parked.
    pub fn read_record(&self, row: &Row) -> Result<(SourceRecord, Offset), DamagedRecord> {
        let TopicPartition { topic, partition } = partition_of(row)?;
        let source = Source {
            topic,
            partition,
            offset: Offset(row.integer("offset")),
            timestamp_ms: row.timestamp_ms("recorded_at").unwrap_or_default(),
        };
        let json = row.json("record").unwrap_or(&Json::Null);
        Ok((
            record_from_json(json, source)?,
            Offset(row.integer("parked_at")),
        ))
    }
}

fn row_key(table: &'static str, partition: &TopicPartition, offset: Offset) -> RowKey {
    let parts: [KeyPart; 3] = [
        (*partition.topic).into(),
        partition.partition.into(),
        offset.value().into(),
    ];
    RowKey::of(table, parts)
}

fn partition_of(row: &Row) -> Result<TopicPartition, DamagedRecord> {
    let topic = row.text("topic").unwrap_or_default();
    let partition = i32::try_from(row.integer("partition"));
    let partition = partition.map_err(|_| DamagedRecord::new("a partition is no number"))?;
    Ok(TopicPartition::new(topic, partition))
}

/// No key is an empty cell: JSON's own `null` in a cell reads the same in some stores.
fn json_or_null(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        json => Value::Json(json),
    }
}

/// A decoder's reason may quote what it read, and some stores cannot keep NUL in text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Table names live as long as the program; each is kept once.
fn intern(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str());
    names.insert(name);
    name
}
