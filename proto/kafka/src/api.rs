//! Kafka's APIs by key, and the messages that belong to each.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::gather::Gather;
use crate::input::Input;
use crate::message::{Message, Request};
use crate::messages;
use crate::schema::Versions;

macro_rules! apis {
    ($($key:ident = $code:literal $(=> $module:ident::{$request:ident, $response:ident})?,)+) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("Key ", stringify!($code), ".")] $key = $code,)+
        }

        impl ApiKey {
            /// Every key, by number.
            pub const ALL: &'static [Self] = &[$(Self::$key),+];

            /// The key of this number.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$key),)+
                    _ => None,
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$key => stringify!($key),)+
                }
            }

            /// The versions that the message tables have, and the first flexible one. `None` for an
            /// API without tables.
            const fn tables(self) -> Option<(Versions, i16)> {
                match self {
                    $($(Self::$key => Some((
                        <messages::$module::$request as Message>::VERSIONS,
                        <messages::$module::$request as Message>::FLEXIBLE_FROM,
                    )),)?)+
                    _ => None,
                }
            }
        }

        $($(
            impl Request for messages::$module::$request {
                const API_KEY: ApiKey = ApiKey::$key;
                type Response = messages::$module::$response;
            }
        )?)+

        /// A request of any API, for tools that take apart whatever comes.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "one variant an API, by its name")]
        pub enum AnyRequest {
            $($($key(messages::$module::$request),)?)+
        }

        impl AnyRequest {
            /// Reads the request of this API and version; `None` if the API has no tables.
            pub fn decode(
                key: ApiKey,
                version: i16,
                input: &mut Input,
            ) -> Option<Result<Self, DecodeError>> {
                match key {
                    $($(ApiKey::$key => {
                        Some(messages::$module::$request::decode(version, input).map(Self::$key))
                    })?)+
                    _ => None,
                }
            }

            /// Appends the request to `out`.
            pub fn encode(&self, version: i16, out: &mut Gather) -> Result<(), EncodeError> {
                match self {
                    $($(Self::$key(request) => messages::$module::$request::encode(request, version, out),)?)+
                }
            }
        }

        /// A response of any API, for tools that take apart whatever comes.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "one variant an API, by its name")]
        pub enum AnyResponse {
            $($($key(messages::$module::$response),)?)+
        }

        impl AnyResponse {
            /// Reads the response of this API and version; `None` if the API has no tables.
            pub fn decode(
                key: ApiKey,
                version: i16,
                input: &mut Input,
            ) -> Option<Result<Self, DecodeError>> {
                match key {
                    $($(ApiKey::$key => {
                        Some(messages::$module::$response::decode(version, input).map(Self::$key))
                    })?)+
                    _ => None,
                }
            }

            /// Appends the response to `out`.
            pub fn encode(&self, version: i16, out: &mut Gather) -> Result<(), EncodeError> {
                match self {
                    $($(Self::$key(response) => messages::$module::$response::encode(response, version, out),)?)+
                }
            }
        }

        /// The tables of an API's request and response; `None` if it has none.
        pub const fn schemas(key: ApiKey) -> Option<[&'static crate::schema::Table; 2]> {
            match key {
                $($(ApiKey::$key => Some([
                    <messages::$module::$request as Message>::TABLE,
                    <messages::$module::$response as Message>::TABLE,
                ]),)?)+
                _ => None,
            }
        }
    };
}

