//! Rows in and out of the file.

use std::sync::Arc;

use conveyor_processors::rows::{Change, Rows};
use conveyor_processors::{ColumnType, Declaration, KeyPart, Row, RowKey, Table, Value};
use rusqlite::types::{ToSql, ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row as SqlRow, params_from_iter};

use super::{Failure, statements};
use crate::moment;

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
            Some(row) => Some(read_row(declaration.stored_name(), table, row)?),
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
        projection: declaration.stored_name().to_owned(),
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
        Value::Timestamp(ms) => ToSqlOutput::Owned(SqlValue::Text(moment::to_text(*ms))),
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
        ColumnType::Timestamp => moment::from_text(cell.as_str().ok()?).map(Value::Timestamp),
        ColumnType::Json => Some(Value::Json(serde_json::from_str(cell.as_str().ok()?).ok()?)),
    }
}
