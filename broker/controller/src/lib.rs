//! The cluster's metadata as a pure state machine: what topics, partitions and nodes there are.
//!
//! Owns the metadata records and their stored form ([`record`]), the image that their replay gives
//! ([`image`]), the rules for changing it ([`topics`], [`nodes`], [`brokers`], [`partitions`],
//! [`settings`], [`quotas`], [`topic_name`]) and the choice of nodes for new partitions
//! ([`placement`], [`assignment`]). A request that any node may have got is a [`Change`]; the
//! [`ActiveController`] decides on it.
//!
//! It knows no disk, network, clock or chance: ids and times come in as arguments. A handler looks
//! at an image and returns a [`Transition`]; nothing has changed until the transition's records are
//! replayed, live and at start alike. Whoever hosts it writes the records to the log before the
//! response leaves, so that a restart replays to the state that clients were told of.
//!
//! ```
//! use conveyor_controller::{MetadataImage, NewTopic, TopicDefaults, create_topic, register_broker};
//! use conveyor_controller::BrokerRegistration;
//! use conveyor_record::NodeId;
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut image = MetadataImage::default();
//! let node = BrokerRegistration::new(NodeId(1), "127.0.0.1", 9192);
//! image.replay_all(&register_broker(&image, node)?.records);
//!
//! let topic = NewTopic { name: "orders".into(), partitions: Some(6), ..NewTopic::default() };
//! let created = create_topic(&image, &topic, Uuid::from_u128(7), &TopicDefaults::default())?;
//! image.replay_all(&created.records);
//! assert_eq!(image.topic("orders").map(|topic| topic.partitions.len()), Some(6));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod active;
pub mod assignment;
pub mod brokers;
pub mod change;
pub mod cluster_config;
mod draft;
pub mod error;
pub mod image;
pub mod metadata_version;
pub mod nodes;
pub mod partitions;
pub mod placement;
pub mod quotas;
pub mod record;
pub mod settings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
pub mod topic_name;
pub mod topics;
pub mod units;

pub use active::{ActiveController, ControllerSettings, Timed};
pub use assignment::AssignmentError;
pub use change::{Answer, Change, ChangeError};
pub use error::{
    AlterConfigError, CreatePartitionsError, CreateTopicError, DeleteTopicError, RegisterError,
};
pub use image::{
    BrokerRegistration, CLUSTER_WIDE, Endpoint, MetadataImage, PartitionChange, PartitionImage,
    TopicImage,
};
pub use metadata_version::{
    MetadataVersion, MetadataVersionError, MetadataVersionRange, raise_metadata_version,
};
pub use nodes::{ProducerIdBlock, allocate_producer_ids, bootstrap, register_broker};
pub use quotas::{
    AlterQuotaError, ClientQuotas, QuotaEntity, QuotaFilter, QuotaKey, QuotaMatch, QuotaName,
    QuotaRate, QuotaScope, alter_client_quotas, checked_rates,
};
pub use record::{MetadataRecord, RecordDecodeError};
pub use settings::{
    CleanupPolicy, Durability, Setting, SettingError, SettingKind, TimestampType, TopicConfig,
    ValueType, topic_setting, topic_settings,
};
pub use topic_name::{InvalidTopicName, is_internal_topic, validate_topic_name};
pub use topics::{
    ConfigAlteration, ConfigOperation, CreatedTopic, NewTopic, TopicDefaults, alter_topic_configs,
    create_partitions, create_topic, delete_topic, replace_topic_configs,
};

/// The topic that holds the metadata records; never visible to clients.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// The id of [`METADATA_TOPIC`], the same in every cluster, as in Kafka.
pub const METADATA_TOPIC_ID: uuid::Uuid = uuid::Uuid::from_u128(1);
/// The topic that holds committed offsets and group state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that holds the state of transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// What a handler decided: the records that make it true, and what to answer once they are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition<R> {
    /// To be written and replayed, all or none, in this order.
    pub records: Vec<MetadataRecord>,
    /// The answer; void if the records could not be written.
    pub response: R,
}

impl<R> Transition<R> {
    /// The same records with another answer.
    pub fn map<S>(self, answer: impl FnOnce(R) -> S) -> Transition<S> {
        Transition {
            records: self.records,
            response: answer(self.response),
        }
    }
}
