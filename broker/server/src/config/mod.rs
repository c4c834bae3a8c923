//! The settings of a node: from file, environment and flags into one checked struct.
//!
//! Later sources win: default, TOML file, environment (`CONVEYOR_` and the name in capitals, dots as
//! underscores), overrides (`name=value`). Sizes and durations may carry units (`"1 GiB"`, `"7d"`).
//! A name that is not in the table is an error wherever it comes from, except in the environment
//! where other programs may use the prefix: there it is refused too, because a misspelt setting that
//! is silently ignored is worse than a refused start.
//!
//! The struct is passed as an argument; nothing reads settings from a global.

mod listeners;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use conveyor_controller::{Setting, SettingError, TopicDefaults};
use thiserror::Error;

pub(crate) use listeners::in_url;
pub use listeners::{Advertised, KafkaListener};
pub use table::NodeSettings;

/// Prefix of the environment variables that are settings.
pub const ENV_PREFIX: &str = "CONVEYOR_";

/// The settings of a node, checked. Fields are those of [`NodeSettings`].
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    settings: NodeSettings,
    kafka_listeners: Vec<KafkaListener>,
    topic_defaults: BTreeMap<String, String>,
    values: BTreeMap<&'static str, ConfigValue>,
}

/// A setting's value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigValue {
    /// In normal form: sizes in bytes, times in ms.
    pub value: String,
    /// Who set it.
    pub source: ValueSource,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSource {
    /// Nobody set it.
    Default,
    /// The TOML file.
    File,
    /// An environment variable.
    Environment,
    /// A flag, or the program that embeds the broker.
    Override,
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Override => "flag",
        })
    }
}

/// Why a node cannot be configured as asked.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read settings from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{} is no TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value in the file is neither text, number, truth value nor a list of these.
    #[error("setting {name} has a value of a kind that no setting takes (from {from})")]
    Shape {
        /// The setting.
        name: String,
        /// File, environment or flag.
        from: ValueSource,
    },
    /// No such setting.
    #[error("setting {name:?} (from {from}) is not known{hint}")]
    Unknown {
        /// The name given.
        name: String,
        /// File, environment or flag.
        from: ValueSource,
        /// A name that was perhaps meant.
        hint: String,
    },
    /// An override that is not of the form `name=value`.
    #[error("{text:?} is not of the form name=value")]
    NoPair {
        /// The text.
        text: String,
    },
    /// A value that the setting does not take.
    #[error("{source} (from {from})")]
    Value {
        /// File, environment or flag.
        from: ValueSource,
        /// Which, and what is expected.
        source: SettingError,
    },
    /// A value that is right by itself but not for this node.
    #[error("setting {name} is {value:?}: {reason}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Deref for BrokerConfig {
    type Target = NodeSettings;

    fn deref(&self) -> &NodeSettings {
        &self.settings
    }
}

