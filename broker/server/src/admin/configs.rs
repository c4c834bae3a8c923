//! Every setting with its value, its source and where the value would come from otherwise; changes of
//! a topic's settings.
//!
//! A node's settings come from its file, environment and flags. They are shown under Kafka's names
//! and cannot be changed while the node runs; the settings of a group follow from them.

use std::collections::BTreeMap;

use conveyor_controller::{
    Change, ConfigAlteration, ConfigOperation, Setting, ValueType, topic_settings,
};
use conveyor_grpc::ErrorCode;

use crate::BrokerConfig;
use crate::config::ValueSource;
use crate::node::{Node, Refusal, authorize_cluster, authorize_topic};
use crate::request::{Call, Operation, Resource};

/// Where a value comes from: Kafka's `ConfigSource`, those that there are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingSource {
    /// Set on the topic.
    DynamicTopic,
    /// Set for the node, by file, environment or flag.
    StaticBroker,
    /// Nobody has set it.
    Default,
}

/// A setting as it stands.
#[derive(Debug, Clone)]
pub(crate) struct DescribedSetting {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value in normal form; `None` when it has none.
    pub(crate) value: Option<String>,
    /// Where the value comes from.
    pub(crate) source: SettingSource,
    /// Whether it can be changed while the node runs.
    pub(crate) read_only: bool,
    /// Kafka's type of its values.
    pub(crate) value_type: ValueType,
    /// What it does.
    pub(crate) documentation: &'static str,
    /// Every place that gives it a value, the one that counts first.
    pub(crate) synonyms: Vec<Synonym>,
}

/// A place that gives a setting a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synonym {
    /// The setting's name there.
    pub(crate) name: &'static str,
    /// The value there.
    pub(crate) value: String,
    /// Which place.
    pub(crate) source: SettingSource,
}

/// The settings of a topic that is there.
pub(crate) fn topic(
    node: &Node,
    call: &Call,
    name: &str,
) -> Result<Vec<DescribedSetting>, Refusal> {
    authorize_topic(call, Operation::DescribeConfigs, name)?;
    let image = node.metadata.image();
    let topic = image.topic(name).ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {name:?} does not exist"),
        )
    })?;
    Ok(of_topic(&node.config, &topic.configs))
}

/// The settings that a topic with these of its own has on this node.
pub(crate) fn of_topic(
    config: &BrokerConfig,
    own: &BTreeMap<String, String>,
) -> Vec<DescribedSetting> {
    let describe = |setting: &Setting| {
        let set = own.get(setting.name).map(|value| Synonym {
            name: setting.name,
            value: value.clone(),
            source: SettingSource::DynamicTopic,
        });
        let of_node = BrokerConfig::synonym_of_topic_setting(setting.name);
        let inherited = of_node.map_or_else(Vec::new, |name| given_or_default(config, name));
        let synonyms: Vec<Synonym> = set.into_iter().chain(inherited).collect();
        // What the node gives in another unit stands in normal form among its defaults.
        let of_node = || config.topic_config_defaults().get(setting.name);
        let (value, source) = match synonyms.first() {
            Some(first) if first.source == SettingSource::DynamicTopic => {
                (first.value.clone(), first.source)
            }
            _ => match of_node() {
                Some(value) => (value.clone(), SettingSource::StaticBroker),
                None => (setting.default.to_owned(), SettingSource::Default),
            },
        };
        described(setting, Some(value), source, false, synonyms)
    };
    topic_settings().iter().map(describe).collect()
}

/// The settings of this node. An empty name stands for what all nodes have in common beyond their own
/// settings: nothing here.
pub(crate) fn broker(
    node: &Node,
    call: &Call,
    name: &str,
) -> Result<Vec<DescribedSetting>, Refusal> {
    authorize_cluster(call, Operation::DescribeConfigs)?;
    if name.is_empty() {
        return Ok(Vec::new());
    }
    check_is_this_node(node, name)?;
    let config = &node.config;
    let own = BrokerConfig::documented();
    let own = own.iter().map(|setting| of_node(config, setting));
    let facts = BrokerConfig::facts().iter().map(|fact| {
        let synonyms = vec![default_synonym(fact)];
        let value = Some(fact.default.to_owned());
        described(fact, value, SettingSource::Default, true, synonyms)
    });
    let mut all: Vec<DescribedSetting> = own.chain(facts).chain(broker_id(config)).collect();
    all.sort_by_key(|setting| setting.name);
    Ok(all)
}

