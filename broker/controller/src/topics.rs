//! Creating, growing, changing and deleting topics: all the rules, none of the effects.

use std::collections::BTreeMap;

use conveyor_record::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::assignment::{AssignmentError, check_added, check_new};
use crate::draft::Draft;
use crate::partitions::follow_min_insync_replicas;
use crate::placement::Sites;
use crate::settings::{list_items, normalize};
use crate::topic_name::collision_form;
use crate::{
    AlterConfigError, CreatePartitionsError, CreateTopicError, DeleteTopicError, METADATA_TOPIC,
    MetadataImage, MetadataRecord, PartitionImage, SettingError, TopicConfig, Transition,
    is_internal_topic, topic_setting, validate_topic_name,
};

/// A topic that somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` for the node's `num.partitions`.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` for the node's `default.replication.factor`.
    pub replication_factor: Option<i32>,
    /// Settings by Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// The nodes of each partition, by partition number, when somebody has chosen them; then neither
    /// `partitions` nor `replication_factor` may be given.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Set when the broker itself makes one of its internal topics.
    pub internal: bool,
}

/// What a topic gets when nobody says, and the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i32,
    /// The most partitions that one topic may have.
    pub partitions_per_topic_max: usize,
    /// The most replicas that one node may hold, of all topics.
    pub partitions_per_node_max: usize,
    /// The node's own defaults of topic settings, in normal form.
    pub configs: BTreeMap<String, String>,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self {
            partitions: 1,
            replication_factor: 1,
            partitions_per_topic_max: 10_000,
            partitions_per_node_max: 20_000,
            configs: BTreeMap::new(),
        }
    }
}

/// A topic as it was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions.
    pub partitions: usize,
    /// How many replicas of each.
    pub replication_factor: usize,
    /// The settings that were given, in normal form.
    pub configs: BTreeMap<String, String>,
}

/// One change of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAlteration {
    /// The setting.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
}

/// What to do with a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOperation {
    /// Give it this value.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add these items to a list.
    Append(String),
    /// Take these items out of a list.
    Subtract(String),
}

/// Creates a topic. `id` must never have been used.
pub fn create_topic(
    image: &MetadataImage,
    topic: &NewTopic,
    id: Uuid,
    defaults: &TopicDefaults,
) -> Result<Transition<CreatedTopic>, CreateTopicError> {
    check_new_name(image, topic)?;
    let (replicas, factor) = replicas_of_new(image, topic, id, defaults)?;
    let count = replicas.len();
    let configs = new_configs(topic, defaults)?;

    let mut records = Vec::with_capacity(1 + count + configs.len());
    records.push(MetadataRecord::Topic {
        name: topic.name.clone(),
        topic_id: id,
    });
    records.extend(configs.iter().map(|(name, value)| MetadataRecord::Config {
        topic_id: id,
        name: name.clone(),
        value: Some(value.clone()),
    }));
    records.extend(partition_records(image, id, 0, replicas));
    Ok(Transition {
        records,
        response: CreatedTopic {
            id,
            partitions: count,
            replication_factor: factor,
            configs,
        },
    })
}

/// Deletes a topic; answers its id.
pub fn delete_topic(
    image: &MetadataImage,
    name: &str,
) -> Result<Transition<Uuid>, DeleteTopicError> {
    if is_internal_topic(name) {
        return Err(DeleteTopicError::Internal {
            name: name.to_owned(),
        });
    }
    let topic = image.topic(name).ok_or_else(|| DeleteTopicError::Unknown {
        name: shortened(name),
    })?;
    Ok(Transition {
        records: vec![MetadataRecord::RemoveTopic { topic_id: topic.id }],
        response: topic.id,
    })
}

/// Adds partitions up to a new total; answers how many were added. `assignments` are the nodes of each
/// new partition in order, or nothing to leave the choice to the broker.
pub fn create_partitions(
    image: &MetadataImage,
    name: &str,
    total_count: i32,
    assignments: Option<&[Vec<NodeId>]>,
    defaults: &TopicDefaults,
) -> Result<Transition<usize>, CreatePartitionsError> {
    if is_internal_topic(name) {
        return Err(CreatePartitionsError::Internal {
            name: name.to_owned(),
        });
    }
    let topic = image
        .topic(name)
        .ok_or_else(|| CreatePartitionsError::Unknown {
            name: shortened(name),
        })?;
    let sites = Sites::of(image);
    let present = topic.partitions.len();
    let factor = topic
        .partitions
        .first()
        .map_or(1, PartitionImage::replication_factor);
    if factor > sites.count() && assignments.is_none() {
        return Err(CreatePartitionsError::TooFewNodes {
            name: name.to_owned(),
            factor,
            nodes: sites.count(),
        });
    }
    let room = room_for_partitions(image, defaults, sites.count(), factor);
    let max = defaults.partitions_per_topic_max.min(present + room);
    let total = usize::try_from(total_count).unwrap_or(0);
    if total <= present || total > max {
        return Err(CreatePartitionsError::InvalidCount {
            name: name.to_owned(),
            count: total_count,
            present,
            max,
        });
    }
    let added = total - present;
    let replicas = match assignments {
        None => sites.place(topic.id, present, added, factor),
        Some(chosen) => {
            check_added(chosen, added, factor, image).map_err(|source| {
                CreatePartitionsError::InvalidAssignment {
                    name: name.to_owned(),
                    source,
                }
            })?;
            chosen.to_vec()
        }
    };
    Ok(Transition {
        records: partition_records(image, topic.id, present, replicas),
        response: added,
    })
}

