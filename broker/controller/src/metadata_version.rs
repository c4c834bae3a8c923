//! The version of the metadata: which records may stand in its log (Kafka's `metadata.version`).
//!
//! It is raised by a command once every node's build reads what comes with it, and never lowered:
//! a node of an older build would stop at the first record that it does not know.

use std::fmt;

use conveyor_record::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{MetadataImage, MetadataRecord, Transition};

/// Which records may stand in the metadata log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetadataVersion(pub u16);

impl MetadataVersion {
    /// That of a node alone: version 0 of the records that there were before there were clusters.
    pub const LONE_NODE: Self = Self(0);
    /// The first with several nodes: incarnations, partition epochs, eligible leader replicas,
    /// reassignments.
    pub const CLUSTER: Self = Self(1);
    /// The newest that this build reads and writes.
    pub const NEWEST: Self = Self::CLUSTER;
}

impl fmt::Display for MetadataVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The metadata versions that a build reads and writes, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataVersionRange {
    /// The oldest.
    pub oldest: MetadataVersion,
    /// The newest.
    pub newest: MetadataVersion,
}

impl MetadataVersionRange {
    /// What this build reads and writes.
    pub const THIS_BUILD: Self = Self {
        oldest: MetadataVersion::LONE_NODE,
        newest: MetadataVersion::NEWEST,
    };

    /// Whether a build with this range can work at a version.
    pub fn contains(&self, version: MetadataVersion) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for MetadataVersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// Why the metadata version stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum MetadataVersionError {
    /// Records of the newer version may have been written.
    #[error("the metadata version is {present} and cannot go back to {wanted}")]
    Downgrade {
        /// The present one.
        present: MetadataVersion,
        /// The one asked for.
        wanted: MetadataVersion,
    },
    /// The active controller's own build does not know it.
    #[error(
        "metadata version {wanted} is not known to the active controller, which reads up to \
         {newest}: start a newer build on every node first"
    )]
    Unknown {
        /// The one asked for.
        wanted: MetadataVersion,
        /// The newest that the active controller knows.
        newest: MetadataVersion,
    },
    /// A registered node's build does not know it.
    #[error(
        "node {node_id} reads metadata versions {range}, not {wanted}: start a newer build there, or \
         unregister the node"
    )]
    Unsupported {
        /// The node.
        node_id: NodeId,
        /// What it reads.
        range: MetadataVersionRange,
        /// The one asked for.
        wanted: MetadataVersion,
    },
}

/// Raises the metadata version; no records if it is this one already.
pub fn raise_metadata_version(
    image: &MetadataImage,
    wanted: MetadataVersion,
) -> Result<Transition<()>, MetadataVersionError> {
    let present = image.metadata_version();
    if wanted < present {
        return Err(MetadataVersionError::Downgrade { present, wanted });
    }
    let newest = MetadataVersion::NEWEST;
    if wanted > newest {
        return Err(MetadataVersionError::Unknown { wanted, newest });
    }
    let behind = image
        .brokers()
        .find(|broker| !broker.metadata_versions.contains(wanted));
    if let Some(broker) = behind.filter(|_| wanted > present) {
        return Err(MetadataVersionError::Unsupported {
            node_id: broker.node_id,
            range: broker.metadata_versions,
            wanted,
        });
    }
    let record = MetadataRecord::MetadataVersion {
        metadata_version: wanted,
    };
    let records = if wanted > present {
        vec![record]
    } else {
        vec![]
    };
    Ok(Transition {
        records,
        response: (),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BrokerRegistration;

    fn image(newest: u16) -> MetadataImage {
        let mut image = MetadataImage::default();
        let mut node = BrokerRegistration::new(NodeId(1), "host", 9192);
        node.metadata_versions.newest = MetadataVersion(newest);
        image.replay(&MetadataRecord::RegisterBroker(node));
        image
    }

    #[test]
    fn the_version_goes_up_once_everybody_knows_it_and_never_down() {
        let behind = image(0);
        let refused = raise_metadata_version(&behind, MetadataVersion::CLUSTER);
        assert!(matches!(
            refused,
            Err(MetadataVersionError::Unsupported { .. })
        ));

        let mut image = image(1);
        let raised = raise_metadata_version(&image, MetadataVersion::CLUSTER).unwrap();
        image.replay_all(&raised.records);
        assert_eq!(image.metadata_version(), MetadataVersion::CLUSTER);
        let again = raise_metadata_version(&image, MetadataVersion::CLUSTER).unwrap();
        assert!(again.records.is_empty());
        let lowered = raise_metadata_version(&image, MetadataVersion::LONE_NODE);
        assert!(matches!(
            lowered,
            Err(MetadataVersionError::Downgrade { .. })
        ));
        let unknown = raise_metadata_version(&image, MetadataVersion(99));
        assert!(matches!(unknown, Err(MetadataVersionError::Unknown { .. })));
    }
}