impl BrokerConfig {
    /// Reads `file` if there is one, the environment variables given (usually `std::env::vars()`)
    /// that start with `CONVEYOR_`, and overrides of the form `name=value`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[String],
    ) -> Result<Self, ConfigError> {
        let mut raw = Vec::new();
        if let Some(path) = file {
            raw.extend(read_file(path)?);
        }
        raw.extend(from_environment(environment)?);
        for text in overrides {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| ConfigError::NoPair { text: text.clone() })?;
            raw.push((
                name.trim().to_owned(),
                value.to_owned(),
                ValueSource::Override,
            ));
        }
        Self::from_raw(raw)
    }

    /// From pairs of name and value, for programs that embed the broker and for tests.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        let raw = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into(), ValueSource::Override));
        Self::from_raw(raw.collect())
    }

    /// All settings with type, default and documentation, by name.
    pub fn documented() -> Vec<Setting> {
        table::all()
    }

    /// The value of a setting and where it comes from; `None` if there is no such setting.
    pub fn value(&self, name: &str) -> Option<&ConfigValue> {
        self.values.get(name)
    }

    /// What new topics get, and the limits.
    pub fn topic_defaults(&self) -> TopicDefaults {
        TopicDefaults {
            partitions: self.num_partitions,
            replication_factor: self.default_replication_factor,
            configs: self.topic_defaults.clone(),
            ..TopicDefaults::default()
        }
    }

    /// The topic settings that this node gives another default than Kafka, in normal form.
    pub fn topic_config_defaults(&self) -> &BTreeMap<String, String> {
        &self.topic_defaults
    }

    /// The node's setting that is the default of a topic's setting.
    pub fn synonym_of_topic_setting(topic_setting: &str) -> Option<&'static str> {
        table::TOPIC_DEFAULTS
            .iter()
            .find_map(|(name, topic)| (*topic == topic_setting).then_some(*name))
    }

    /// The Kafka listeners, in the order they are set.
    pub fn kafka_listeners(&self) -> &[KafkaListener] {
        &self.kafka_listeners
    }

    /// The same setting in hours, if there is one.
    pub fn setting_in_hours(name: &str) -> Option<&'static str> {
        table::IN_HOURS
            .iter()
            .find_map(|(ms, hours)| (*ms == name).then_some(*hours))
    }

    /// Whether the setting counts as not given when nobody gives it, as in Kafka.
    pub fn is_without_default(name: &str) -> bool {
        table::WITHOUT_DEFAULT.contains(&name)
    }

    /// What is true of every node under Kafka's names and cannot be set.
    pub fn facts() -> &'static [Setting] {
        table::FACTS
    }

    fn from_raw(raw: Vec<(String, String, ValueSource)>) -> Result<Self, ConfigError> {
        let rows = table::all();
        let mut values: BTreeMap<&'static str, ConfigValue> = rows
            .iter()
            .map(|row| {
                let value = row.default.to_owned();
                (
                    row.name,
                    ConfigValue {
                        value,
                        source: ValueSource::Default,
                    },
                )
            })
            .collect();
        for (name, value, source) in raw {
            let row = rows
                .iter()
                .find(|row| row.name == name)
                .ok_or_else(|| unknown(&name, source, &rows))?;
            let value = row.normalize(&value).map_err(|error| ConfigError::Value {
                from: source,
                source: error,
            })?;
            values.insert(row.name, ConfigValue { value, source });
        }
        let in_hours = table::IN_HOURS
            .iter()
            .filter_map(|pair| from_hours(&values, *pair))
            .collect();
        let value_of = |name: &'static str| values.get(name).map_or("", |set| set.value.as_str());
        let settings =
            NodeSettings::from_values(value_of).map_err(|name| ConfigError::Invalid {
                name,
                value: value_of(name).to_owned(),
                reason: "it does not fit the setting's range".to_owned(),
            })?;
        let mut topic_defaults: BTreeMap<String, String> = in_hours;
        let given = table::TOPIC_DEFAULTS.iter().filter(|(name, _)| {
            values
                .get(name)
                .is_some_and(|set| set.source != ValueSource::Default)
        });
        topic_defaults
            .extend(given.map(|(name, topic)| ((*topic).to_owned(), value_of(name).to_owned())));
        let kafka_listeners = listeners::parse(
            &settings.listeners,
            &settings.advertised_listeners,
            &settings.listener_security_protocol_map,
        )?;
        let config = Self {
            settings,
            kafka_listeners,
            topic_defaults,
            values,
        };
        config.check()?;
        Ok(config)
    }

    /// Rules beyond the type of a single value.
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |name, value: &str, reason: &str| {
            Err(ConfigError::Invalid {
                name,
                value: value.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.log_dirs.is_empty() {
            return invalid("log.dirs", "", "a node needs at least one data directory");
        }
        let mut seen = self.log_dirs.clone();
        seen.sort();
        seen.dedup();
        if seen.len() != self.log_dirs.len() {
            return invalid(
                "log.dirs",
                &self.values["log.dirs"].value,
                "a directory is named twice",
            );
        }
        if self.grpc_listener.parse::<SocketAddr>().is_err() {
            return invalid(
                "listeners.grpc",
                &self.grpc_listener,
                "expected an address such as 127.0.0.1:9192",
            );
        }
        if !self.admin_listener.is_empty() && self.admin_listener.parse::<SocketAddr>().is_err() {
            return invalid(
                "listeners.admin",
                &self.admin_listener,
                "expected an address such as 127.0.0.1:9644",
            );
        }
        if !self.advertised_grpc.is_empty() && parse_host_port(&self.advertised_grpc).is_none() {
            return invalid(
                "advertised.listeners.grpc",
                &self.advertised_grpc,
                "expected host:port",
            );
        }
        if self.group_heartbeat_interval_ms >= self.group_session_timeout_ms {
            let value = self.group_heartbeat_interval_ms.to_string();
            return invalid(
                "group.consumer.heartbeat.interval.ms",
                &value,
                "it must be less than group.consumer.session.timeout.ms",
            );
        }
        Ok(())
    }
}

/// The topic setting that a value in hours gives, in milliseconds.
fn from_hours(
    values: &BTreeMap<&'static str, ConfigValue>,
    (name, in_hours): (&'static str, &'static str),
) -> Option<(String, String)> {
    let topic = table::TOPIC_DEFAULTS
        .iter()
        .find(|(node, _)| *node == name)?
        .1;
    let given = values.get(in_hours)?;
    let hours: i64 = given.value.parse().ok()?;
    (given.source != ValueSource::Default).then(|| {
        let millis = if hours < 0 { -1 } else { hours * 3_600_000 };
        (topic.to_owned(), millis.to_string())
    })
}

/// Host and port of a text such as `host:9192` or `[::1]:9192`.
pub(crate) fn parse_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0).then(|| (host.to_owned(), port))
}

