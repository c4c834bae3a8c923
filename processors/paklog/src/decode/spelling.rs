//! Field names in one spelling: `waveId` and `wave_id` are the same field.

use serde_json::{Map, Value};

/// How deep a payload may be nested; what lies deeper is left as it is. (The JSON parser itself
/// stops at 128 levels.)
const DEPTH_MAX: usize = 32;

/// Whether any field name in the JSON text has a lower-case letter before an upper-case one.
///
/// A quick look that decides whether [`to_snake_case`] is needed. May say yes where a text value
/// looks like a field name; never says no where there is such a field (escapes inside names aside).
pub(super) fn has_camel_case_fields(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        if bytes[position] != b'"' {
            position += 1;
            continue;
        }
        position += 1;
        let mut camel = false;
        let mut before = 0_u8;
        while position < bytes.len() && bytes[position] != b'"' {
            camel |= bytes[position].is_ascii_uppercase() && before.is_ascii_lowercase();
            before = bytes[position];
            position += if bytes[position] == b'\\' { 2 } else { 1 };
        }
        position += 1;
        if camel {
            let rest = bytes.get(position..).unwrap_or_default();
            if rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':') {
                return true;
            }
        }
    }
    false
}

/// Renames every field of the tree to `snake_case` and drops fields that are null, which Java
/// services write where a value is missing. Where both spellings of a field are present, the
/// `snake_case` one stays.
pub(super) fn to_snake_case(value: Value) -> Value {
    rename(value, 0)
}

fn rename(value: Value, depth: usize) -> Value {
    if depth == DEPTH_MAX {
        return value;
    }
    match value {
        Value::Object(fields) => Value::Object(rename_fields(fields, depth)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| rename(item, depth + 1))
                .collect(),
        ),
        other => other,
    }
}

fn rename_fields(fields: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let mut renamed = Map::new();
    let mut camel_case = Vec::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = rename(value, depth + 1);
        let snake = snake_case(&name);
        if snake == name {
            renamed.insert(name, value);
        } else {
            camel_case.push((snake, value));
        }
    }
    for (name, value) in camel_case {
        renamed.entry(name).or_insert(value);
    }
    renamed
}

/// `waveId` → `wave_id`, `itemSKU` → `item_sku`, `addressLine1` → `address_line1`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut before_is_small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && before_is_small {
            snake.push('_');
        }
        before_is_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn camel_case_is_found_in_names_only() {
        for json in [
            r#"{"waveId":1}"#,
            r#"{"a":{"orderIds" : []}}"#,
            r#"[{"x":"\"","quantityOnHand":1}]"#,
        ] {
            assert!(has_camel_case_fields(json), "{json}");
        }
        for json in [
            r#"{"wave_id":"waveId"}"#,
            r#"{"name":"O'Neill McDonald"}"#,
            "",
            r#""unfinishedStr"#,
            "\"a\\",
        ] {
            assert!(!has_camel_case_fields(json), "{json}");
        }
    }

    #[test]
    fn both_spellings_become_one() {
        let renamed = to_snake_case(json!({
            "waveId": "W", "itemSKU": "S", "reason": null,
            "location": {"aisleNo": 1}, "list": [{"orderId": 2}],
            "task_id": "snake", "taskId": "camel",
        }));
        let expected = json!({
            "wave_id": "W", "item_sku": "S",
            "location": {"aisle_no": 1}, "list": [{"order_id": 2}], "task_id": "snake",
        });
        assert_eq!(renamed, expected);
    }
}
