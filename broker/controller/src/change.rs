//! Every request that changes the metadata, as one type that can be sent.
//!
//! Any node takes a request from a client; the active controller decides on it. What travels is a
//! [`Change`], and back an [`Answer`] or a [`ChangeError`]. Whether the client may ask for it has been
//! checked by the node that it asked; the ids of new topics are drawn there too, so that a change that
//! is sent again because its answer was lost does not create a second topic.
//!
//! Sizes are the sender's to bound: a change comes from a node of the cluster, never from a client as
//! it is.

use conveyor_record::{BrokerEpoch, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::brokers::draining::{DrainStatus, LeaveError, drain, unregister};
use crate::brokers::heartbeat::{HeartbeatAnswer, HeartbeatRequest, heartbeat};
use crate::brokers::registration::{Registered, RegistrationRequest, register};
use crate::brokers::{BrokerEpochError, Sessions, check_broker_epoch};
use crate::cluster_config::{ClusterConfigError, set_cluster_config};
use crate::draft::Draft;
use crate::partitions::alter::{AlterPartitionAnswer, AlterPartitionRequest, alter_partition};
use crate::partitions::balance::plan_balance;
use crate::partitions::election::{
    ElectionError, ElectionOutcome, RecoverRequest, Recovered, elect_preferred, recover,
};
use crate::partitions::reassign::{ReassignError, Reassignment, reassign};
use crate::partitions::resign::{ResignError, ResignRequest, resign};
use crate::{
    AlterConfigError, AlterQuotaError, ConfigAlteration, CreatePartitionsError, CreateTopicError,
    CreatedTopic, DeleteTopicError, MetadataImage, MetadataVersion, MetadataVersionError, NewTopic,
    ProducerIdBlock, QuotaEntity, QuotaKey, QuotaRate, RegisterError, TopicDefaults, Transition,
    allocate_producer_ids, alter_client_quotas, alter_topic_configs, create_partitions,
    create_topic, delete_topic, raise_metadata_version, replace_topic_configs,
};

/// A request that changes the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Creates topics, each or none of its own, with ids that were never used.
    CreateTopics {
        /// Ids and topics.
        topics: Vec<(Uuid, NewTopic)>,
        /// Only check.
        validate_only: bool,
    },
    /// Deletes a topic with all its records.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// Adds partitions up to a new total.
    CreatePartitions {
        /// The topic.
        topic: String,
        /// How many it is to have.
        total_count: i32,
        /// The nodes of each new partition, when somebody has chosen them.
        assignments: Option<Vec<Vec<NodeId>>>,
        /// Only check.
        validate_only: bool,
    },
    /// Changes settings of a topic, all or none.
    AlterTopicConfigs {
        /// The topic.
        topic: String,
        /// What to do.
        alterations: Vec<ConfigAlteration>,
        /// Only check.
        validate_only: bool,
    },
    /// Makes these the settings of a topic: what is not named goes back to its default.
    ReplaceTopicConfigs {
        /// The topic.
        topic: String,
        /// The settings, each once.
        configs: Vec<(String, String)>,
        /// Only check.
        validate_only: bool,
    },
    /// Sets a default for all topics.
    SetClusterConfig {
        /// The setting.
        name: String,
        /// Its value; `None` for the built-in one.
        value: Option<String>,
    },
    /// Changes limits of a user or client id, all or none.
    AlterClientQuotas {
        /// Whose.
        entity: QuotaEntity,
        /// The new limits; `None` for none.
        changes: Vec<(QuotaKey, Option<QuotaRate>)>,
        /// Only check.
        validate_only: bool,
    },
    /// Takes a block of producer ids.
    AllocateProducerIds {
        /// The node that will hand them out.
        node_id: NodeId,
        /// Its incarnation.
        broker_epoch: BrokerEpoch,
    },
    /// Raises the metadata version.
    RaiseMetadataVersion {
        /// The version wanted.
        metadata_version: MetadataVersion,
    },
    /// A node begins an incarnation.
    Register(RegistrationRequest),
    /// A node is alive.
    Heartbeat(HeartbeatRequest),
    /// A leader proposes in-sync sets.
    AlterPartition(AlterPartitionRequest),
    /// A leader gives up.
    Resign(ResignRequest),
    /// Makes preferred replicas lead.
    ElectPreferredLeaders {
        /// Topics and partitions; `None` for all.
        partitions: Option<Vec<(String, i32)>>,
    },
    /// Gives a partition a leader that may lack acknowledged records.
    Recover(RecoverRequest),
    /// Begins, replaces or cancels reassignments, each by itself.
    Reassign {
        /// Which.
        reassignments: Vec<Reassignment>,
        /// Whether the number of replicas may change.
        allow_factor_change: bool,
    },
    /// Evens out replicas and leaders, a few partitions at a time.
    Balance {
        /// How many partitions may be under way.
        moves_max: usize,
    },
    /// Begins or ends to make a node empty.
    Drain {
        /// The node.
        node_id: NodeId,
        /// Whether it is to become empty.
        draining: bool,
    },
    /// Takes a stopped node out of the cluster.
    Unregister {
        /// The node.
        node_id: NodeId,
        /// Even if it still has replicas.
        force: bool,
    },
}

