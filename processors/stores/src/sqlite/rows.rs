//! Rows in and out of the file.

use std::sync::Arc;

use conveyor_processors::rows::{Change, Rows};
use conveyor_processors::{ColumnType, Declaration, KeyPart, Row, RowKey, Table, Value};
use jiff::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row as SqlRow, params_from_iter};

use super::{Failure, statements};

/// Loads the rows of some keys into a working set; keys without a row as absent.
pub(super) fn load(
    connection: &Connection,
    declaration: &Declaration,
    keys: Vec<RowKey>,
    rows: &mut Rows,
) -> Result<(), Failure> {
    for key in keys {
        let table = table_of(declaration, key.table)?;
        let mut statement = connection.prepare_cached(&statements::select_by_key(table))?;
        let mut found = statement.query(params_from_iter(key.parts.iter().map(SqlKey)))?;
        let row = match found.next()? {
            Some(row) => Some(read_row(declaration.name(), table, row)?),
            None => None,
        };
        rows.load(key, row);
    }
    Ok(())
}

pub(super) fn write(
    connection: &Connection,
    declaration: &Declaration,
    changes: &[Change],
) -> Result<(), Failure> {
    for change in changes {
        match change {
            Change::Put(row) => {
                let upsert = statements::upsert(row.table());
                connection
                    .prepare_cached(&upsert)?
                    .execute(params_from_iter(row.values().iter().map(to_sql)))?;
            }
            Change::Delete(key) => {
                let table = table_of(declaration, key.table)?;
                connection
                    .prepare_cached(&statements::delete(table))?
                    .execute(params_from_iter(key.parts.iter().map(SqlKey)))?;
            }
        }
    }
    Ok(())
}

/// All rows of a table, in key order.
pub(super) fn read_all(connection: &Connection, table: &Arc<Table>) -> Result<Vec<Row>, Failure> {
    let mut statement = connection.prepare_cached(&statements::select_all(table))?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(read_row(table.name(), table, row)?);
    }
    Ok(rows)
}

fn table_of<'d>(declaration: &'d Declaration, name: &str) -> Result<&'d Arc<Table>, Failure> {
    declaration.find_table(name).ok_or_else(|| Failure::Schema {
        projection: declaration.name().to_owned(),
        reason: format!("it names rows of table {name}, which it does not declare"),
    })
}

fn read_row(projection: &str, table: &Arc<Table>, row: &SqlRow<'_>) -> Result<Row, Failure> {
    let unreadable = |what: String| Failure::Schema {
        projection: projection.to_owned(),
        reason: format!("{what}; has somebody else written to the file?"),
    };
    let mut values = Vec::with_capacity(table.columns().len());
    for (index, column) in table.columns().iter().enumerate() {
        let value = from_sql(column.column_type, row.get_ref(index)?).ok_or_else(|| {
            unreadable(format!(
                "a row of {} has no {} in {}",
                table.name(),
                column.column_type,
                column.name
            ))
        })?;
        values.push(value);
    }
    Row::from_values(table, values)
        .ok_or_else(|| unreadable(format!("a row of {} does not fit it", table.name())))
}

/// A key's part as a parameter, borrowed.
struct SqlKey<'k>(&'k KeyPart);

impl ToSql for SqlKey<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            KeyPart::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            KeyPart::Integer(number) => ToSqlOutput::Owned(SqlValue::Integer(*number)),
        })
    }
}

fn to_sql(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Owned(SqlValue::Null),
        Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Value::Integer(number) => ToSqlOutput::Owned(SqlValue::Integer(*number)),
        Value::Real(number) => ToSqlOutput::Owned(SqlValue::Real(*number)),
        Value::Boolean(truth) => ToSqlOutput::Owned(SqlValue::Integer(i64::from(*truth))),
        Value::Timestamp(ms) => ToSqlOutput::Owned(SqlValue::Text(timestamp_text(*ms))),
        Value::Json(json) => ToSqlOutput::Owned(SqlValue::Text(json.to_string())),
    }
}

/// The value, or `None` when the cell holds something else.
fn from_sql(column_type: ColumnType, cell: ValueRef<'_>) -> Option<Value> {
    if matches!(cell, ValueRef::Null) {
        return Some(Value::Null);
    }
    match column_type {
        ColumnType::Text => Some(Value::Text(cell.as_str().ok()?.to_owned())),
        ColumnType::Integer => Some(Value::Integer(cell.as_i64().ok()?)),
        ColumnType::Real => Some(Value::Real(cell.as_f64().ok()?)),
        ColumnType::Boolean => Some(Value::Boolean(cell.as_i64().ok()? != 0)),
        ColumnType::Timestamp => timestamp_ms(cell.as_str().ok()?).map(Value::Timestamp),
        ColumnType::Json => Some(Value::Json(serde_json::from_str(cell.as_str().ok()?).ok()?)),
    }
}

/// `2026-11-23T04:05:06.789Z`; the plain number for what lies outside the years -9999 to 9999.
fn timestamp_text(timestamp_ms: i64) -> String {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => timestamp_ms.to_string(),
    }
}

fn timestamp_ms(text: &str) -> Option<i64> {
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
        assert_eq!(
            timestamp_text(1_795_406_706_789),
            "2026-11-23T04:05:06.789Z"
        );
        assert_eq!(timestamp_text(0), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn every_timestamp_comes_back(timestamp: i64) {
            prop_assert_eq!(timestamp_ms(&timestamp_text(timestamp)), Some(timestamp));
        }
    }
}