/// Changes settings of a topic, all or none.
pub fn alter_topic_configs(
    image: &MetadataImage,
    name: &str,
    alterations: &[ConfigAlteration],
    defaults: &TopicDefaults,
) -> Result<Transition<()>, AlterConfigError> {
    let topic = image.topic(name).ok_or_else(|| AlterConfigError::Unknown {
        name: shortened(name),
    })?;
    let mut configs = topic.configs.clone();
    let mut changes: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for alteration in alterations {
        if is_fixed(name, &alteration.name) {
            return Err(AlterConfigError::InternalFixed {
                topic: name.to_owned(),
                name: alteration.name.clone(),
            });
        }
        let value = altered_value(&topic.configs, defaults, alteration).map_err(|source| {
            AlterConfigError::Setting {
                topic: name.to_owned(),
                source,
            }
        })?;
        match &value {
            Some(value) => configs.insert(alteration.name.clone(), value.clone()),
            None => configs.remove(&alteration.name),
        };
        if changes.insert(&alteration.name, value).is_some() {
            return Err(AlterConfigError::Repeated {
                topic: name.to_owned(),
                name: alteration.name.clone(),
            });
        }
    }
    TopicConfig::resolve(&configs, &defaults.configs)
        .check()
        .map_err(|source| AlterConfigError::Setting {
            topic: name.to_owned(),
            source,
        })?;
    let records = changes
        .into_iter()
        .filter(|(name, value)| topic.configs.get(*name) != value.as_ref())
        .map(|(name, value)| MetadataRecord::Config {
            topic_id: topic.id,
            name: name.to_owned(),
            value,
        });
    let mut draft = Draft::new(image);
    draft.extend(records);
    follow_min_insync_replicas(&mut draft, Some(topic.id));
    Ok(draft.finish(()))
}

/// Makes these the settings of a topic, all or none: what is not named goes back to its default.
pub fn replace_topic_configs(
    image: &MetadataImage,
    name: &str,
    configs: Vec<(String, String)>,
    defaults: &TopicDefaults,
) -> Result<Transition<()>, AlterConfigError> {
    let topic = image.topic(name).ok_or_else(|| AlterConfigError::Unknown {
        name: shortened(name),
    })?;
    let dropped = topic
        .configs
        .keys()
        .filter(|present| !configs.iter().any(|(name, _)| name == *present))
        // What the broker depends on stays as it is unless somebody asks for its change by name.
        .filter(|present| !is_fixed(name, present))
        .map(|name| ConfigAlteration {
            name: name.clone(),
            operation: ConfigOperation::Delete,
        });
    let dropped: Vec<ConfigAlteration> = dropped.collect();
    let set = configs.into_iter().map(|(name, value)| ConfigAlteration {
        name,
        operation: ConfigOperation::Set(value),
    });
    let alterations: Vec<ConfigAlteration> = set.chain(dropped).collect();
    alter_topic_configs(image, name, &alterations, defaults)
}

/// Whether the broker depends on this setting of its own topic.
fn is_fixed(topic: &str, setting: &str) -> bool {
    is_internal_topic(topic) && setting == "cleanup.policy"
}

fn check_new_name(image: &MetadataImage, topic: &NewTopic) -> Result<(), CreateTopicError> {
    let name = &topic.name;
    validate_topic_name(name)?;
    if name == METADATA_TOPIC || (is_internal_topic(name) && !topic.internal) {
        return Err(CreateTopicError::Internal { name: name.clone() });
    }
    if image.topic(name).is_some() {
        return Err(CreateTopicError::Exists { name: name.clone() });
    }
    let form = collision_form(name);
    let collides = name.contains(['.', '_']).then(|| {
        image
            .topics()
            .find(|other| collision_form(&other.name) == form)
    });
    if let Some(other) = collides.flatten() {
        return Err(CreateTopicError::Collides {
            name: name.clone(),
            other: other.name.clone(),
        });
    }
    Ok(())
}

