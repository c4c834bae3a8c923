//! Rows as hashes: a field for each column that holds something, `@` for the row's version.
//!
//! Text and JSON are themselves, numbers decimal, truth values 1 and 0, moments as text.

use std::collections::HashMap;
use std::sync::Arc;

use conveyor_processors::{ColumnType, Row, Table, Value};

use crate::moment;

/// Field of a row's version.
pub(super) const VERSION: &str = "@";

/// A row as it was read.
pub(super) struct Found {
    /// Empty: there is no row.
    pub(super) version: Vec<u8>,
    fields: HashMap<String, Vec<u8>>,
}

impl Found {
    pub(super) fn new(mut fields: HashMap<String, Vec<u8>>) -> Self {
        let version = fields.remove(VERSION).unwrap_or_default();
        Self { version, fields }
    }

    /// The row, if there is one; an error says what is wrong with it.
    pub(super) fn into_row(mut self, table: &Arc<Table>) -> Result<Option<Row>, String> {
        if self.version.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(table.columns().len());
        for column in table.columns() {
            let value = match self.fields.remove(column.name) {
                None => Value::Null,
                Some(stored) => from_stored(column.column_type, stored)
                    .ok_or_else(|| format!("no {} in {}", column.column_type, column.name))?,
            };
            values.push(value);
        }
        Row::from_values(table, values)
            .map(Some)
            .ok_or_else(|| "no key".to_owned())
    }
}

/// The fields of a row: names and values in turn.
pub(super) fn to_fields(row: &Row) -> Vec<Vec<u8>> {
    let columns = row.table().columns().iter().zip(row.values());
    let mut fields = Vec::new();
    for (column, value) in columns {
        if let Some(stored) = to_stored(value) {
            fields.push(column.name.as_bytes().to_vec());
            fields.push(stored);
        }
    }
    fields
}

fn to_stored(value: &Value) -> Option<Vec<u8>> {
    let text = match value {
        Value::Null => return None,
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Boolean(truth) => i32::from(*truth).to_string(),
        Value::Timestamp(ms) => moment::to_text(*ms),
        Value::Json(json) => json.to_string(),
    };
    Some(text.into_bytes())
}

fn from_stored(column_type: ColumnType, stored: Vec<u8>) -> Option<Value> {
    let text = String::from_utf8(stored).ok()?;
    Some(match column_type {
        ColumnType::Text => Value::Text(text),
        ColumnType::Integer => Value::Integer(text.parse().ok()?),
        ColumnType::Real => Value::Real(text.parse().ok()?),
        ColumnType::Boolean => Value::Boolean(text != "0"),
        ColumnType::Timestamp => Value::Timestamp(moment::from_text(&text)?),
        ColumnType::Json => Value::Json(serde_json::from_str(&text).ok()?),
    })
}