/// The settings of a group that follow from the node's.
pub(crate) fn group(
    node: &Node,
    call: &Call,
    name: &str,
) -> Result<Vec<DescribedSetting>, Refusal> {
    if name.is_empty() {
        let message = "the name of a group must not be empty";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if !call.may(Operation::DescribeConfigs, Resource::Group(name)) {
        let message = format!(
            "{} may not see the settings of group {name}",
            call.principal()
        );
        return Err(Refusal::new(ErrorCode::GroupAuthorizationFailed, message));
    }
    const OF_GROUPS: [(&str, &str); 2] = [
        (
            "consumer.heartbeat.interval.ms",
            "group.consumer.heartbeat.interval.ms",
        ),
        (
            "consumer.session.timeout.ms",
            "group.consumer.session.timeout.ms",
        ),
    ];
    let rows = BrokerConfig::documented();
    let describe = |(name, of_node): (&'static str, &'static str)| {
        let row = rows.iter().find(|row| row.name == of_node)?;
        let synonyms = given_or_default(&node.config, of_node);
        let first = synonyms.first()?;
        let (value, source) = (Some(first.value.clone()), first.source);
        let setting = Setting { name, ..*row };
        Some(described(&setting, value, source, true, synonyms))
    };
    Ok(OF_GROUPS.into_iter().filter_map(describe).collect())
}

/// What to do with the settings of something.
#[derive(Debug, Clone)]
pub(crate) enum ConfigChange {
    /// Change some, leave the others.
    Alter(Vec<ConfigAlteration>),
    /// Make these its settings, drop the others.
    Replace(Vec<(String, String)>),
}

/// Changes settings of a topic, all or none.
pub(crate) async fn change_topic(
    node: &Node,
    call: &Call,
    topic: String,
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    authorize_topic(call, Operation::AlterConfigs, &topic)?;
    let change = match change {
        ConfigChange::Alter(alterations) => Change::AlterTopicConfigs {
            topic,
            alterations,
            validate_only,
        },
        ConfigChange::Replace(configs) => Change::ReplaceTopicConfigs {
            topic,
            configs,
            validate_only,
        },
    };
    node.metadata.submit(change).await?;
    Ok(())
}

/// Changes settings of a node: nothing can be set while it runs, so Kafka's refusal of read-only
/// settings is the answer. What is deleted was not set, which is no change.
pub(crate) fn change_broker(
    node: &Node,
    call: &Call,
    name: &str,
    change: &ConfigChange,
) -> Result<(), Refusal> {
    authorize_cluster(call, Operation::AlterConfigs)?;
    if !name.is_empty() {
        check_is_this_node(node, name)?;
    }
    let set: Vec<&str> = match change {
        ConfigChange::Alter(alterations) => alterations
            .iter()
            .filter(|alteration| alteration.operation != ConfigOperation::Delete)
            .map(|alteration| alteration.name.as_str())
            .collect(),
        ConfigChange::Replace(configs) => configs.iter().map(|(name, _)| name.as_str()).collect(),
    };
    if set.is_empty() {
        return Ok(());
    }
    let message = format!(
        "settings of a node cannot be updated dynamically ({}): change them in its file, environment \
         or flags and restart it",
        set.join(", ")
    );
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn check_is_this_node(node: &Node, name: &str) -> Result<(), Refusal> {
    if name == node.node_id.to_string() {
        return Ok(());
    }
    let message = format!("node {name:?} is not this one ({})", node.node_id);
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn of_node(config: &BrokerConfig, setting: &Setting) -> DescribedSetting {
    let synonyms = given_or_default(config, setting.name);
    let own = synonyms.first().filter(|first| first.name == setting.name);
    let source = own.map_or(SettingSource::Default, |own| own.source);
    let value = own.map(|own| own.value.clone());
    let synonyms = match value {
        Some(_) => synonyms,
        None => Vec::new(),
    };
    described(setting, value, source, true, synonyms)
}

/// Kafka's older name for `node.id`.
fn broker_id(config: &BrokerConfig) -> Option<DescribedSetting> {
    let rows = BrokerConfig::documented();
    let row = rows.iter().find(|row| row.name == "node.id")?;
    let setting = Setting {
        name: "broker.id",
        ..*row
    };
    let synonyms = given_or_default(config, "node.id");
    let first = synonyms.first()?;
    let (value, source) = (Some(first.value.clone()), first.source);
    Some(described(&setting, value, source, true, synonyms))
}

/// The places on the node that give a setting a value.
fn given_or_default(config: &BrokerConfig, name: &'static str) -> Vec<Synonym> {
    let given = |name: &'static str| {
        let set = config.value(name)?;
        (set.source != ValueSource::Default).then(|| Synonym {
            name,
            value: set.value.clone(),
            source: SettingSource::StaticBroker,
        })
    };
    let in_hours = BrokerConfig::setting_in_hours(name).and_then(given);
    let rows = BrokerConfig::documented();
    let default = (!BrokerConfig::is_without_default(name))
        .then(|| {
            rows.iter()
                .find(|row| row.name == name)
                .map(default_synonym)
        })
        .flatten();
    given(name)
        .into_iter()
        .chain(in_hours)
        .chain(default)
        .collect()
}

fn default_synonym(setting: &Setting) -> Synonym {
    Synonym {
        name: setting.name,
        value: setting.default.to_owned(),
        source: SettingSource::Default,
    }
}

fn described(
    setting: &Setting,
    value: Option<String>,
    source: SettingSource,
    read_only: bool,
    synonyms: Vec<Synonym>,
) -> DescribedSetting {
    DescribedSetting {
        name: setting.name,
        value,
        source,
        read_only,
        value_type: setting.value_type(),
        documentation: setting.documentation,
        synonyms,
    }
}
