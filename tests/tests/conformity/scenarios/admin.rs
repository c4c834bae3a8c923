//! Settings, the cluster, quotas, access rules.

use anyhow::Result;
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use conveyor_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use conveyor_kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use conveyor_kafka::messages::create_acls::{AclCreation, CreateAclsRequest};
use conveyor_kafka::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use conveyor_kafka::messages::describe_acls::DescribeAclsRequest;
use conveyor_kafka::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest,
};
use conveyor_kafka::messages::describe_cluster::DescribeClusterRequest;
use conveyor_kafka::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use conveyor_kafka::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use conveyor_kafka::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use conveyor_kafka::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use conveyor_kafka::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use conveyor_kafka::messages::incremental_alter_configs as incremental;
use conveyor_kafka::messages::list_config_resources::ListConfigResourcesRequest;
use conveyor_kafka::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use conveyor_kafka::messages::sasl_authenticate::SaslAuthenticateRequest;
use conveyor_kafka::messages::sasl_handshake::SaslHandshakeRequest;

use super::topics::{create_topic, create_topic_with};
use crate::side::Side;

const TOPIC: &str = "administered";
/// Kinds of resources in `DescribeConfigs` and its like.
const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

/// A setting, what is done to it, and a value.
type Operation<'a> = (&'a str, i8, Option<&'a str>);

pub(super) fn play(side: &mut Side) -> Result<()> {
    let settings = [
        ("retention.ms", "7200000"),
        ("cleanup.policy", "compact,delete"),
    ];
    create_topic_with(side, TOPIC, 2, &settings)?;
    describe_settings(side)?;
    alter_settings(side)?;
    alter_settings_one_by_one(side)?;
    cluster(side)?;
    partitions(side)?;
    quotas(side)?;
    access_rules(side)?;
    authentication(side)
}

fn describe(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        }],
        ..Default::default()
    }
}

fn describe_settings(side: &mut Side) -> Result<()> {
    side.ask_all("all of a topic", |_| describe(OF_TOPIC, TOPIC, None))?;
    side.ask_all("all of a topic with synonyms", |_| DescribeConfigsRequest {
        include_synonyms: true,
        ..describe(OF_TOPIC, TOPIC, None)
    })?;
    let some = ["retention.ms", "segment.bytes", "no.such.setting"];
    side.ask_all("some of a topic", |_| {
        describe(OF_TOPIC, TOPIC, Some(&some))
    })?;
    for version in side
        .versions(ApiKey::DescribeConfigs)
        .filter(|version| *version >= 3)
    {
        let request = DescribeConfigsRequest {
            include_documentation: true,
            ..describe(OF_TOPIC, TOPIC, Some(&some))
        };
        side.ask("some of a topic with documentation", version, &request)?;
    }
    side.ask_all("of a topic that does not exist", |_| {
        describe(OF_TOPIC, "nobody", None)
    })?;
    let some = ["num.partitions", "log.retention.ms", "message.max.bytes"];
    side.ask_all("some of the broker", |_| {
        describe(OF_BROKER, "1", Some(&some))
    })?;
    side.ask_all("of a broker that does not exist", |_| {
        describe(OF_BROKER, "77", None)
    })?;
    side.ask_all("of what is no broker", |_| describe(OF_BROKER, "one", None))?;
    side.ask_all("of a kind that does not exist", |_| describe(99, "1", None))
}

fn alter_settings(side: &mut Side) -> Result<()> {
    let ask = |name: &str, configs: &[(&str, Option<&str>)]| AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: OF_TOPIC,
            resource_name: name.into(),
            configs: configs
                .iter()
                .map(|(name, value)| AlterableConfig {
                    name: (*name).into(),
                    value: value.map(Into::into),
                })
                .collect(),
        }],
        validate_only: false,
    };
    create_topic(side, "altered", 1)?;
    side.ask_all("of a topic", |_| {
        ask("altered", &[("retention.ms", Some("1000000"))])
    })?;
    side.ask_all("that do not exist", |_| {
        ask("altered", &[("no.such.setting", Some("1"))])
    })?;
    side.ask_all("with a bad value", |_| {
        ask("altered", &[("retention.ms", Some("soon"))])
    })?;
    side.ask_all("without a value", |_| {
        ask("altered", &[("retention.ms", None)])
    })?;
    side.ask_all("of a topic that does not exist", |_| {
        ask("nobody", &[("retention.ms", Some("1"))])
    })?;
    side.ask_all("only validated", |_| AlterConfigsRequest {
        validate_only: true,
        ..ask("altered", &[("retention.ms", Some("5"))])
    })?;
    let keys = ["retention.ms", "cleanup.policy"];
    side.ask_all("after an alteration", |_| {
        describe(OF_TOPIC, "altered", Some(&keys))
    })
}