/// The answer to a [`Change`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so.
    Done,
    /// Each topic's outcome, in their order.
    TopicsCreated(Vec<Result<CreatedTopic, CreateTopicError>>),
    /// The id of the topic that went.
    TopicDeleted(Uuid),
    /// How many partitions were added.
    PartitionsCreated(usize),
    /// Producer ids for the node that asked.
    ProducerIds(ProducerIdBlock),
    /// The node's incarnation.
    Registered(Registered),
    /// What the node is told.
    Heartbeat(HeartbeatAnswer),
    /// Each proposal's outcome, in their order.
    PartitionsAltered(AlterPartitionAnswer),
    /// Each partition's new leader, in their order.
    Resigned(Vec<Result<NodeId, ResignError>>),
    /// Each election's outcome.
    LeadersElected(Vec<ElectionOutcome>),
    /// What was accepted.
    Recovered(Recovered),
    /// Each reassignment's outcome, in their order.
    Reassigned(Vec<Result<(), ReassignError>>),
    /// The reassignments begun; none if all is even, or enough are under way.
    Balancing(Vec<Reassignment>),
    /// What the node still holds.
    Draining(DrainStatus),
}

/// Why a change is refused. Nothing of it has happened.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the error of the rule of that name")]
pub enum ChangeError {
    #[error(transparent)]
    DeleteTopic(#[from] DeleteTopicError),
    #[error(transparent)]
    CreatePartitions(#[from] CreatePartitionsError),
    #[error(transparent)]
    AlterConfig(#[from] AlterConfigError),
    #[error(transparent)]
    ClusterConfig(#[from] ClusterConfigError),
    #[error(transparent)]
    AlterQuota(#[from] AlterQuotaError),
    #[error(transparent)]
    MetadataVersion(#[from] MetadataVersionError),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    BrokerEpoch(#[from] BrokerEpochError),
    #[error(transparent)]
    Election(#[from] ElectionError),
    #[error(transparent)]
    Leave(#[from] LeaveError),
}

impl Change {
    /// Decides on the change; see [`crate::ActiveController::decide`].
    pub(crate) fn decide(
        &self,
        image: &MetadataImage,
        sessions: &mut Sessions,
        defaults: &TopicDefaults,
    ) -> Result<Transition<Answer>, ChangeError> {
        Ok(match self {
            Self::CreateTopics {
                topics,
                validate_only,
            } => checked(create_topics(image, topics, defaults), *validate_only)
                .map(Answer::TopicsCreated),
            Self::DeleteTopic { name } => delete_topic(image, name)?.map(Answer::TopicDeleted),
            Self::CreatePartitions {
                topic,
                total_count,
                assignments,
                validate_only,
            } => {
                let chosen = assignments.as_deref();
                let grown = create_partitions(image, topic, *total_count, chosen, defaults)?;
                checked(grown, *validate_only).map(Answer::PartitionsCreated)
            }
            Self::AlterTopicConfigs {
                topic,
                alterations,
                validate_only,
            } => {
                let altered = alter_topic_configs(image, topic, alterations, defaults)?;
                checked(altered, *validate_only).map(done)
            }
            Self::ReplaceTopicConfigs {
                topic,
                configs,
                validate_only,
            } => {
                let configs = configs.clone();
                let replaced = replace_topic_configs(image, topic, configs, defaults)?;
                checked(replaced, *validate_only).map(done)
            }
            Self::SetClusterConfig { name, value } => {
                set_cluster_config(image, name, value.as_deref())?.map(done)
            }
            Self::AlterClientQuotas {
                entity,
                changes,
                validate_only,
            } => {
                let altered = alter_client_quotas(image, entity, changes)?;
                checked(altered, *validate_only).map(done)
            }
            Self::AllocateProducerIds {
                node_id,
                broker_epoch,
            } => {
                check_broker_epoch(image, *node_id, *broker_epoch)?;
                allocate_producer_ids(image).map(Answer::ProducerIds)
            }
            Self::RaiseMetadataVersion { metadata_version } => {
                raise_metadata_version(image, *metadata_version)?.map(done)
            }
            Self::Register(request) => {
                let registered = register(image, sessions, request)?;
                let epoch = registered.response.broker_epoch;
                sessions.contact(request.node_id, epoch, -1);
                registered.map(Answer::Registered)
            }
            Self::Heartbeat(request) => heartbeat(image, sessions, request)?.map(Answer::Heartbeat),
            Self::AlterPartition(request) => {
                alter_partition(image, request)?.map(Answer::PartitionsAltered)
            }
            Self::Resign(request) => resign(image, request)?.map(Answer::Resigned),
            Self::ElectPreferredLeaders { partitions } => {
                elect_preferred(image, partitions.as_deref()).map(Answer::LeadersElected)
            }
            Self::Recover(request) => recover(image, request)?.map(Answer::Recovered),
            Self::Reassign {
                reassignments,
                allow_factor_change,
            } => reassign(image, reassignments, *allow_factor_change).map(Answer::Reassigned),
            Self::Balance { moves_max } => {
                let plan = plan_balance(image, *moves_max);
                reassign(image, &plan, false).map(|_| Answer::Balancing(plan))
            }
            Self::Drain { node_id, draining } => {
                drain(image, *node_id, *draining)?.map(Answer::Draining)
            }
            Self::Unregister { node_id, force } => {
                let gone = unregister(image, *node_id, *force)?;
                sessions.forget(*node_id);
                gone.map(done)
            }
        })
    }
}

fn done((): ()) -> Answer {
    Answer::Done
}

/// Without its records if it was only to be checked.
fn checked<R>(transition: Transition<R>, validate_only: bool) -> Transition<R> {
    let Transition {
        mut records,
        response,
    } = transition;
    if validate_only {
        records.clear();
    }
    Transition { records, response }
}

fn create_topics(
    image: &MetadataImage,
    topics: &[(Uuid, NewTopic)],
    defaults: &TopicDefaults,
) -> Transition<Vec<Result<CreatedTopic, CreateTopicError>>> {
    let mut draft = Draft::new(image);
    let outcomes = topics.iter().map(|(id, topic)| {
        if image.topic_by_id(*id).is_some() {
            // The same request again, or an id that somebody else has: the name is taken either way.
            return Err(CreateTopicError::Exists {
                name: topic.name.clone(),
            });
        }
        let created = create_topic(draft.image(), topic, *id, defaults)?;
        draft.extend(created.records);
        Ok(created.response)
    });
    let outcomes = outcomes.collect();
    draft.finish(outcomes)
}
