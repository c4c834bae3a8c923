//! Kafka's own code and definitions against our message tables: the same bytes for every version of
//! every message, the same fields in the same versions, null and tagged where Kafka says so.

#[path = "../../proto/kafka/tests/codec/sample.rs"]
#[allow(dead_code, reason = "the codec's own tests use the rest")]
mod sample;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use conveyor_kafka::ApiKey;
use conveyor_kafka::api::schemas;
use conveyor_kafka::schema::{Field, Kind, Table, Versions};
use conveyor_tests::kafka_jars::{interop, to_base64};
use sample::{Case, Shape};
use serde_json::Value;

const SEEDS: u64 = 8;

#[test]
fn kafka_reads_every_message_and_writes_the_same_bytes() -> Result<()> {
    // What Kafka looks into must be what it expects: no records are records to it.
    let shape = |case: Case| Shape {
        bytes: matches!(case.key, ApiKey::Produce | ApiKey::Fetch).then(Vec::new),
        ..Shape::default()
    };
    let cases = Case::all().flat_map(|case| (0..SEEDS).map(move |seed| (case, seed)));
    let messages: Vec<_> = cases
        .map(|(case, seed)| (case, seed, case.sample_with(seed, &shape(case)).bytes))
        .collect();
    let lines = messages.iter().map(|(case, _, bytes)| {
        let kind = if case.is_request {
            "request"
        } else {
            "response"
        };
        format!(
            "{kind}\t{}\t{}\t{}\n",
            case.key.code(),
            case.version,
            to_base64(bytes)
        )
    });
    let input: String = lines.collect();
    let output = interop(&["transcode"], input.as_bytes())?;
    let mut compared = 0;
    for ((case, seed, bytes), line) in messages.iter().zip(output.lines()) {
        ensure!(
            line == to_base64(bytes),
            "{case:?}, seed {seed}: Kafka writes {line}"
        );
        compared += 1;
    }
    assert_eq!(compared, messages.len());
    Ok(())
}

/// Structures that we name otherwise, because request and response of an API share a module.
const RENAMED: [(&str, &str); 3] = [
    ("EntryDataResult", "EntryData"),
    ("TopicDataResult", "TopicData"),
    ("PartitionDataResult", "PartitionData"),
];

#[test]
fn the_tables_are_kafkas_definitions() -> Result<()> {
    let definitions = definitions()?;
    let mut messages = 0;
    for key in ApiKey::ALL {
        let Some(tables) = schemas(*key) else {
            continue;
        };
        for table in tables {
            let definition = definitions.get(table.name).context(table.name)?;
            let last = key.versions().context("it has tables")?.last;
            let versions = parse_versions(&definition["validVersions"], last)?;
            // Kafka marks the newest version of a request as unstable where it is.
            let request = &definitions[&format!("{key}Request")];
            let unstable = i16::from(request["latestVersionUnstable"] == true);
            let stable = Versions::between(versions.first, versions.last - unstable);
            assert_eq!(key.versions(), Some(stable), "{}", table.name);
            let comparison = Comparison { definition, last };
            comparison.structure(table, &definition["fields"])?;
            messages += 1;
        }
    }
    assert_eq!(messages, 108);
    Ok(())
}

/// Kafka's definitions by the name of the message.
fn definitions() -> Result<BTreeMap<String, Value>> {
    let text = interop(&["definitions"], b"")?;
    let mut definitions = BTreeMap::new();
    for part in text.split("=== ").skip(1) {
        let (name, body) = part.split_once('\n').context("a name stands before")?;
        let lines = body.lines().map(|line| {
            let comment = line.trim_start().starts_with("//");
            if comment {
                ""
            } else {
                line.split(" // ").next().unwrap_or_default()
            }
        });
        let json: Vec<_> = lines.collect();
        let definition = serde_json::from_str(&json.join("\n")).with_context(|| name.to_owned())?;
        definitions.insert(name.to_owned(), definition);
    }
    Ok(definitions)
}

struct Comparison<'a> {
    definition: &'a Value,
    last: i16,
}

