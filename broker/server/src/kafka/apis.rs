//! The table of all APIs: which versions are served, and by which handler.
//!
//! A row is `Key, versions, module;` and means that `module::module` handles the API: an
//! `async fn (&Arc<KafkaService>, &KafkaCall, Request) -> Response`. A row stands here once the API
//! is whole, since clients use whatever is listed. Keep the rows in order of Kafka's keys.

use std::ops::RangeInclusive;
use std::sync::Arc;

use conveyor_kafka::{ApiKey, DecodeError, EncodeError, Gather, Input, Message};

use super::service::RequestError;
use super::{KafkaCall, KafkaService};
use crate::request::Api;

/// An API that is served.
#[derive(Debug)]
pub(super) struct ApiRow {
    pub(super) key: ApiKey,
    /// Its name in metrics.
    pub(super) api: Api,
    /// The versions of request and response.
    pub(super) versions: RangeInclusive<i16>,
}

/// Those that [`super::service`] handles itself: Produce, whose answer comes later, and those that
/// change what the connection is.
static OWN: &[ApiRow] = &[
    ApiRow {
        key: ApiKey::Produce,
        api: Api::Produce,
        versions: 3..=13,
    },
    ApiRow {
        key: ApiKey::SaslHandshake,
        api: Api::SaslHandshake,
        versions: 0..=1,
    },
    ApiRow {
        key: ApiKey::SaslAuthenticate,
        api: Api::SaslAuthenticate,
        versions: 0..=2,
    },
];

/// The row of an API; `None` if it is not served.
pub(super) fn row(key: ApiKey) -> Option<&'static ApiRow> {
    rows().find(|row| row.key == key)
}

/// Every API.
pub(super) fn rows() -> impl Iterator<Item = &'static ApiRow> {
    OWN.iter().chain(APIS)
}

macro_rules! apis {
    ($($key:ident, $versions:expr, $module:ident;)+) => {
        /// All other APIs.
        static APIS: &[ApiRow] = &[
            $(ApiRow { key: ApiKey::$key, api: Api::$key, versions: $versions },)+
        ];

        /// Lets the API's handler answer. The version was found to be served. The frame is given
        /// up once the request is read: a handler may wait long.
        pub(super) async fn answer(
            service: &Arc<KafkaService>,
            call: &KafkaCall,
            key: ApiKey,
            correlation_id: i32,
            input: Input,
        ) -> Result<Gather, RequestError> {
            match key {
                // Boxed one by one: a connection that waits in a small handler is not as large as
                // the largest of them.
                $(ApiKey::$key => {
                    let request = decode(call, key, input)?;
                    let response = Box::pin(super::$module::$module(service, call, request)).await;
                    encode(call, key, correlation_id, &response)
                })+
                _ => Err(RequestError::NotServed { key }),
            }
        }
    };
}

apis! {
    Fetch, 4..=17, fetch;
    ListOffsets, 1..=10, list_offsets;
    Metadata, 0..=13, metadata;
    OffsetCommit, 2..=10, offset_commit;
    OffsetFetch, 1..=10, offset_fetch;
    FindCoordinator, 0..=5, find_coordinator;
    JoinGroup, 0..=9, join_group;
    Heartbeat, 0..=4, heartbeat;
    LeaveGroup, 0..=5, leave_group;
    SyncGroup, 0..=5, sync_group;
    DescribeGroups, 0..=6, describe_groups;
    ListGroups, 0..=5, list_groups;
    ApiVersions, 0..=4, api_versions;
    CreateTopics, 2..=7, create_topics;
    DeleteTopics, 1..=6, delete_topics;
    DeleteRecords, 0..=2, delete_records;
    InitProducerId, 0..=5, init_producer_id;
    OffsetForLeaderEpoch, 2..=4, offset_for_leader_epoch;
    AddPartitionsToTxn, 0..=5, add_partitions_to_txn;
    AddOffsetsToTxn, 0..=4, add_offsets_to_txn;
    EndTxn, 0..=5, end_txn;
    WriteTxnMarkers, 1..=2, write_txn_markers;
    TxnOffsetCommit, 0..=5, txn_offset_commit;
    DescribeAcls, 1..=3, describe_acls;
    CreateAcls, 1..=3, create_acls;
    DeleteAcls, 1..=3, delete_acls;
    DescribeConfigs, 1..=4, describe_configs;
    AlterConfigs, 0..=2, alter_configs;
    DescribeLogDirs, 1..=5, describe_log_dirs;
    CreatePartitions, 0..=3, create_partitions;
    DeleteGroups, 0..=2, delete_groups;
    ElectLeaders, 0..=2, elect_leaders;
    IncrementalAlterConfigs, 0..=1, incremental_alter_configs;
    AlterPartitionReassignments, 0..=1, alter_partition_reassignments;
    ListPartitionReassignments, 0..=0, list_partition_reassignments;
    OffsetDelete, 0..=0, offset_delete;
    DescribeClientQuotas, 0..=1, describe_client_quotas;
    AlterClientQuotas, 0..=1, alter_client_quotas;
    DescribeUserScramCredentials, 0..=0, describe_user_scram_credentials;
    DescribeQuorum, 0..=2, describe_quorum;
    DescribeCluster, 0..=2, describe_cluster;
    DescribeProducers, 0..=0, describe_producers;
    DescribeTransactions, 0..=0, describe_transactions;
    ListTransactions, 0..=2, list_transactions;
    ConsumerGroupHeartbeat, 0..=1, consumer_group_heartbeat;
    ConsumerGroupDescribe, 0..=1, consumer_group_describe;
    ListConfigResources, 0..=1, list_config_resources;
    DescribeTopicPartitions, 0..=0, describe_topic_partitions;
}

/// Reads a request. Bytes behind it are ignored, as Kafka does: librdkafka leaves some behind a
/// `Metadata` request for all topics.
pub(super) fn decode<Q: Message>(
    call: &KafkaCall,
    key: ApiKey,
    mut input: Input,
) -> Result<Q, RequestError> {
    let version = call.version;
    let malformed = |source: DecodeError| RequestError::Malformed {
        key,
        version,
        source,
    };
    Q::decode(version, &mut input).map_err(malformed)
}

/// Writes a response.
pub(super) fn encode<R: Message>(
    call: &KafkaCall,
    key: ApiKey,
    correlation_id: i32,
    response: &R,
) -> Result<Gather, RequestError> {
    let version = call.version;
    let failed = |source: EncodeError| RequestError::NotEncoded {
        key,
        version,
        source,
    };
    conveyor_kafka::frame::response_frame(key, version, correlation_id, response).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_order_of_their_keys() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
    }

    #[test]
    fn every_version_served_has_a_layout() {
        for row in rows() {
            let known = row.key.versions().expect("messages");
            for version in row.versions.clone() {
                assert!(known.contains(version), "{} {version}", row.key);
            }
        }
    }
}
