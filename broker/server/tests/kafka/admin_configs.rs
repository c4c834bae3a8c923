//! Settings by Kafka's protocol: described with source and synonyms, altered one by one or replaced.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as ReplacedResource, AlterableConfig as Replacement,
};
use conveyor_kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResult,
};
use conveyor_kafka::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use conveyor_kafka::messages::list_config_resources::ListConfigResourcesRequest;

use crate::client::{KafkaClient, code};
use crate::harness::TestBroker;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn describe(
    client: &mut KafkaClient,
    version: i16,
    resource: (i8, &str),
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: resource.0,
            resource_name: resource.1.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        }],
        include_synonyms: true,
        include_documentation: version >= 3,
    };
    client.call(version, &request).await.results.remove(0)
}

fn setting<'a>(
    described: &'a DescribeConfigsResult,
    name: &str,
) -> &'a DescribeConfigsResourceResult {
    let found = described.configs.iter().find(|config| config.name == name);
    found.unwrap_or_else(|| panic!("{name} is missing"))
}

async fn alter(
    client: &mut KafkaClient,
    resource: (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> i16 {
    let configs = changes
        .iter()
        .map(|(name, operation, value)| AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(Into::into),
        });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: resource.0,
            resource_name: resource.1.into(),
            configs: configs.collect(),
        }],
        validate_only,
    };
    client.call(1, &request).await.responses[0].error_code
}