/// The replicas of each partition of a new topic, and how many each has.
fn replicas_of_new(
    image: &MetadataImage,
    topic: &NewTopic,
    id: Uuid,
    defaults: &TopicDefaults,
) -> Result<(Vec<Vec<NodeId>>, usize), CreateTopicError> {
    let sites = Sites::of(image);
    if topic.assignments.is_empty() {
        let factor = replication_factor(topic, defaults, sites.count())?;
        let count = partition_count(image, topic, defaults, sites.count(), factor)?;
        return Ok((sites.place(id, 0, count, factor), factor));
    }
    let chosen = check_new(topic, image).map_err(|source| match source {
        AssignmentError::CountGiven => CreateTopicError::AssignmentAndCount {
            name: topic.name.clone(),
        },
        source => CreateTopicError::InvalidAssignment {
            name: topic.name.clone(),
            source,
        },
    })?;
    let factor = chosen.first().map_or(1, Vec::len);
    check_room(
        image,
        topic,
        defaults,
        sites.count(),
        factor,
        chosen.len() as i32,
    )?;
    Ok((chosen, factor))
}

fn replication_factor(
    topic: &NewTopic,
    defaults: &TopicDefaults,
    nodes: usize,
) -> Result<usize, CreateTopicError> {
    let factor = topic
        .replication_factor
        .unwrap_or(defaults.replication_factor);
    match usize::try_from(factor) {
        Ok(count) if (1..=nodes).contains(&count) => Ok(count),
        _ => Err(CreateTopicError::InvalidReplicationFactor {
            name: topic.name.clone(),
            factor,
            nodes,
        }),
    }
}

fn partition_count(
    image: &MetadataImage,
    topic: &NewTopic,
    defaults: &TopicDefaults,
    nodes: usize,
    factor: usize,
) -> Result<usize, CreateTopicError> {
    let count = topic.partitions.unwrap_or(defaults.partitions);
    check_room(image, topic, defaults, nodes, factor, count)
}

/// Whether so many partitions fit, of one topic and on the nodes.
fn check_room(
    image: &MetadataImage,
    topic: &NewTopic,
    defaults: &TopicDefaults,
    nodes: usize,
    factor: usize,
    count: i32,
) -> Result<usize, CreateTopicError> {
    let room = room_for_partitions(image, defaults, nodes, factor);
    let max = defaults.partitions_per_topic_max.min(room);
    match usize::try_from(count) {
        Ok(fitting) if (1..=max).contains(&fitting) => Ok(fitting),
        _ => Err(CreateTopicError::InvalidPartitions {
            name: topic.name.clone(),
            count,
            max,
        }),
    }
}

/// How many partitions of this many replicas the nodes can still take.
fn room_for_partitions(
    image: &MetadataImage,
    defaults: &TopicDefaults,
    nodes: usize,
    factor: usize,
) -> usize {
    let replicas: usize = image
        .topics()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.replicas.len())
        .sum();
    (nodes * defaults.partitions_per_node_max).saturating_sub(replicas) / factor.max(1)
}

fn new_configs(
    topic: &NewTopic,
    defaults: &TopicDefaults,
) -> Result<BTreeMap<String, String>, CreateTopicError> {
    let checked = || {
        let mut configs = BTreeMap::new();
        for (name, value) in &topic.configs {
            configs.insert(name.clone(), normalize(name, value)?);
        }
        TopicConfig::resolve(&configs, &defaults.configs).check()?;
        Ok(configs)
    };
    checked().map_err(|source| CreateTopicError::Setting {
        name: topic.name.clone(),
        source,
    })
}

/// New partitions; whoever is running is in sync, for there is nothing to lag behind with.
fn partition_records(
    image: &MetadataImage,
    topic_id: Uuid,
    first: usize,
    replicas: Vec<Vec<NodeId>>,
) -> Vec<MetadataRecord> {
    let numbered = (first..).zip(replicas);
    let records = numbered.map(|(index, replicas)| {
        let running = replicas.iter().filter(|node| image.is_active(**node));
        let isr = running.copied().collect();
        MetadataRecord::Partition {
            topic_id,
            partition: index as i32,
            state: PartitionImage::new(replicas, isr),
        }
    });
    records.collect()
}

/// The value that a setting has after an alteration; `None` for the default.
fn altered_value(
    configs: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
    alteration: &ConfigAlteration,
) -> Result<Option<String>, SettingError> {
    let name = &alteration.name;
    let setting = topic_setting(name).ok_or_else(|| SettingError::Unknown {
        name: shortened(name),
    })?;
    let (ConfigOperation::Append(items) | ConfigOperation::Subtract(items)) = &alteration.operation
    else {
        return match &alteration.operation {
            ConfigOperation::Set(value) => setting.normalize(value).map(Some),
            _ => Ok(None),
        };
    };
    if !setting.is_list() {
        return Err(SettingError::NotAList { name: name.clone() });
    }
    let present = configs.get(name).or_else(|| defaults.configs.get(name));
    let mut list = list_items(present.map_or(setting.default, String::as_str));
    let items = list_items(items);
    list.retain(|item| !items.contains(item));
    if matches!(alteration.operation, ConfigOperation::Append(_)) {
        list.extend(items);
    }
    setting.normalize(&list.join(",")).map(Some)
}

/// A name from outside, short enough for an error message.
fn shortened(name: &str) -> String {
    name.chars().take(249).collect()
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
