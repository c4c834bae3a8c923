//! Kafka's APIs: one handler file each, one row each in the table of [`apis`].
//!
//! A handler gets the decoded request and the [`KafkaCall`], checks, asks the parts that decide (the
//! same that the gRPC handlers ask), and translates into the response. It knows no socket and no
//! frame: [`KafkaService::handle`] takes one apart, finds the API and version, and encodes what comes
//! back. Produce alone is answered later than it is handled (see [`produce`]).
//!
//! Rules that hold for all (Kafka's): a version that is not served closes the connection, except
//! for `ApiVersions`, whose answer then is of version 0 and tells the versions; every item that is
//! asked about is answered once, in the order asked; a text kept beyond the request is a copy, since
//! [`conveyor_kafka::Text`] keeps its whole frame alive.

mod acls;
mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod apis;
mod authentication;
mod authorized_operations;
mod call;
mod config_changes;
mod config_resource;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod distinct;
mod elect_leaders;
mod end_txn;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod group_call;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl;
mod service;
mod sync_group;
mod transaction_call;
mod txn_offset_commit;
mod write_txn_markers;

pub(crate) use authentication::Mechanism;
pub(crate) use call::{KafkaCall, Session};
pub(crate) use produce::PendingProduce;
pub(crate) use service::{Answer, KafkaService, RequestError};