fn alter_settings_one_by_one(side: &mut Side) -> Result<()> {
    let ask = |name: &str, configs: &[Operation]| incremental::IncrementalAlterConfigsRequest {
        resources: vec![incremental::AlterConfigsResource {
            resource_type: OF_TOPIC,
            resource_name: name.into(),
            configs: configs
                .iter()
                .map(|(name, operation, value)| incremental::AlterableConfig {
                    name: (*name).into(),
                    config_operation: *operation,
                    value: value.map(Into::into),
                })
                .collect(),
        }],
        validate_only: false,
    };
    create_topic(side, "adjusted", 1)?;
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let steps: [(&str, &str, &[Operation]); 11] = [
        (
            "set",
            "adjusted",
            &[
                ("retention.ms", set, Some("900000")),
                ("cleanup.policy", set, Some("delete")),
            ],
        ),
        (
            "append to a list",
            "adjusted",
            &[("cleanup.policy", append, Some("compact"))],
        ),
        (
            "subtract from a list",
            "adjusted",
            &[("cleanup.policy", subtract, Some("delete"))],
        ),
        (
            "append to what is no list",
            "adjusted",
            &[("retention.ms", append, Some("1"))],
        ),
        ("delete", "adjusted", &[("retention.ms", delete, None)]),
        (
            "delete what is not set",
            "adjusted",
            &[("segment.ms", delete, None)],
        ),
        (
            "set what does not exist",
            "adjusted",
            &[("no.such.setting", set, Some("1"))],
        ),
        (
            "set to a bad value",
            "adjusted",
            &[("retention.ms", set, Some("soon"))],
        ),
        ("set to nothing", "adjusted", &[("retention.ms", set, None)]),
        (
            "an operation that does not exist",
            "adjusted",
            &[("retention.ms", 9, Some("1"))],
        ),
        (
            "of a topic that does not exist",
            "nobody",
            &[("retention.ms", set, Some("1"))],
        ),
    ];
    for (step, topic, configs) in steps {
        side.ask_all(step, |_| ask(topic, configs))?;
    }
    let twice = [
        ("retention.ms", set, Some("1")),
        ("retention.ms", set, Some("2")),
    ];
    side.ask_all("the same setting twice", |_| ask("adjusted", &twice))?;
    let keys = ["retention.ms", "cleanup.policy"];
    side.ask_all("after adjustments", |_| {
        describe(OF_TOPIC, "adjusted", Some(&keys))
    })
}

fn cluster(side: &mut Side) -> Result<()> {
    side.ask_all("brokers", |_| DescribeClusterRequest::default())?;
    side.ask_all("brokers with authorized operations", |_| {
        DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        }
    })?;
    for version in side
        .versions(ApiKey::DescribeCluster)
        .filter(|version| *version >= 1)
    {
        let controllers = DescribeClusterRequest {
            endpoint_type: 2,
            ..Default::default()
        };
        side.ask("controllers, asked of a broker", version, &controllers)?;
    }
    side.ask_all("the metadata log", |_| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    })?;
    side.ask_all("a topic", |_| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: TOPIC.into(),
            partitions: vec![0, 1],
        }]),
    })?;
    side.ask_all("no topics", |_| DescribeLogDirsRequest {
        topics: Some(Vec::new()),
    })?;
    for version in side.versions(ApiKey::ListConfigResources) {
        let kinds: &[i8] = if version == 0 { &[] } else { &[OF_BROKER] };
        let request = ListConfigResourcesRequest {
            resource_types: kinds.to_vec(),
        };
        side.ask("brokers", version, &request)?;
    }
    Ok(())
}

