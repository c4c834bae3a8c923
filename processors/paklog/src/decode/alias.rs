//! Old event type names and what they mean: a table that a person edits, `aliases.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::event::EventType;

const BUILTIN: &str = include_str!("../../aliases.toml");

/// Why an alias table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// The text is not what the table has to look like.
    #[error("alias table: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A canonical name that is not in the catalogue.
    #[error("alias table: there is no canonical type {0:?}")]
    UnknownType(String),
    /// A name that stands there for two types.
    #[error("alias table: {alias:?} stands for both {first} and {second}")]
    Ambiguous {
        /// The name.
        alias: String,
        /// The type that it was given first.
        first: &'static str,
        /// The type that it was given then.
        second: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasFile {
    types: BTreeMap<String, Vec<String>>,
}

/// From any known type name to its canonical type.
#[derive(Clone, Debug)]
pub struct AliasTable {
    by_name: BTreeMap<String, EventType>,
}

impl AliasTable {
    /// Reads a table in the form of `aliases.toml`. Canonical names are always known.
    pub fn parse(text: &str) -> Result<Self, AliasError> {
        let file: AliasFile = toml::from_str(text)?;
        let mut by_name: BTreeMap<String, EventType> = EventType::ALL
            .iter()
            .map(|event_type| (event_type.name().to_owned(), *event_type))
            .collect();
        for (canonical, aliases) in file.types {
            let event_type = EventType::ALL
                .iter()
                .copied()
                .find(|event_type| event_type.name() == canonical)
                .ok_or(AliasError::UnknownType(canonical))?;
            for alias in aliases {
                if let Some(first) = by_name.insert(alias.clone(), event_type) {
                    return Err(AliasError::Ambiguous {
                        alias,
                        first: first.name(),
                        second: event_type.name(),
                    });
                }
            }
        }
        Ok(Self { by_name })
    }

    /// The table that is part of the program.
    pub fn builtin() -> &'static Self {
        static TABLE: LazyLock<AliasTable> = LazyLock::new(|| {
            AliasTable::parse(BUILTIN).expect("a test reads the embedded alias table")
        });
        &TABLE
    }

    /// The canonical type that `name` means: a canonical name, an alias, or a Java class of which
    /// the bare name, with or without `Event` at its end, is an alias.
    pub fn resolve(&self, name: &str) -> Option<EventType> {
        let class = name.rsplit(['.', '$', '/']).next().unwrap_or(name);
        let bare = class.strip_suffix("Event").unwrap_or(class);
        [name, class, bare]
            .into_iter()
            .find_map(|candidate| self.by_name.get(candidate).copied())
    }

    /// Every name that the table knows, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = (&str, EventType)> {
        self.by_name
            .iter()
            .map(|(name, event_type)| (name.as_str(), *event_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_file_resolves_to_the_type_above_it() {
        let file: AliasFile = toml::from_str(BUILTIN).expect("TOML");
        let table = AliasTable::parse(BUILTIN).expect("table");
        let mut aliases = 0;
        for (canonical, names) in &file.types {
            for name in names {
                assert_eq!(
                    table.resolve(name).map(EventType::name),
                    Some(canonical.as_str()),
                    "{name}"
                );
                aliases += 1;
            }
        }
        assert!(aliases > 100, "{aliases} aliases only");
        for event_type in EventType::ALL {
            assert_eq!(table.resolve(event_type.name()), Some(*event_type));
        }
    }

    #[test]
    fn java_classes_are_known_by_their_bare_names() {
        let table = AliasTable::builtin();
        for name in [
            "WaveReleasedEvent",
            "com.paklog.wave.planning.domain.event.WaveReleasedEvent",
            "com.paklog.Events$WaveReleased",
        ] {
            assert_eq!(table.resolve(name), Some(EventType::WaveReleased), "{name}");
        }
        assert_eq!(table.resolve("com.paklog.product.ProductCreated"), None);
        assert_eq!(table.resolve(""), None);
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let unknown = AliasTable::parse("[types]\n\"com.paklog.no.such.type.v1\" = []");
        assert!(matches!(unknown, Err(AliasError::UnknownType(_))));
        let twice = AliasTable::parse(
            "[types]\n\"com.paklog.task-execution.task.created.v1\" = [\"A\"]\n\
             \"com.paklog.task-execution.task.failed.v1\" = [\"A\"]",
        );
        assert!(matches!(twice, Err(AliasError::Ambiguous { .. })));
    }
}