#[tokio::test]
async fn trap_10_every_setting_of_a_topic_is_told_with_its_source() {
    let broker = TestBroker::start_with(&[("log.retention.hours", "24")]).await;
    broker
        .create_topic("t", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut client = KafkaClient::connect(&broker).await;
    for version in 1..=4 {
        let described = describe(&mut client, version, (TOPIC, "t"), None).await;
        assert_eq!(described.error_code, 0);
        assert!(described.configs.len() >= 34, "{}", described.configs.len());
        let policy = setting(&described, "cleanup.policy");
        assert_eq!(policy.value.as_deref(), Some("compact"));
        assert_eq!((policy.config_source, policy.read_only), (1, false));
        let synonyms: Vec<_> = policy
            .synonyms
            .iter()
            .map(|s| (&*s.name, s.source))
            .collect();
        assert_eq!(synonyms, [("cleanup.policy", 1), ("log.cleanup.policy", 5)]);
        let retention = setting(&described, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("86400000"));
        assert_eq!(retention.config_source, 4, "the node gives it, in hours");
        assert_eq!(&*retention.synonyms[0].name, "log.retention.hours");
        let untouched = setting(&described, "segment.bytes");
        assert_eq!(untouched.config_source, 5, "nobody has set it");
        let (kind, documented) = if version >= 3 { (3, true) } else { (0, false) };
        assert_eq!(untouched.config_type, kind);
        assert_eq!(untouched.documentation.is_some(), documented);
    }
    let keys = ["cleanup.policy", "no.such.setting"];
    let some = describe(&mut client, 4, (TOPIC, "t"), Some(&keys)).await;
    assert_eq!(some.configs.len(), 1);
    let all = describe(&mut client, 4, (TOPIC, "t"), Some(&[])).await;
    assert!(all.configs.len() > 1, "no key stands for every key");
    for (name, expected) in [
        ("missing", ErrorCode::UnknownTopicOrPartition),
        ("bad name", ErrorCode::InvalidTopic),
    ] {
        let refused = describe(&mut client, 4, (TOPIC, name), None).await;
        assert_eq!(refused.error_code, code(expected));
    }
    broker.stop().await;
}

#[tokio::test]
async fn trap_10_every_setting_of_a_node_is_told_and_read_only() {
    let broker = TestBroker::start_with(&[("num.partitions", "3")]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let described = describe(&mut client, 4, (BROKER, "1"), None).await;
    assert_eq!(described.error_code, 0);
    for name in [
        "auto.create.topics.enable",
        "broker.id",
        "compression.type",
        "default.replication.factor",
        "delete.topic.enable",
        "log.dirs",
        "log.retention.hours",
        "message.max.bytes",
        "offsets.topic.num.partitions",
        "process.roles",
    ] {
        assert!(setting(&described, name).read_only, "{name}");
    }
    let partitions = setting(&described, "num.partitions");
    assert_eq!(partitions.value.as_deref(), Some("3"));
    assert_eq!(partitions.config_source, 4);
    let retention = setting(&described, "log.retention.ms");
    assert_eq!(retention.value, None, "it is given in hours");

    let common = describe(&mut client, 4, (BROKER, ""), None).await;
    assert_eq!((common.error_code, common.configs.len()), (0, 0));
    let group = describe(&mut client, 4, (GROUP, "g"), None).await;
    assert_eq!(
        setting(&group, "consumer.session.timeout.ms")
            .value
            .as_deref(),
        Some("45000")
    );
    let invalid = code(ErrorCode::InvalidRequest);
    for resource in [(BROKER, "7"), (BROKER, "one"), (GROUP, ""), (3, "x")] {
        let refused = describe(&mut client, 4, resource, None).await;
        assert_eq!(refused.error_code, invalid, "{resource:?}");
    }
    let set = [("num.partitions", SET, Some("4"))];
    assert_eq!(
        alter(&mut client, (BROKER, "1"), &set, false).await,
        invalid
    );
    let delete = [("leader.replication.throttled.rate", DELETE, None)];
    assert_eq!(alter(&mut client, (BROKER, "1"), &delete, false).await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn trap_11_lists_are_appended_to_and_subtracted_from() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let policy = "cleanup.policy";
    for (change, expected) in [
        ((policy, APPEND, Some("compact")), "delete,compact"),
        ((policy, SUBTRACT, Some("delete")), "compact"),
        ((policy, DELETE, None), "delete"),
        ((policy, SET, Some("compact,delete")), "compact,delete"),
    ] {
        let checked = alter(&mut client, (TOPIC, "t"), &[change], true).await;
        let altered = alter(&mut client, (TOPIC, "t"), &[change], false).await;
        assert_eq!((checked, altered), (0, 0));
        let described = describe(&mut client, 4, (TOPIC, "t"), None).await;
        let value = setting(&described, policy).value.clone();
        assert_eq!(value.as_deref(), Some(expected));
    }
    for (change, expected) in [
        (
            ("retention.ms", APPEND, Some("1")),
            ErrorCode::InvalidConfig,
        ),
        (("retention.ms", SET, None), ErrorCode::InvalidRequest),
        (("retention.ms", 9, Some("1")), ErrorCode::InvalidRequest),
        (
            ("no.such.setting", SET, Some("1")),
            ErrorCode::InvalidConfig,
        ),
        (
            ("retention.ms", SET, Some("soon")),
            ErrorCode::InvalidConfig,
        ),
    ] {
        let refused = alter(&mut client, (TOPIC, "t"), &[change], false).await;
        assert_eq!(refused, code(expected), "{change:?}");
    }
    let set = [("retention.ms", SET, Some("1"))];
    let missing = alter(&mut client, (TOPIC, "missing"), &set, false).await;
    assert_eq!(missing, code(ErrorCode::UnknownTopicOrPartition));
    broker.stop().await;
}

#[tokio::test]
async fn replacing_settings_drops_the_others() {
    let broker = TestBroker::start().await;
    let own = [("retention.ms", "1000"), ("segment.bytes", "1048576")];
    broker.create_topic("t", 1, &own).await;
    let mut client = KafkaClient::connect(&broker).await;
    let replace = |value: Option<&str>| AlterConfigsRequest {
        resources: vec![ReplacedResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configs: vec![Replacement {
                name: "retention.ms".into(),
                value: value.map(Into::into),
            }],
        }],
        validate_only: false,
    };
    for version in 0..=2 {
        let replaced = client.call(version, &replace(Some("2000"))).await;
        assert_eq!(replaced.responses[0].error_code, 0);
    }
    let described = describe(&mut client, 4, (TOPIC, "t"), None).await;
    assert_eq!(setting(&described, "segment.bytes").config_source, 5);
    let retention = setting(&described, "retention.ms");
    assert_eq!(retention.value.as_deref(), Some("2000"));
    let refused = client.call(2, &replace(None)).await;
    assert_eq!(
        refused.responses[0].error_code,
        code(ErrorCode::InvalidRequest)
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_resource_that_comes_twice_is_refused_twice() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: Vec::new(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource.clone(), resource],
        validate_only: false,
    };
    let responses = client.call(0, &request).await.responses;
    let invalid = code(ErrorCode::InvalidRequest);
    assert!(responses.iter().all(|it| it.error_code == invalid));
    assert_eq!(responses.len(), 2);
    broker.stop().await;
}

#[tokio::test]
async fn resources_with_settings_are_listed() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = KafkaClient::connect(&broker).await;
    let list = |types: &[i8]| ListConfigResourcesRequest {
        resource_types: types.to_vec(),
    };
    let topics = client.call(1, &list(&[TOPIC])).await.config_resources;
    let names: Vec<_> = topics.iter().map(|it| &*it.resource_name).collect();
    assert_eq!(names, ["t"]);
    let all = client.call(1, &list(&[])).await.config_resources;
    assert_eq!(all.len(), 2, "the topic and the node: {all:?}");
    let metrics = client.call(0, &list(&[])).await;
    assert_eq!((metrics.error_code, metrics.config_resources.len()), (0, 0));
    broker.stop().await;
}
