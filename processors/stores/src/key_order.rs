//! Rows and their keys, for stores that do not sort as the contract wants it.

use conveyor_processors::{KeyPart, Row, RowKey, Value};

/// The key of a row.
pub(crate) fn key_of(row: &Row) -> RowKey {
    let table = row.table();
    let parts = row.values()[..table.key_columns().len()].iter();
    let part = |value: &Value| match value {
        Value::Text(text) => KeyPart::Text(text.clone()),
        Value::Integer(number) => KeyPart::Integer(*number),
        other => unreachable!("a key holds {other:?}, and a row's key is text and numbers"),
    };
    RowKey::of(table.name(), parts.map(part))
}

/// A key as one piece of text: its parts with `:` between them, and `%` and `:` in them as in
/// addresses.
#[cfg(feature = "mongodb")]
pub(crate) fn name_of(key: &RowKey) -> String {
    let parts = key.parts.iter().map(|part| match part {
        KeyPart::Text(text) => escaped(text),
        KeyPart::Integer(number) => number.to_string(),
    });
    parts.collect::<Vec<_>>().join(":")
}

/// A text as a part of a name.
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(':', "%3A")
}

/// The rows in the order of their keys.
pub(crate) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(key_of);
    rows
}

#[cfg(all(test, feature = "mongodb"))]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_never_the_same() {
        let name = |parts: &[&str]| {
            name_of(&RowKey::of(
                "t",
                parts.iter().map(|part| KeyPart::from(*part)),
            ))
        };
        assert_eq!(name(&["SKU-1"]), "SKU-1");
        assert_eq!(name(&["a:b", "c"]), "a%3Ab:c");
        assert_ne!(name(&["a", "b:c"]), name(&["a:b", "c"]));
        assert_ne!(name(&["a%3Ab"]), name(&["a:b"]));
    }
}