fn partitions(side: &mut Side) -> Result<()> {
    let elect = |election_type, topic: &str, partition| ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![TopicPartitions {
            topic: topic.into(),
            partitions: vec![partition],
        }]),
        timeout_ms: 15_000,
    };
    side.ask_all("the preferred leader leads", |_| elect(0, TOPIC, 0))?;
    side.ask_all("of a partition that does not exist", |_| elect(0, TOPIC, 9))?;
    side.ask_all("of a topic that does not exist", |_| elect(0, "nobody", 0))?;
    for version in side
        .versions(ApiKey::ElectLeaders)
        .filter(|version| *version >= 1)
    {
        side.ask(
            "an unclean election of a led partition",
            version,
            &elect(1, TOPIC, 0),
        )?;
    }
    let reassign = |topic: &str, replicas: Option<&[i32]>| AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic {
            name: topic.into(),
            partitions: vec![ReassignablePartition {
                partition_index: 0,
                replicas: replicas.map(<[i32]>::to_vec),
            }],
        }],
        ..Default::default()
    };
    side.ask_all("to where it is", |_| reassign(TOPIC, Some(&[1])))?;
    side.ask_all("to a broker that does not exist", |_| {
        reassign(TOPIC, Some(&[77]))
    })?;
    side.ask_all("to nowhere", |_| reassign(TOPIC, Some(&[])))?;
    side.ask_all("none to cancel", |_| reassign(TOPIC, None))?;
    side.ask_all("of a topic that does not exist", |_| {
        reassign("nobody", Some(&[1]))
    })?;
    side.ask_all("all", |_| ListPartitionReassignmentsRequest::default())?;
    side.ask_all("of a partition", |_| ListPartitionReassignmentsRequest {
        topics: Some(vec![ListPartitionReassignmentsTopics {
            name: TOPIC.into(),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    })
}

fn quotas(side: &mut Side) -> Result<()> {
    let alter =
        |kind: &str, name: Option<&str>, key: &str, value: Option<f64>| AlterClientQuotasRequest {
            entries: vec![EntryData {
                entity: vec![EntityData {
                    entity_type: kind.into(),
                    entity_name: name.map(Into::into),
                }],
                ops: vec![OpData {
                    key: key.into(),
                    value: value.unwrap_or_default(),
                    remove: value.is_none(),
                }],
            }],
            validate_only: false,
        };
    let rate = "producer_byte_rate";
    side.ask_all("a client's rate", |_| {
        alter("client-id", Some("limited"), rate, Some(5e6))
    })?;
    side.ask_all("everybody's rate", |_| {
        alter("client-id", None, rate, Some(9e6))
    })?;
    side.ask_all("a rate that does not exist", |_| {
        alter("client-id", Some("limited"), "no_rate", Some(1.0))
    })?;
    side.ask_all("a kind that does not exist", |_| {
        alter("planet", Some("mars"), rate, Some(1.0))
    })?;
    side.ask_all("a negative rate", |_| {
        alter("client-id", Some("limited"), rate, Some(-1.0))
    })?;
    let describe = |kind: &str, match_type, name: Option<&str>| DescribeClientQuotasRequest {
        components: vec![ComponentData {
            entity_type: kind.into(),
            match_type,
            r#match: name.map(Into::into),
        }],
        strict: false,
    };
    side.ask_all("of a client", |_| describe("client-id", 0, Some("limited")))?;
    side.ask_all("of everybody", |_| describe("client-id", 1, None))?;
    side.ask_all("of a client that has none", |_| {
        describe("client-id", 0, Some("unlimited"))
    })?;
    side.ask_all("of a kind that does not exist", |_| {
        describe("planet", 0, Some("mars"))
    })?;
    side.ask_all("no rate any more", |_| {
        alter("client-id", Some("limited"), rate, None)
    })?;
    side.ask_all("no rate for everybody any more", |_| {
        alter("client-id", None, rate, None)
    })
}

fn access_rules(side: &mut Side) -> Result<()> {
    side.ask_all("a rule", |_| CreateAclsRequest {
        creations: vec![AclCreation {
            resource_type: 2,
            resource_name: TOPIC.into(),
            principal: "User:someone".into(),
            host: "*".into(),
            operation: 3,
            permission_type: 3,
            ..Default::default()
        }],
    })?;
    side.ask_all("all rules", |_| DescribeAclsRequest {
        resource_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    })?;
    side.ask_all("all rules", |_| DeleteAclsRequest {
        filters: vec![DeleteAclsFilter {
            resource_type_filter: 1,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        }],
    })
}

fn authentication(side: &mut Side) -> Result<()> {
    side.ask_all("credentials of everybody", |_| {
        DescribeUserScramCredentialsRequest::default()
    })?;
    side.ask_all("credentials of nobody", |_| {
        DescribeUserScramCredentialsRequest {
            users: Some(vec![UserName {
                name: "nobody".into(),
            }]),
        }
    })?;
    side.ask_all("where none is asked for", |_| SaslHandshakeRequest {
        mechanism: "PLAIN".into(),
    })?;
    side.ask_all("where none is asked for", |_| {
        SaslAuthenticateRequest::default()
    })
}