impl Comparison<'_> {
    fn structure(&self, table: &Table, fields: &Value) -> Result<()> {
        let fields = fields.as_array().context("fields are a list")?;
        let mut ours: BTreeMap<&str, &Field> = table
            .fields
            .iter()
            .map(|field| (field.name, *field))
            .collect();
        let mut untagged = Vec::new();
        for theirs in fields {
            let versions = parse_versions(&theirs["versions"], self.last)?;
            if versions.first > self.last {
                continue;
            }
            let name = snake_case(theirs["name"].as_str().context("fields have names")?);
            let place = format!("{}.{name}", table.name);
            let field = *ours
                .get(&*name)
                .with_context(|| format!("{place} is missing"))?;
            ours.remove(&*name);
            self.field(field, theirs, &place)?;
            if field.tag.is_none() {
                untagged.push(field.name);
            }
        }
        assert!(ours.is_empty(), "{}: {ours:?} are not Kafka's", table.name);
        let order: Vec<_> = table
            .fields
            .iter()
            .filter(|f| f.tag.is_none())
            .map(|f| f.name)
            .collect();
        assert_eq!(order, untagged, "{}", table.name);
        Ok(())
    }

    fn field(&self, ours: &Field, theirs: &Value, place: &str) -> Result<()> {
        let versions = parse_versions(&theirs["versions"], self.last)?;
        assert_eq!(closed(ours.versions, self.last), versions, "{place}");
        assert_eq!(ours.tag.map(u64::from), theirs["tag"].as_u64(), "{place}");
        assert_eq!(ours.ignorable, theirs["ignorable"] == true, "{place}");
        let kind = match (ours.kind, &theirs["nullableVersions"]) {
            (kind, Value::Null) => kind,
            (Kind::Nullable(kind), nullable) => {
                let nullable = parse_versions(nullable, self.last)?;
                let both = Versions::between(
                    nullable.first.max(versions.first),
                    nullable.last.min(versions.last),
                );
                assert_eq!(closed(ours.nullable, self.last), both, "{place}");
                *kind
            }
            (_, nullable) => panic!("{place} may be null in {nullable}"),
        };
        let type_name = theirs["type"].as_str().context("fields have types")?;
        self.kind(kind, type_name, &theirs["fields"], place)
    }

    fn kind(&self, ours: Kind, theirs: &str, fields: &Value, place: &str) -> Result<()> {
        match (ours, theirs) {
            (Kind::Array(element), theirs) => {
                let theirs = theirs.strip_prefix("[]").context(place.to_owned())?;
                self.kind(*element, theirs, fields, place)
            }
            (Kind::Struct(table), theirs) => {
                let renamed = RENAMED.iter().find(|(ours, _)| *ours == table.name);
                assert_eq!(
                    renamed.map_or(table.name, |(_, theirs)| theirs),
                    theirs,
                    "{place}"
                );
                let common = self.definition["commonStructs"]
                    .as_array()
                    .into_iter()
                    .flatten();
                let mut common = common.filter(|one| one["name"] == theirs);
                let fields = common.next().map_or(fields, |one| &one["fields"]);
                self.structure(table, fields)
            }
            (Kind::Bool, "bool")
            | (Kind::Int8, "int8")
            | (Kind::Int16, "int16")
            | (Kind::Uint16, "uint16")
            | (Kind::Int32, "int32")
            | (Kind::Uint32, "uint32")
            | (Kind::Int64, "int64")
            | (Kind::Float64, "float64")
            | (Kind::Uuid, "uuid")
            | (Kind::String, "string")
            | (Kind::Bytes, "bytes" | "records") => Ok(()),
            (ours, theirs) => panic!("{place} is {ours:?}, not {theirs}"),
        }
    }
}

/// Kafka's way to write a range, cut at the newest version.
fn parse_versions(text: &Value, last: i16) -> Result<Versions> {
    let text = text.as_str().context("versions are a text")?;
    let (first, end) = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => (first.parse()?, last),
        (None, Some((first, end))) => (first.parse()?, end.parse()?),
        (None, None) => (text.parse()?, text.parse()?),
    };
    Ok(Versions::between(first, end))
}

fn closed(versions: Versions, last: i16) -> Versions {
    match versions.last {
        i16::MAX => Versions::between(versions.first, last),
        _ => versions,
    }
}

/// `ISRNodes` is `isr_nodes`, `TopicId` is `topic_id`.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (n, letter) in letters.iter().enumerate() {
        let after_small = n > 0 && !letters[n - 1].is_uppercase();
        let before_small = letters.get(n + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && n > 0 && (after_small || before_small) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    match &*snake {
        "match" | "type" => format!("r#{snake}"),
        _ => snake,
    }
}
