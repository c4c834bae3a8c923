//! Defaults of topic settings that are the cluster's and no node's own.
//!
//! Acknowledgements and elections are counted with `min.insync.replicas` and `conveyor.durability`.
//! If the leader took one value from its settings file and the active controller another from its own,
//! a replica could be held eligible that lacks acknowledged records. So their defaults stand in the
//! metadata: the first node of a cluster brings them along, later ones must agree, and a command
//! changes them everywhere at once.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::draft::Draft;
use crate::image::CLUSTER_WIDE;
use crate::partitions::follow_min_insync_replicas;
use crate::{
    MetadataImage, MetadataRecord, MetadataVersion, SettingError, Transition, topic_setting,
};

/// Why a default stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ClusterConfigError {
    /// The default is each node's own.
    #[error(
        "setting {name:?} has no default for the whole cluster, only {} have: set it on the topic, or \
         in the settings of each node",
        CLUSTER_WIDE.join(" and ")
    )]
    NotClusterWide {
        /// The setting.
        name: String,
    },
    /// The log may not hold it yet.
    #[error("a node alone has no defaults but its own: change its settings")]
    LoneNode,
    /// The value makes no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// Sets a default for all topics that have no value of their own; `None` for the built-in one.
pub fn set_cluster_config(
    image: &MetadataImage,
    name: &str,
    value: Option<&str>,
) -> Result<Transition<()>, ClusterConfigError> {
    let setting = topic_setting(name).filter(|_| CLUSTER_WIDE.contains(&name));
    let setting = setting.ok_or_else(|| ClusterConfigError::NotClusterWide {
        name: name.chars().take(249).collect(),
    })?;
    if image.metadata_version() < MetadataVersion::CLUSTER {
        return Err(ClusterConfigError::LoneNode);
    }
    let value = value.map(|value| setting.normalize(value)).transpose()?;
    let mut draft = Draft::new(image);
    if image.cluster_configs().get(name) != value.as_ref() {
        draft.push(MetadataRecord::ClusterConfig {
            name: name.to_owned(),
            value,
        });
        follow_min_insync_replicas(&mut draft, None);
    }
    Ok(draft.finish(()))
}