fn read_file(path: &Path) -> Result<Vec<(String, String, ValueSource)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut raw = Vec::new();
    flatten("", table, &mut raw)?;
    Ok(raw)
}

/// `[log] dirs = …`, `log.dirs = …` and `"log.dirs" = …` all mean the setting `log.dirs`.
fn flatten(
    prefix: &str,
    table: toml::Table,
    raw: &mut Vec<(String, String, ValueSource)>,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, raw)?,
            toml::Value::Array(items) => {
                let items: Option<Vec<String>> = items.iter().map(scalar_text).collect();
                let text = items.ok_or_else(|| shape(&name))?.join(",");
                raw.push((name, text, ValueSource::File));
            }
            scalar => {
                let text = scalar_text(&scalar).ok_or_else(|| shape(&name))?;
                raw.push((name, text, ValueSource::File));
            }
        }
    }
    Ok(())
}

fn shape(name: &str) -> ConfigError {
    ConfigError::Shape {
        name: name.to_owned(),
        from: ValueSource::File,
    }
}

fn scalar_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn from_environment(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String, ValueSource)>, ConfigError> {
    let rows = table::all();
    let mut raw = Vec::new();
    for (variable, value) in environment {
        let Some(key) = variable.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let row = rows.iter().find(|row| env_key(row.name) == key);
        let row = row.ok_or_else(|| unknown(&variable, ValueSource::Environment, &rows))?;
        raw.push((row.name.to_owned(), value, ValueSource::Environment));
    }
    Ok(raw)
}

/// `log.dirs` as `LOG_DIRS`; settings that start with `conveyor.` do not repeat the prefix.
fn env_key(name: &str) -> String {
    name.strip_prefix("conveyor.")
        .unwrap_or(name)
        .replace('.', "_")
        .to_ascii_uppercase()
}

/// The environment variable of a setting.
pub fn env_variable(name: &str) -> String {
    format!("{ENV_PREFIX}{}", env_key(name))
}

