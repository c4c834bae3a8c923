//! Rows as documents: `_id` is the key, a field for each column, called as the table says
//! ([`Table::field_of`]), `_seq` the number of the transaction that wrote it.
//!
//! The key of one column is its value, of several one text with `:` between them (they are fields as
//! well). Moments are dates, those that the table declares within JSON too; JSON is
//! documents and arrays, to be queried like any other. JSON that BSON cannot hold (a NUL or `$` in a
//! name, numbers above 2^63, very deep nesting) is kept as text: `{_json: "…"}`.

use std::sync::Arc;

use conveyor_processors::{Column, ColumnType, KeyPart, Row, RowKey, Table, Value};
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::Value as Json;

use crate::key_order::name_of;
use crate::moment;

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
    let table = row.table();
    for (column, value) in row.values().iter().enumerate() {
        let stored = match value {
            Value::Null => Bson::Null,
            Value::Text(text) => Bson::String(text.clone()),
            Value::Integer(number) => Bson::Int64(*number),
            Value::Real(number) => Bson::Double(*number),
            Value::Boolean(truth) => Bson::Boolean(*truth),
            Value::Timestamp(ms) => Bson::DateTime(DateTime::from_millis(*ms)),
            Value::Json(json) => json_to_bson(json, &|field| table.is_moment_in(column, field)),
        };
        document.insert(table.field_of(column), stored);
    }
    document
}

/// The row of a document; `None` for what is left of a deleted one; an error says what is wrong.
pub(super) fn to_row(table: &Arc<Table>, mut document: Document) -> Result<Option<Row>, String> {
    if document.contains_key(GONE) {
        return Ok(None);
    }
    let mut values = Vec::with_capacity(table.columns().len());
    for (index, column) in table.columns().iter().enumerate() {
        let stored = document.remove(table.field_of(index)).unwrap_or(Bson::Null);
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

/// Says of a field's name whether its text is a moment.
type IsMoment<'f> = dyn Fn(&str) -> bool + 'f;

fn json_to_bson(json: &Json, is_moment: &IsMoment<'_>) -> Bson {
    match (json, plain(json, is_moment, 0)) {
        (Json::Null, _) | (_, None) => Bson::Document(doc! { JSON_TEXT: json.to_string() }),
        (_, Some(bson)) => bson,
    }
}

/// The value as BSON, if BSON can hold it.
fn plain(json: &Json, is_moment: &IsMoment<'_>, depth: usize) -> Option<Bson> {
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
            let items = items.iter().map(|item| plain(item, is_moment, depth + 1));
            Bson::Array(items.collect::<Option<_>>()?)
        }
        Json::Object(fields) => {
            let awkward = |name: &String| {
                name.is_empty() || name.starts_with('$') || name.contains(['\0', '.'])
            };
            if fields.keys().any(awkward) || (fields.len() == 1 && fields.contains_key(JSON_TEXT)) {
                return None;
            }
            let fields = fields.iter().map(|(name, value)| {
                let moment = value.as_str().filter(|_| is_moment(name)).and_then(date_of);
                let stored = match moment {
                    Some(date) => Bson::DateTime(date),
                    None => plain(value, is_moment, depth + 1)?,
                };
                Some((name.clone(), stored))
            });
            Bson::Document(fields.collect::<Option<_>>()?)
        }
    })
}

/// The moment that a text is, if it is written as it will be read.
fn date_of(text: &str) -> Option<DateTime> {
    let ms = moment::from_text(text)?;
    (moment::to_text(ms) == text).then(|| DateTime::from_millis(ms))
}

fn bson_to_json(bson: Bson) -> Option<Json> {
    Some(match bson {
        Bson::Null => Json::Null,
        Bson::Boolean(truth) => truth.into(),
        Bson::Double(number) => serde_json::Number::from_f64(number)?.into(),
        Bson::Int64(number) => number.into(),
        Bson::Int32(number) => number.into(),
        Bson::String(text) => text.into(),
        Bson::DateTime(at) => moment::to_text(at.timestamp_millis()).into(),
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
            (
                json!([{"at": "2026-11-23T04:05:06.789Z", "on": "2026-11-23T04:05:06.789Z"}]),
                true,
            ),
            (json!({"at": ["2026-11-23T04:05:06Z", 5, "soon"]}), true),
        ] {
            let stored = json_to_bson(&json, &|field| field == "at");
            let wrapped = stored.as_document().is_some_and(is_wrapped);
            assert_eq!(wrapped, !is_plain, "{json}");
            assert_eq!(to_value(&column, stored), Some(Value::Json(json)));
        }
    }

    #[test]
    fn moments_in_json_are_dates_if_they_come_back_as_they_were() {
        let stored = |text: &str| {
            let stored = json_to_bson(&json!({"at": text}), &|field| field == "at");
            stored.as_document().unwrap().get("at").cloned()
        };
        let date = DateTime::from_millis(1_795_406_706_789);
        assert_eq!(
            stored("2026-11-23T04:05:06.789Z"),
            Some(Bson::DateTime(date))
        );
        for other in ["2026-11-23T04:05:06Z", "2026-11-23", "", "1795406706789"] {
            assert_eq!(stored(other), Some(Bson::String(other.to_owned())));
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
