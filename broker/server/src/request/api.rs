//! Every API of the node: its name in metrics, and what it asks of the authorizer.
//!
//! Those of both protocols share a row. What a row asks is asked of a gRPC call as a whole; Kafka's
//! requests are let in and each item is asked about, since their answers tell refusals by item.

use std::fmt;

use super::{Operation, Resource};

macro_rules! apis {
    ($($variant:ident, $operation:ident, $resource:expr, $stream:literal;)+) => {
        /// An API of the node.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is named after its call")]
        pub enum Api { $($variant,)+ }

        impl Api {
            /// All of them, in order of [`Self::index`].
            pub const ALL: &'static [Api] = &[$(Api::$variant,)+];

            /// Its name, as in the contract.
            pub const fn name(self) -> &'static str {
                match self { $(Api::$variant => stringify!($variant),)+ }
            }

            /// What the whole call asks for.
            pub const fn operation(self) -> Operation {
                match self { $(Api::$variant => Operation::$operation,)+ }
            }

            /// Upon what the whole call asks for it.
            pub const fn resource(self) -> Resource<'static> {
                match self { $(Api::$variant => $resource,)+ }
            }

            /// Whether it lasts as long as the client likes.
            pub const fn is_stream(self) -> bool {
                match self { $(Api::$variant => $stream,)+ }
            }
        }
    };
}

apis! {
    GetMetadata, Describe, Resource::Cluster, false;
    InitProducerId, IdempotentWrite, Resource::Cluster, false;
    Produce, Write, Resource::AnyTopic, false;
    ProduceStream, Write, Resource::AnyTopic, true;
    Fetch, Read, Resource::AnyTopic, false;
    FetchStream, Read, Resource::AnyTopic, true;
    ListOffsets, Describe, Resource::AnyTopic, false;
    CreateTopics, Create, Resource::Cluster, false;
    DeleteTopics, Delete, Resource::AnyTopic, false;
    CreatePartitions, Alter, Resource::AnyTopic, false;
    DescribeConfigs, DescribeConfigs, Resource::AnyTopic, false;
    IncrementalAlterConfigs, AlterConfigs, Resource::AnyTopic, false;
    DeleteRecords, Delete, Resource::AnyTopic, false;
    DescribeLogs, Describe, Resource::AnyTopic, false;
    DescribeCluster, Describe, Resource::Cluster, false;
    ConsumerGroupHeartbeat, Read, Resource::AnyGroup, false;
    CommitOffsets, Read, Resource::AnyGroup, false;
    FetchOffsets, Describe, Resource::AnyGroup, false;
    ListGroups, Describe, Resource::Cluster, false;
    DescribeGroups, Describe, Resource::AnyGroup, false;
    DeleteGroups, Delete, Resource::AnyGroup, false;
    DeleteOffsets, Delete, Resource::AnyGroup, false;

    ApiVersions, Describe, Resource::Cluster, false;
    Metadata, Describe, Resource::AnyTopic, false;
    OffsetForLeaderEpoch, Describe, Resource::AnyTopic, false;
    SaslHandshake, Describe, Resource::Cluster, false;
    SaslAuthenticate, Describe, Resource::Cluster, false;
    FindCoordinator, Describe, Resource::AnyGroup, false;
    JoinGroup, Read, Resource::AnyGroup, false;
    SyncGroup, Read, Resource::AnyGroup, false;
    Heartbeat, Read, Resource::AnyGroup, false;
    LeaveGroup, Read, Resource::AnyGroup, false;
    OffsetCommit, Read, Resource::AnyGroup, false;
    OffsetFetch, Describe, Resource::AnyGroup, false;
    OffsetDelete, Delete, Resource::AnyGroup, false;
    ConsumerGroupDescribe, Describe, Resource::AnyGroup, false;
    AddPartitionsToTxn, Write, Resource::AnyTransactionalId, false;
    AddOffsetsToTxn, Write, Resource::AnyTransactionalId, false;
    EndTxn, Write, Resource::AnyTransactionalId, false;
    TxnOffsetCommit, Write, Resource::AnyTransactionalId, false;
    WriteTxnMarkers, ClusterAction, Resource::Cluster, false;
    DescribeProducers, Read, Resource::AnyTopic, false;
    DescribeTransactions, Describe, Resource::AnyTransactionalId, false;
    ListTransactions, Describe, Resource::AnyTransactionalId, false;
    AbortTransactions, Alter, Resource::AnyTransactionalId, false;
    FindHangingTransactions, Describe, Resource::Cluster, false;
    AbortHangingTransaction, Alter, Resource::Cluster, false;
    AlterConfigs, AlterConfigs, Resource::AnyTopic, false;
    DescribeTopicPartitions, Describe, Resource::AnyTopic, false;
    DescribeLogDirs, Describe, Resource::Cluster, false;
    DescribeQuorum, Describe, Resource::Cluster, false;
    ElectLeaders, Alter, Resource::Cluster, false;
    AlterPartitionReassignments, Alter, Resource::Cluster, false;
    ListPartitionReassignments, Describe, Resource::Cluster, false;
    DescribeClientQuotas, DescribeConfigs, Resource::Cluster, false;
    AlterClientQuotas, AlterConfigs, Resource::Cluster, false;
    DescribeAcls, Describe, Resource::Cluster, false;
    CreateAcls, Alter, Resource::Cluster, false;
    DeleteAcls, Alter, Resource::Cluster, false;
    ListConfigResources, DescribeConfigs, Resource::Cluster, false;
    DescribeUserScramCredentials, Describe, Resource::Cluster, false;
    AlterUserScramCredentials, Alter, Resource::Cluster, false;
}

impl Api {
    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Api;

    #[test]
    fn the_index_finds_the_api() {
        for (index, api) in Api::ALL.iter().enumerate() {
            assert_eq!(api.index(), index);
        }
    }
}