fn unknown(name: &str, from: ValueSource, rows: &[Setting]) -> ConfigError {
    let wanted = name
        .strip_prefix(ENV_PREFIX)
        .unwrap_or(name)
        .to_ascii_lowercase()
        .replace('_', ".");
    let nearest = rows
        .iter()
        .map(|row| (edit_distance(&wanted, row.name), row.name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    ConfigError::Unknown {
        name: name.to_owned(),
        from,
        hint: nearest.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?")),
    }
}

/// Levenshtein's distance; names are short.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn no_env() -> Vec<(String, String)> {
        Vec::new()
    }

    #[test]
    fn defaults_are_a_valid_node() {
        let config = BrokerConfig::from_pairs::<&str, &str>([]).unwrap();
        assert_eq!(config.node_id, 1);
        assert_eq!(config.grpc_listener, "127.0.0.1:9192");
        assert_eq!(config.log_dirs, [PathBuf::from("data")]);
        assert!(!config.auto_create_topics);
        assert!(config.topic_config_defaults().is_empty());
    }

    #[test]
    fn every_row_is_documented_once_and_its_default_is_normal() {
        let rows = BrokerConfig::documented();
        assert!(rows.windows(2).all(|pair| pair[0].name < pair[1].name));
        for row in rows {
            assert_eq!(row.normalize(row.default).as_deref(), Ok(row.default));
            assert!(!row.documentation.is_empty());
        }
    }

    #[test]
    fn files_may_quote_nest_or_dot_names_and_use_units() {
        let file = file(
            "\"num.partitions\" = 3\nlog.dirs = [\"/a\", \"/b\"]\n[log.retention]\nms = \"2d\"\n",
        );
        let config = BrokerConfig::load(Some(file.path()), no_env(), &[]).unwrap();
        assert_eq!(config.num_partitions, 3);
        assert_eq!(config.log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(config.topic_config_defaults()["retention.ms"], "172800000");
        assert_eq!(
            config.value("log.retention.ms").unwrap().source,
            ValueSource::File
        );
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let file = file("\"num.partitions\" = 3\n\"node.id\" = 5\n\"broker.rack\" = \"a\"\n");
        let environment = [
            ("CONVEYOR_NUM_PARTITIONS".to_owned(), "4".to_owned()),
            ("CONVEYOR_NODE_ID".to_owned(), "6".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
        ];
        let flags = ["node.id=7".to_owned()];
        let config = BrokerConfig::load(Some(file.path()), environment, &flags).unwrap();
        assert_eq!(
            (config.num_partitions, config.node_id, &*config.rack),
            (4, 7, "a")
        );
    }

    #[test]
    fn hours_count_unless_milliseconds_are_given() {
        let hours = [("log.retention.hours", "24"), ("log.roll.hours", "2")];
        let config = BrokerConfig::from_pairs(hours).unwrap();
        assert_eq!(config.topic_config_defaults()["retention.ms"], "86400000");
        assert_eq!(config.topic_config_defaults()["segment.ms"], "7200000");
        let both = [("log.retention.hours", "24"), ("log.retention.ms", "1000")];
        let config = BrokerConfig::from_pairs(both).unwrap();
        assert_eq!(config.topic_config_defaults()["retention.ms"], "1000");
        let forever = BrokerConfig::from_pairs([("log.retention.hours", "-1")]).unwrap();
        assert_eq!(forever.topic_config_defaults()["retention.ms"], "-1");
    }

    #[test]
    fn errors_name_the_setting_and_its_source() {
        let cases: [(&str, &[&str]); 5] = [
            (
                "\"num.partition\" = 3",
                &["num.partition", "file", "did you mean num.partitions?"],
            ),
            (
                "\"num.partitions\" = 0",
                &["num.partitions", "file", "1 to 10000"],
            ),
            (
                "\"listeners.grpc\" = \"here\"",
                &["listeners.grpc", "127.0.0.1:9192"],
            ),
            ("\"log.dirs\" = [\"a\", \"a\"]", &["log.dirs", "twice"]),
            ("\"node.id\" = 2026-01-01", &["node.id"]),
        ];
        for (text, expected) in cases {
            let file = file(text);
            let error = BrokerConfig::load(Some(file.path()), no_env(), &[])
                .unwrap_err()
                .to_string();
            for part in expected {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        }
        let misspelt = [("CONVEYOR_NODE_IDD".to_owned(), "1".to_owned())];
        let error = BrokerConfig::load(None, misspelt, &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CONVEYOR_NODE_IDD") && error.contains("node.id"),
            "{error}"
        );
        assert!(BrokerConfig::load(None, no_env(), &["node.id".to_owned()]).is_err());
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(
            parse_host_port("example.org:9192"),
            Some(("example.org".into(), 9192))
        );
        assert_eq!(parse_host_port("[::1]:9192"), Some(("::1".into(), 9192)));
        for text in ["", "host", "host:", ":1", "host:0", "host:70000"] {
            assert_eq!(parse_host_port(text), None, "{text}");
        }
    }
}
