//! Rows as documents: `_id` is the key, a field for each column, `_seq` the number of the
//! transaction that wrote it.
//!
//! The key of one column is its value, of several one text with `:` between them (they are fields as
//! well). Moments are dates, JSON is
//! documents and arrays, to be queried like any other. JSON that BSON cannot hold (a NUL or `$` in a
//! name, numbers above 2^63, very deep nesting) is kept as text: `{_json: "…"}`.

use std::sync::Arc;

use conveyor_processors::{Column, ColumnType, KeyPart, Row, RowKey, Table, Value};
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value as Json;

use crate::key_order::name_of;

/// Field of the transaction's number.
pub(super) const SEQ: &str = "_seq";

/// Field of what is left of a deleted row, where a late writer must find it.
pub(super) const GONE: &str = "_gone";

/// Field of JSON that is kept as text.
const JSON_TEXT: &str = "_json";

/// Nesting that is kept as documents; BSON ends at 100, the row's own levels included.
const DEPTH_MAX: usize = 64;

/// The `_id` of a row.
pub(super) fn id_of(key: &RowKey) -> Bson {
    match &*key.parts {
        [KeyPart::Text(text)] => Bson::String(text.clone()),
        [KeyPart::Integer(number)] => Bson::Int64(*number),
        _ => Bson::String(name_of(key)),
    }
}

/// A row as a document, without `_seq`.
pub(super) fn to_document(row: &Row, id: Bson) -> Document {
    let mut document = doc! { "_id": id };
    for (column, value) in row.table().columns().iter().zip(row.values()) {
        let stored = match value {
            Value::Null => Bson::Null,
            Value::Text(text) => Bson::String(text.clone()),
            Value::Integer(number) => Bson::Int64(*number),
            Value::Real(number) => Bson::Double(*number),
            Value::Boolean(truth) => Bson::Boolean(*truth),
            Value::Timestamp(ms) => Bson::DateTime(DateTime::from_millis(*ms)),
            Value::Json(json) => json_to_bson(json),
        };
        document.insert(column.name, stored);
    }
    document
}

/// The row of a document; `None` for what is left of a deleted one; an error says what is wrong.
pub(super) fn to_row(table: &Arc<Table>, mut document: Document) -> Result<Option<Row>, String> {
    if document.contains_key(GONE) {
        return Ok(None);
    }
    let mut values = Vec::with_capacity(table.columns().len());
    for column in table.columns() {
        let stored = document.remove(column.name).unwrap_or(Bson::Null);
        let value = to_value(column, stored)
            .ok_or_else(|| format!("no {} in {}", column.column_type, column.name))?;
        values.push(value);
    }
    let row = Row::from_values(table, values).ok_or_else(|| "no key".to_owned())?;
    Ok(Some(row))
}

fn to_value(column: &Column, stored: Bson) -> Option<Value> {
    Some(match (column.column_type, stored) {
        (ColumnType::Json, Bson::Document(wrapped)) if is_wrapped(&wrapped) => {
            Value::Json(serde_json::from_str(wrapped.get_str(JSON_TEXT).ok()?).ok()?)
        }
        // JSON's own null is wrapped, so that it is told from nothing.
        (_, Bson::Null) => Value::Null,
        (ColumnType::Text, Bson::String(text)) => Value::Text(text),
        (ColumnType::Integer, Bson::Int64(number)) => Value::Integer(number),
        (ColumnType::Integer, Bson::Int32(number)) => Value::Integer(number.into()),
        (ColumnType::Real, Bson::Double(number)) => Value::Real(number),
        (ColumnType::Boolean, Bson::Boolean(truth)) => Value::Boolean(truth),
        (ColumnType::Timestamp, Bson::DateTime(at)) => Value::Timestamp(at.timestamp_millis()),
        (ColumnType::Json, other) => Value::Json(bson_to_json(other)?),
        _ => return None,
    })
}

fn is_wrapped(document: &Document) -> bool {
    document.len() == 1 && document.contains_key(JSON_TEXT)
}

fn json_to_bson(json: &Json) -> Bson {
    match (json, plain(json, 0)) {
        (Json::Null, _) | (_, None) => Bson::Document(doc! { JSON_TEXT: json.to_string() }),
        (_, Some(bson)) => bson,
    }
}

/// The value as BSON, if BSON can hold it.
fn plain(json: &Json, depth: usize) -> Option<Bson> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match json {
        Json::Null => Bson::Null,
        Json::Bool(truth) => Bson::Boolean(*truth),
        Json::Number(number) if number.is_f64() => Bson::Double(number.as_f64()?),
        Json::Number(number) => Bson::Int64(number.as_i64()?),
        Json::String(text) => Bson::String(text.clone()),
        Json::Array(items) => {
            let items = items.iter().map(|item| plain(item, depth + 1));
            Bson::Array(items.collect::<Option<_>>()?)
        }
        Json::Object(fields) => {
            let awkward = |name: &String| {
                name.is_empty() || name.starts_with('$') || name.contains(['\0', '.'])
            };
            if fields.keys().any(awkward) || (fields.len() == 1 && fields.contains_key(JSON_TEXT)) {
                return None;
            }
            let fields = fields
                .iter()
                .map(|(name, value)| Some((name.clone(), plain(value, depth + 1)?)));
            Bson::Document(fields.collect::<Option<_>>()?)
        }
    })
}

fn bson_to_json(bson: Bson) -> Option<Json> {
    Some(match bson {
        Bson::Null => Json::Null,
        Bson::Boolean(truth) => truth.into(),
        Bson::Double(number) => serde_json::Number::from_f64(number)?.into(),
        Bson::Int64(number) => number.into(),
        Bson::Int32(number) => number.into(),
        Bson::String(text) => text.into(),
        Bson::Array(items) => items.into_iter().map(bson_to_json).collect::<Option<_>>()?,
        Bson::Document(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, value)| Some((name, bson_to_json(value)?)));
            Json::Object(fields.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_documents_where_it_can_be_and_comes_back_where_it_cannot() {
        let column = Column {
            name: "j",
            column_type: ColumnType::Json,
        };
        for (json, is_plain) in [
            (json!({"a": [1, 2.5, null, "x", {"b": true}]}), true),
            (json!(1e16), true),
            (json!(null), false),
            (json!({"$set": 1}), false),
            (json!({"a\0": 1}), false),
            (json!(u64::MAX), false),
            (json!({"_json": "1"}), false),
            (json!({"_json": "1", "more": 2}), true),
        ] {
            let stored = json_to_bson(&json);
            let wrapped = stored.as_document().is_some_and(is_wrapped);
            assert_eq!(wrapped, !is_plain, "{json}");
            assert_eq!(to_value(&column, stored), Some(Value::Json(json)));
        }
    }

    #[test]
    fn a_key_of_several_columns_is_one_text() {
        let key = RowKey::of("t", ["x:y".into(), 3i64.into()]);
        assert_eq!(id_of(&key), Bson::String("x%3Ay:3".into()));
        assert_eq!(id_of(&RowKey::new("t", "x:y")), Bson::String("x:y".into()));
        assert_eq!(id_of(&RowKey::new("t", 3i64)), Bson::Int64(3));
    }
}
