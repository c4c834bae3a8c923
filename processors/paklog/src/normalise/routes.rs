//! Which topics are read and where canonical events go: a table that a person edits, `routes.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::topics::Topic;

const BUILTIN: &str = include_str!("../../routes.toml");

/// The longest name of a topic, as in Kafka.
const NAME_BYTES_MAX: usize = 249;

/// Why a table of routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The text is not what the table has to look like.
    #[error("routes: {0}")]
    Syntax(#[from] toml::de::Error),
    /// There is nothing to read.
    #[error("routes: there is no [[source]]")]
    NoSource,
    /// A topic stands there twice.
    #[error("routes: {0:?} stands there twice")]
    Twice(String),
    /// No broker would take this name.
    #[error("routes: {0:?} is no name of a topic: letters, digits, `.`, `_` and `-`, at most 249")]
    Name(String),
    /// A target that is none of the canonical topics.
    #[error("routes: [targets] names {0:?}, which is none of the canonical topics")]
    UnknownTarget(String),
    /// What cannot be read would go round in circles.
    #[error("routes: {0:?} takes what cannot be read, it cannot be a source")]
    ErrorSource(String),
}

/// What becomes of an event that lies on its own canonical topic in another form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InPlace {
    /// It stays as it is: its readers have it.
    #[default]
    Leave,
    /// It is written there once more, in canonical form.
    Republish,
}

/// What becomes of an event of a type that is not in the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// It goes to the error topic.
    #[default]
    Error,
    /// It is passed over.
    Skip,
}

/// A topic that is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTopic {
    /// Its name.
    pub topic: String,
    /// The `source` of events that do not name theirs.
    pub service: Option<String>,
    /// What becomes of types that are not in the catalogue.
    #[serde(default)]
    pub unknown: Unknown,
    /// What becomes of events that lie on their own canonical topic.
    #[serde(default)]
    pub in_place: InPlace,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutesFile {
    #[serde(default)]
    targets: BTreeMap<String, String>,
    #[serde(default)]
    source: Vec<SourceTopic>,
}

/// The topics that are read, and the names of the canonical ones.
#[derive(Clone, Debug)]
pub struct Routes {
    sources: BTreeMap<String, SourceTopic>,
    /// In the order of [`Topic::ALL`].
    targets: [Arc<str>; Topic::ALL.len()],
}

impl Routes {
    /// Reads a table in the form of `routes.toml`.
    ///
    /// # Errors
    /// A table that contradicts itself, or by which records could go round in circles.
    pub fn parse(text: &str) -> Result<Self, RoutesError> {
        let file: RoutesFile = toml::from_str(text)?;
        let mut targets = Topic::ALL.map(|topic| Arc::<str>::from(topic.name()));
        for (canonical, name) in file.targets {
            let Some(topic) = Topic::from_name(&canonical) else {
                return Err(RoutesError::UnknownTarget(canonical));
            };
            targets[topic as usize] = check_name(name)?.into();
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = targets.iter().find(|name| !names.insert(Arc::clone(name))) {
            return Err(RoutesError::Twice(twice.to_string()));
        }
        let mut sources = BTreeMap::new();
        for source in file.source {
            let topic = check_name(source.topic.clone())?;
            if *topic == *targets[Topic::Error as usize] {
                return Err(RoutesError::ErrorSource(topic));
            }
            if sources.insert(topic.clone(), source).is_some() {
                return Err(RoutesError::Twice(topic));
            }
        }
        if sources.is_empty() {
            return Err(RoutesError::NoSource);
        }
        Ok(Self { sources, targets })
    }

    /// The table that is part of the program.
    pub fn builtin() -> &'static Self {
        static ROUTES: LazyLock<Routes> =
            LazyLock::new(|| Routes::parse(BUILTIN).expect("a test reads the embedded routes"));
        &ROUTES
    }

    /// The text of that table, to be edited.
    pub const fn builtin_text() -> &'static str {
        BUILTIN
    }

    /// The topics to read, by name.
    pub fn sources(&self) -> impl Iterator<Item = &SourceTopic> {
        self.sources.values()
    }

    /// What is known of a topic that is read.
    pub fn source(&self, topic: &str) -> Option<&SourceTopic> {
        self.sources.get(topic)
    }

    /// The name of a canonical topic.
    pub fn target(&self, topic: Topic) -> &Arc<str> {
        &self.targets[topic as usize]
    }
}

fn check_name(name: String) -> Result<String, RoutesError> {
    let is_legal = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_legal {
        Ok(name)
    } else {
        Err(RoutesError::Name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_reads_what_the_services_write() {
        let routes = Routes::builtin();
        for topic in [
            "fulfillment.order_management.v1.events",
            "fulfillment.inventory.v1.events",
            "wave-planning-events",
            "task-events",
            "fulfillment.shipment.v1.events",
            "warehouse-execution.pack-ship.ship-events",
        ] {
            assert!(routes.source(topic).is_some(), "{topic}");
        }
        for topic in Topic::ALL {
            assert_eq!(&**routes.target(topic), topic.name());
        }
    }

    #[test]
    fn a_table_that_cannot_work_is_refused() {
        let refused = |text: &str| Routes::parse(text).unwrap_err().to_string();
        let source = |topic: &str| format!("[[source]]\ntopic = \"{topic}\"\n");
        assert!(refused("").contains("no [[source]]"));
        assert!(refused(&source("error-events")).contains("cannot be a source"));
        assert!(refused(&source("a b")).contains("no name of a topic"));
        assert!(refused(&(source("a") + &source("a"))).contains("twice"));
        let shadow = |of: &str, name: &str| format!("[targets]\n\"{of}\" = \"{name}\"\n");
        assert!(refused(&(shadow("orders", "x") + &source("a"))).contains("none of the canonical"));
        let same = shadow("order-events", "wave-events") + &source("a");
        assert!(refused(&same).contains("twice"));
        // Renamed, it takes what cannot be read all the same.
        let circle = shadow("error-events", "bad") + &source("bad");
        assert!(refused(&circle).contains("cannot be a source"));
        assert!(refused("[[source]]\ntopic = \"a\"\nunkown = \"skip\"").contains("unkown"));
    }
}
