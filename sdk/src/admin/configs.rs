//! Settings of topics and nodes.

use conveyor_grpc::v1;
use conveyor_record::NodeId;

use super::AdminClient;
use crate::error::{Error, Result};

/// Whose settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// A node's.
    Broker(NodeId),
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name, or one that starts with `conveyor.`.
    pub name: String,
    /// Its value; empty if it is sensitive.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can only be set at start.
    pub is_read_only: bool,
    /// Whether the value is kept secret.
    pub is_sensitive: bool,
    /// What it does.
    pub documentation: String,
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set for the node, by file, environment or flag.
    StaticBroker,
    /// Not set.
    Default,
    /// The node names a source that this client does not know.
    Unknown,
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigAlteration {
    /// Sets a value.
    Set(String, String),
    /// Goes back to the default.
    Delete(String),
    /// Adds to a list.
    Append(String, String),
    /// Takes from a list.
    Subtract(String, String),
}

impl ConfigResource {
    fn to_wire(&self) -> (v1::ConfigResourceType, String) {
        match self {
            Self::Topic(name) => (v1::ConfigResourceType::Topic, name.clone()),
            Self::Broker(node) => (v1::ConfigResourceType::Broker, node.to_string()),
        }
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(node) => write!(f, "node {node}"),
        }
    }
}

impl ConfigAlteration {
    fn to_wire(&self) -> v1::ConfigAlteration {
        let (operation, name, value) = match self {
            Self::Set(name, value) => (v1::AlterOperation::Set, name, value.clone()),
            Self::Delete(name) => (v1::AlterOperation::Delete, name, String::new()),
            Self::Append(name, value) => (v1::AlterOperation::Append, name, value.clone()),
            Self::Subtract(name, value) => (v1::AlterOperation::Subtract, name, value.clone()),
        };
        v1::ConfigAlteration {
            name: name.clone(),
            operation: operation.into(),
            value,
        }
    }
}

impl AdminClient {
    /// Settings with their sources; all of them when `names` is empty.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
        names: &[&str],
    ) -> Result<Vec<ConfigEntry>> {
        let (resource_type, resource_name) = resource.to_wire();
        let request = v1::DescribeConfigsRequest {
            resource_type: resource_type.into(),
            resource_name,
            config_names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let answer = self
            .ask_any("describe settings", |mut admin| {
                let request = request.clone();
                async move { admin.describe_configs(request).await }
            })
            .await?;
        check("describe settings of", resource, answer.error)?;
        Ok(answer.entries.into_iter().map(read_entry).collect())
    }

    /// Changes some settings and leaves the others as they are: all of `alterations` or none. With
    /// `validate_only` nothing is changed.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        alterations: &[ConfigAlteration],
        validate_only: bool,
    ) -> Result<()> {
        let (resource_type, resource_name) = resource.to_wire();
        let request = v1::IncrementalAlterConfigsRequest {
            resource_type: resource_type.into(),
            resource_name,
            alterations: alterations.iter().map(ConfigAlteration::to_wire).collect(),
            validate_only,
        };
        let answer = self
            .ask_any("alter settings", |mut admin| {
                let request = request.clone();
                async move { admin.incremental_alter_configs(request).await }
            })
            .await?;
        check("alter settings of", resource, answer.error)
    }
}

fn check(
    operation: &'static str,
    resource: &ConfigResource,
    error: Option<v1::ItemError>,
) -> Result<()> {
    let error = error.unwrap_or_default();
    Error::check(
        operation,
        || resource.to_string(),
        error.error_code,
        &error.error_message,
    )
}

fn read_entry(entry: v1::ConfigEntry) -> ConfigEntry {
    ConfigEntry {
        source: match entry.source() {
            v1::ConfigSource::Topic => ConfigSource::Topic,
            v1::ConfigSource::StaticBroker => ConfigSource::StaticBroker,
            v1::ConfigSource::Default => ConfigSource::Default,
            v1::ConfigSource::Unspecified => ConfigSource::Unknown,
        },
        name: entry.name,
        value: entry.value,
        is_read_only: entry.read_only,
        is_sensitive: entry.sensitive,
        documentation: entry.documentation,
    }
}
