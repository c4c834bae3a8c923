//! What the server says of each document. Pure.

use serde::Deserialize;
use serde_json::Value;

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there, or a younger one is.
    Done,
    /// The server is busy, or on its way up or down.
    Later(String),
    /// This document can never be written.
    Refused(String),
    /// None can be written as the settings are.
    Setting(String),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<serde_json::Map<String, Value>>,
}

/// What the server says of each of `count` documents, in the order of the request.
pub(super) fn verdicts(answer: &[u8], count: usize) -> Result<Vec<Verdict>, String> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| format!("the answer to _bulk is not understood: {error}"))?;
    if !answer.errors {
        return Ok(vec![Verdict::Done; count]);
    }
    if answer.items.len() != count {
        let found = answer.items.len();
        return Err(format!("{found} answers came for {count} documents"));
    }
    let items = answer.items.iter();
    Ok(items
        .map(|item| item.values().next().map_or(Verdict::Done, verdict))
        .collect())
}

fn verdict(item: &Value) -> Verdict {
    let status = item["status"].as_u64().unwrap_or(500);
    let error = &item["error"];
    if error.is_null() {
        // Also a document that was to be deleted and is not there.
        return match status {
            429 | 500.. => Verdict::Later(format!("status {status}")),
            _ => Verdict::Done,
        };
    }
    let kind = error["type"].as_str().unwrap_or_default();
    let reason = reason_of(error);
    match (status, kind) {
        // A younger version is there, or this one.
        (409, _) => Verdict::Done,
        (_, "invalid_index_name_exception") => {
            Verdict::Setting(format!("{reason}: mend elasticsearch.index"))
        }
        (_, "index_not_found_exception") => Verdict::Setting(format!(
            "{reason}: the server makes no indices by itself; create it, or allow \
             action.auto_create_index"
        )),
        (_, "security_exception") | (401, _) => Verdict::Setting(format!(
            "{reason}: the user or key of elasticsearch must be allowed to write the index and to \
             create it"
        )),
        // A full disk makes indices read-only for a while.
        (403, "cluster_block_exception") | (429 | 500.., _) => Verdict::Later(reason),
        _ => Verdict::Refused(format!("{reason} (status {status})")),
    }
}

/// `type: reason`, with its causes.
fn reason_of(error: &Value) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    for _ in 0..4 {
        let Some(error) = next.filter(|error| error.is_object()) else {
            break;
        };
        let field = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        causes.push(format!("{}: {}", field("type"), field("reason")));
        next = error.get("caused_by");
    }
    causes.join("; caused by ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(item: &Value) -> Verdict {
        let answer = json!({"errors": true, "items": [{"index": item}]}).to_string();
        verdicts(answer.as_bytes(), 1).unwrap().remove(0)
    }

    #[test]
    fn answers_are_sorted() {
        let error = |status: u64, kind: &str| {
            of(&json!({"status": status, "error": {"type": kind, "reason": "r"}}))
        };
        assert_eq!(of(&json!({"status": 201})), Verdict::Done);
        assert_eq!(
            of(&json!({"status": 404, "result": "not_found"})),
            Verdict::Done
        );
        assert_eq!(
            error(409, "version_conflict_engine_exception"),
            Verdict::Done
        );
        for (status, kind) in [
            (429, "es_rejected_execution_exception"),
            (503, "unavailable_shards_exception"),
            (403, "cluster_block_exception"),
        ] {
            assert_eq!(error(status, kind), Verdict::Later(format!("{kind}: r")));
        }
        assert!(matches!(
            error(400, "mapper_parsing_exception"),
            Verdict::Refused(_)
        ));
        assert!(matches!(
            error(400, "invalid_index_name_exception"),
            Verdict::Setting(_)
        ));
        assert!(matches!(
            error(403, "security_exception"),
            Verdict::Setting(_)
        ));
    }

    #[test]
    fn an_answer_that_does_not_fit_says_nothing() {
        assert!(verdicts(b"<html>", 1).is_err());
        assert!(verdicts(b"{\"errors\":true,\"items\":[]}", 1).is_err());
        assert_eq!(verdicts(b"{\"errors\":false}", 2).unwrap().len(), 2);
    }

    #[test]
    fn a_reason_names_its_causes() {
        let error = json!({"type": "a", "reason": "x", "caused_by": {"type": "b", "reason": "y"}});
        assert_eq!(reason_of(&error), "a: x; caused by b: y");
    }
}