apis! {
    Produce = 0 => produce::{ProduceRequest, ProduceResponse},
    Fetch = 1 => fetch::{FetchRequest, FetchResponse},
    ListOffsets = 2 => list_offsets::{ListOffsetsRequest, ListOffsetsResponse},
    Metadata = 3 => metadata::{MetadataRequest, MetadataResponse},
    LeaderAndIsr = 4,
    StopReplica = 5,
    UpdateMetadata = 6,
    ControlledShutdown = 7,
    OffsetCommit = 8 => offset_commit::{OffsetCommitRequest, OffsetCommitResponse},
    OffsetFetch = 9 => offset_fetch::{OffsetFetchRequest, OffsetFetchResponse},
    FindCoordinator = 10 => find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse},
    JoinGroup = 11 => join_group::{JoinGroupRequest, JoinGroupResponse},
    Heartbeat = 12 => heartbeat::{HeartbeatRequest, HeartbeatResponse},
    LeaveGroup = 13 => leave_group::{LeaveGroupRequest, LeaveGroupResponse},
    SyncGroup = 14 => sync_group::{SyncGroupRequest, SyncGroupResponse},
    DescribeGroups = 15 => describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse},
    ListGroups = 16 => list_groups::{ListGroupsRequest, ListGroupsResponse},
    SaslHandshake = 17 => sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse},
    ApiVersions = 18 => api_versions::{ApiVersionsRequest, ApiVersionsResponse},
    CreateTopics = 19 => create_topics::{CreateTopicsRequest, CreateTopicsResponse},
    DeleteTopics = 20 => delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse},
    DeleteRecords = 21 => delete_records::{DeleteRecordsRequest, DeleteRecordsResponse},
    InitProducerId = 22 => init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
    OffsetForLeaderEpoch = 23 => offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse},
    AddPartitionsToTxn = 24 => add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse},
    AddOffsetsToTxn = 25 => add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse},
    EndTxn = 26 => end_txn::{EndTxnRequest, EndTxnResponse},
    WriteTxnMarkers = 27 => write_txn_markers::{WriteTxnMarkersRequest, WriteTxnMarkersResponse},
    TxnOffsetCommit = 28 => txn_offset_commit::{TxnOffsetCommitRequest, TxnOffsetCommitResponse},
    DescribeAcls = 29 => describe_acls::{DescribeAclsRequest, DescribeAclsResponse},
    CreateAcls = 30 => create_acls::{CreateAclsRequest, CreateAclsResponse},
    DeleteAcls = 31 => delete_acls::{DeleteAclsRequest, DeleteAclsResponse},
    DescribeConfigs = 32 => describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse},
    AlterConfigs = 33 => alter_configs::{AlterConfigsRequest, AlterConfigsResponse},
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35 => describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse},
    SaslAuthenticate = 36 => sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse},
    CreatePartitions = 37 => create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse},
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42 => delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse},
    ElectLeaders = 43 => elect_leaders::{ElectLeadersRequest, ElectLeadersResponse},
    IncrementalAlterConfigs = 44 => incremental_alter_configs::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse},
    AlterPartitionReassignments = 45 => alter_partition_reassignments::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse},
    ListPartitionReassignments = 46 => list_partition_reassignments::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse},
    OffsetDelete = 47 => offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse},
    DescribeClientQuotas = 48 => describe_client_quotas::{DescribeClientQuotasRequest, DescribeClientQuotasResponse},
    AlterClientQuotas = 49 => alter_client_quotas::{AlterClientQuotasRequest, AlterClientQuotasResponse},
    DescribeUserScramCredentials = 50 => describe_user_scram_credentials::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse},
    AlterUserScramCredentials = 51 => alter_user_scram_credentials::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse},
    Vote = 52,
    BeginQuorumEpoch = 53,
    EndQuorumEpoch = 54,
    DescribeQuorum = 55 => describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse},
    AlterPartition = 56,
    UpdateFeatures = 57 => update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse},
    Envelope = 58,
    FetchSnapshot = 59,
    DescribeCluster = 60 => describe_cluster::{DescribeClusterRequest, DescribeClusterResponse},
    DescribeProducers = 61 => describe_producers::{DescribeProducersRequest, DescribeProducersResponse},
    BrokerRegistration = 62,
    BrokerHeartbeat = 63,
    UnregisterBroker = 64 => unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse},
    DescribeTransactions = 65 => describe_transactions::{DescribeTransactionsRequest, DescribeTransactionsResponse},
    ListTransactions = 66 => list_transactions::{ListTransactionsRequest, ListTransactionsResponse},
    AllocateProducerIds = 67,
    ConsumerGroupHeartbeat = 68 => consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse},
    ConsumerGroupDescribe = 69 => consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse},
    ControllerRegistration = 70,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    AssignReplicasToDirs = 73,
    ListConfigResources = 74 => list_config_resources::{ListConfigResourcesRequest, ListConfigResourcesResponse},
    DescribeTopicPartitions = 75 => describe_topic_partitions::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse},
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    UpdateRaftVoter = 82,
    InitializeShareGroupState = 83,
    ReadShareGroupState = 84,
    WriteShareGroupState = 85,
    DeleteShareGroupState = 86,
    ReadShareGroupStateSummary = 87,
    StreamsGroupHeartbeat = 88,
    StreamsGroupDescribe = 89,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
}

impl ApiKey {
    /// The key's number.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The versions that can be read and written; `None` for an API without message tables.
    pub const fn versions(self) -> Option<Versions> {
        match self.tables() {
            Some((versions, _)) => Some(versions),
            None => None,
        }
    }

    /// Whether a version of this API is flexible (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.tables() {
            Some((_, flexible_from)) => version >= flexible_from,
            None => false,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version of the header before a request. Versions beyond the tables count as flexible, as
/// Kafka does: so an `ApiVersions` request of the future can be answered.
pub const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if key.is_flexible(version) { 2 } else { 1 }
}

/// The version of the header before a response. `ApiVersions` keeps version 0 for ever, since a
/// client reads it before it knows what the broker speaks.
pub const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    match key {
        ApiKey::ApiVersions => 0,
        key if key.is_flexible(version) => 1,
        _ => 0,
    }
}
