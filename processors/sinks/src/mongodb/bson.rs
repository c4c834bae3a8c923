//! JSON as BSON. Numbers keep their value, texts stay texts, and nothing is read as one of the
//! driver's own notations (`{"$oid": …}` is an object like any other).

use conveyor_processors::DecodeError;
use mongodb::bson::{Bson, Document, RawDocumentBuf};
use serde_json::{Map, Value};

use super::failure::REFUSED;

/// The value in BSON.
pub(super) fn of(value: &Value) -> Result<Bson, DecodeError> {
    Ok(match value {
        Value::Null => Bson::Null,
        Value::Bool(it) => Bson::Boolean(*it),
        Value::String(it) => Bson::String(it.clone()),
        Value::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(whole), _) => Bson::Int64(whole),
            // Larger than any 64-bit number that the server has: kept to the last digit.
            (None, Some(_)) => Bson::Decimal128(it.to_string().parse().map_err(refuse)?),
            (None, None) => Bson::Double(it.as_f64().unwrap_or_default()),
        },
        Value::Array(items) => Bson::Array(items.iter().map(of).collect::<Result<_, _>>()?),
        Value::Object(fields) => Bson::Document(document(fields)?),
    })
}

fn document(fields: &Map<String, Value>) -> Result<Document, DecodeError> {
    let field = |(name, value): (&String, &Value)| Ok((name.clone(), of(value)?));
    fields.iter().map(field).collect()
}

/// Bytes that it takes; also finds names that no document can have.
pub(super) fn size(document: &Document) -> Result<usize, DecodeError> {
    let raw = RawDocumentBuf::try_from(document).map_err(refuse)?;
    Ok(raw.as_bytes().len())
}

fn refuse(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::new(REFUSED, format!("this is no document for MongoDB: {error}"))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::bson;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_meaning() {
        let value = json!({"n": [1, -2.5, null, true], "d": {"$oid": "x"}, "big": u64::MAX});
        let mut expected = bson!({"n": [1_i64, -2.5, null, true], "d": {"$oid": "x"}});
        let big = Bson::Decimal128("18446744073709551615".parse().unwrap());
        expected.as_document_mut().unwrap().insert("big", big);
        let Bson::Document(found) = of(&value).unwrap() else {
            panic!("no document");
        };
        assert_eq!(found.get("big"), expected.as_document().unwrap().get("big"));
        assert_eq!(found.get("n"), expected.as_document().unwrap().get("n"));
        assert_eq!(found.get("d"), expected.as_document().unwrap().get("d"));
    }

    #[test]
    fn a_name_that_no_document_can_have_is_refused() {
        let value = document(json!({"a\u{0}b": 1}).as_object().unwrap()).unwrap();
        assert_eq!(size(&value).unwrap_err().name, REFUSED);
    }
}
