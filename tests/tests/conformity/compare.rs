//! Two answers side by side. What differs by nature is reduced to whether it is set at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};
use conveyor_kafka::ApiKey;
use serde_json::Value;

use super::side::Answer;

/// A place where the answers differ, whatever the version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) api: String,
    /// What was asked, in words.
    pub(crate) step: String,
    /// The field, indexes left out.
    pub(crate) field: String,
    pub(crate) kafkas: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            api,
            step,
            field,
            kafkas,
            ours,
        } = self;
        write!(f, "| {api} | {step} | `{field}` | {kafkas} | {ours} |")
    }
}

/// All differences between two plays of the same scenarios.
pub(crate) fn compare(kafkas: &[Answer], ours: &[Answer]) -> Result<BTreeSet<Difference>> {
    let mut differences = BTreeSet::new();
    ensure!(
        kafkas.len() == ours.len(),
        "{} answers, but {}",
        kafkas.len(),
        ours.len()
    );
    for (theirs, ours) in kafkas.iter().zip(ours) {
        let same =
            (&theirs.step, theirs.key, theirs.version) == (&ours.step, ours.key, ours.version);
        ensure!(
            same,
            "the scenarios part at {} and {}",
            theirs.step,
            ours.step
        );
        let mut comparison = Comparison {
            answer: theirs,
            differences: &mut differences,
        };
        comparison.values("", &theirs.tree, &ours.tree);
    }
    Ok(differences)
}

struct Comparison<'a> {
    answer: &'a Answer,
    differences: &'a mut BTreeSet<Difference>,
}

impl Comparison<'_> {
    fn values(&mut self, path: &str, theirs: &Value, ours: &Value) {
        let name = path.rsplit('.').next().unwrap_or_default();
        if NEVER_COMPARED.contains(&name) {
            return;
        }
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
                for name in names {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    let absent = Value::String("(absent)".to_owned());
                    let [theirs, ours] =
                        [theirs, ours].map(|fields| fields.get(name).unwrap_or(&absent));
                    self.values(&path, theirs, ours);
                }
            }
            (Value::Array(theirs), Value::Array(ours)) => self.arrays(path, theirs, ours),
            (theirs, ours) => {
                let moves = MOVING.contains(&(self.answer.key, name));
                let [theirs, ours] = [theirs, ours].map(|value| comparable(name, value, moves));
                if theirs != ours {
                    self.difference(path, theirs, ours);
                }
            }
        }
    }

    /// Elements are compared with those of the same name: Kafka keeps many of its answers in hash
    /// maps. (That we keep the order of the request is tested where the handlers are.)
    fn arrays(&mut self, path: &str, theirs: &[Value], ours: &[Value]) {
        let [theirs, ours] = [theirs, ours].map(by_name);
        let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            let path = if name.shown {
                format!("{path}[{}]", name.text)
            } else {
                format!("{path}[]")
            };
            match (theirs.get(name), ours.get(name)) {
                (Some(theirs), Some(ours)) => self.values(&path, theirs, ours),
                (None, _) => self.difference(&path, "(absent)".to_owned(), "there".to_owned()),
                (_, None) => self.difference(&path, "there".to_owned(), "(absent)".to_owned()),
            }
        }
    }

    fn difference(&mut self, field: &str, kafkas: String, ours: String) {
        self.differences.insert(Difference {
            api: self.answer.key.to_string(),
            step: self.answer.step.clone(),
            field: field.to_owned(),
            kafkas,
            ours,
        });
    }
}

/// What an element of a list is called: by the first of these fields that it has, or by its place.
const NAMES: [&str; 13] = [
    "api_key",
    "name",
    "topic",
    "topic_name",
    "group_id",
    "transactional_id",
    "resource_name",
    "entity",
    "partition_index",
    "partition",
    "index",
    "base_offset",
    "member_id",
];

/// Elements called by these fields are facts about a broker, so that differences name them.
const SHOWN_BY: [&str; 1] = ["api_key"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    text: String,
    /// Counts elements of the same name.
    count: usize,
    shown: bool,
}

fn by_name(elements: &[Value]) -> BTreeMap<Name, &Value> {
    let mut named = BTreeMap::new();
    for (place, element) in elements.iter().enumerate() {
        let field = NAMES.iter().find(|name| element.get(*name).is_some());
        let text = match field {
            // Members are called otherwise by each broker.
            Some(&"member_id") | None => format!("{place:05}"),
            Some(field) => match &element[*field] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
        };
        let is_setting = element.get("config_source").is_some() || element.get("source").is_some();
        let shown = is_setting || field.is_some_and(|field| SHOWN_BY.contains(field));
        let mut name = Name {
            text,
            count: 0,
            shown,
        };
        while named.contains_key(&name) {
            name.count += 1;
        }
        named.insert(name, element);
    }
    named
}

/// Addresses, time, and wordings: Kafka leaves a message empty, null or set as it falls.
const NEVER_COMPARED: [&str; 5] = [
    "throttle_time_ms",
    "host",
    "port",
    "error_message",
    "batch_index_error_message",
];

/// Made up by the broker, or taken from its clock, disk or language: only whether they are set is
/// compared.
const SET_OR_NOT: [&str; 23] = [
    "cluster_id",
    "topic_id",
    "session_id",
    "member_id",
    "leader",
    "producer_id",
    "client_host",
    "log_append_time_ms",
    "log_end_offset",
    "log_dir",
    "partition_size",
    "size",
    "total_bytes",
    "usable_bytes",
    "last_timestamp",
    "last_fetch_timestamp",
    "last_caught_up_timestamp",
    "transaction_start_time_ms",
    "start_timestamp",
    "documentation",
    "finalized_features_epoch",
    "coordinator_epoch",
    "replica_directory_id",
];

/// How far the metadata log is.
const MOVING: [(ApiKey, &str); 2] = [
    (ApiKey::DescribeQuorum, "high_watermark"),
    (ApiKey::DescribeQuorum, "leader_epoch"),
];

fn comparable(name: &str, value: &Value, moves: bool) -> String {
    if !SET_OR_NOT.contains(&name) && !moves {
        return match value {
            Value::String(text) if text.is_empty() => "\"\"".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(list) => format!("{} elements", list.len()),
            Value::Object(_) => "there".to_owned(),
            other => other.to_string(),
        };
    }
    match value {
        Value::String(text) if text.is_empty() || text.bytes().all(|b| b == b'0') => "none",
        Value::String(text) if text == "(absent)" => "(absent)",
        Value::Number(number) if number.as_i64().is_some_and(|n| n < 0) => "negative",
        Value::Number(number) if number.as_i64() == Some(0) => "zero",
        Value::Null => "null",
        _ => "set",
    }
    .to_owned()
}
