//! Topics: created, described, enlarged, deleted.

use anyhow::{Context, Result};
use conveyor_kafka::ApiKey;
use conveyor_kafka::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use conveyor_kafka::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use conveyor_kafka::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use conveyor_kafka::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use conveyor_kafka::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use uuid::Uuid;

use crate::side::Side;

pub(super) fn play(side: &mut Side) -> Result<()> {
    create(side)?;
    create_topic(side, "described", 2)?;
    metadata(side)?;
    describe_partitions(side)?;
    enlarge(side)?;
    delete(side)
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics,
        timeout_ms: 15_000,
        ..Default::default()
    }
}

fn config(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    }
}

/// Makes a topic and waits until its partitions have leaders.
pub(super) fn create_topic(side: &mut Side, name: &str, partitions: i32) -> Result<Uuid> {
    create_topic_with(side, name, partitions, &[])
}

pub(super) fn create_topic_with(
    side: &mut Side,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<Uuid> {
    let version = side.newest(ApiKey::CreateTopics)?;
    let topic = CreatableTopic {
        num_partitions: partitions,
        configs: configs
            .iter()
            .map(|(name, value)| config(name, value))
            .collect(),
        ..topic(name)
    };
    side.quietly(version, &request(vec![topic]))?;
    let described = side.until(&by_name(&[name]), |response| {
        let topic = &response.topics[0];
        topic.error_code == 0
            && topic.partitions.len() == partitions as usize
            && topic
                .partitions
                .iter()
                .all(|partition| partition.error_code == 0)
    })?;
    let id = described.topics[0].topic_id;
    side.remember_topic(name, id);
    Ok(id)
}

fn create(side: &mut Side) -> Result<()> {
    side.ask_all("a topic with a setting", |version| {
        let topic = topic(&format!("plain-{version}"));
        request(vec![CreatableTopic {
            num_partitions: 2,
            configs: vec![
                config("cleanup.policy", "compact"),
                config("retention.ms", "3600000"),
            ],
            ..topic
        }])
    })?;
    side.ask_all("a topic that exists", |version| {
        request(vec![topic(&format!("plain-{version}"))])
    })?;
    side.ask_all("names that are none", |_| {
        request(
            ["", ".", "..", "a b", "ä", &"x".repeat(250)]
                .map(topic)
                .into(),
        )
    })?;
    side.ask_all("the same name twice", |version| {
        let name = format!("twice-{version}");
        request(vec![topic(&name), topic("among-others-x"), topic(&name)])
    })?;
    side.ask_all("no partitions", |version| {
        let topic = topic(&format!("none-{version}"));
        request(vec![CreatableTopic {
            num_partitions: 0,
            ..topic
        }])
    })?;
    side.ask_all("three replicas on one broker", |version| {
        let topic = topic(&format!("three-{version}"));
        request(vec![CreatableTopic {
            replication_factor: 3,
            ..topic
        }])
    })?;
    side.ask_all("no replicas", |version| {
        let topic = topic(&format!("no-replicas-{version}"));
        request(vec![CreatableTopic {
            replication_factor: 0,
            ..topic
        }])
    })?;
    side.ask_all("sizes left to the broker", |version| {
        let topic = topic(&format!("default-{version}"));
        request(vec![CreatableTopic {
            num_partitions: -1,
            replication_factor: -1,
            ..topic
        }])
    })?;
    side.ask_all("a setting that does not exist", |version| {
        let topic = topic(&format!("unknown-{version}"));
        request(vec![CreatableTopic {
            configs: vec![config("no.such.setting", "1")],
            ..topic
        }])
    })?;
    side.ask_all("a setting with a bad value", |version| {
        let topic = topic(&format!("bad-{version}"));
        request(vec![CreatableTopic {
            configs: vec![config("retention.ms", "soon")],
            ..topic
        }])
    })?;
    side.ask_all("a setting without a value", |version| {
        let topic = topic(&format!("no-value-{version}"));
        let config = CreatableTopicConfig {
            name: "retention.ms".into(),
            value: None,
        };
        request(vec![CreatableTopic {
            configs: vec![config],
            ..topic
        }])
    })?;
    placed(side)?;
    side.ask_all("only validated", |version| CreateTopicsRequest {
        validate_only: true,
        ..request(vec![topic(&format!("validated-{version}"))])
    })
}

fn placed(side: &mut Side) -> Result<()> {
    let placed = |name: &str, places: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: places
            .iter()
            .map(|(partition, brokers)| CreatableReplicaAssignment {
                partition_index: *partition,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..topic(name)
    };
    side.ask_all("partitions placed by hand", |version| {
        request(vec![placed(
            &format!("placed-{version}"),
            &[(0, &[1]), (1, &[1])],
        )])
    })?;
    side.ask_all("partitions placed badly", |version| {
        request(vec![
            placed(&format!("elsewhere-{version}"), &[(0, &[77])]),
            placed(&format!("doubly-{version}"), &[(0, &[1, 1])]),
            placed(&format!("with-gap-{version}"), &[(0, &[1]), (2, &[1])]),
            placed(&format!("nowhere-{version}"), &[(0, &[])]),
        ])
    })?;
    side.ask_all("placed by hand and counted too", |version| {
        let topic = placed(&format!("both-{version}"), &[(0, &[1])]);
        request(vec![CreatableTopic {
            num_partitions: 1,
            replication_factor: 1,
            ..topic
        }])
    })
}

pub(super) fn by_name(names: &[&str]) -> MetadataRequest {
    let named = |name: &&str| MetadataRequestTopic {
        name: Some((*name).into()),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(named).collect()),
        ..Default::default()
    }
}

fn metadata(side: &mut Side) -> Result<()> {
    side.ask_all("topics that exist", |_| by_name(&["described", "plain-2"]))?;
    side.ask_all("a topic that does not exist", |_| {
        by_name(&["described", "nobody-made-this"])
    })?;
    side.ask_all("a name that is none", |_| by_name(&["not a name"]))?;
    side.ask_all("no topics", |version| MetadataRequest {
        // Before version 1 an empty list means all topics.
        ..by_name(if version == 0 { &["described"] } else { &[] })
    })?;
    let version = side.newest(ApiKey::Metadata)?;
    let response = side
        .quietly(version, &by_name(&["described"]))?
        .context("it answers")?;
    let id = response.topics[0].topic_id;
    for version in side
        .versions(ApiKey::Metadata)
        .filter(|version| *version >= 10)
    {
        let by_id = |topic_id, name: Option<&str>| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id,
                name: name.map(Into::into),
            }]),
            ..Default::default()
        };
        side.ask("a topic by its id", version, &by_id(id, None))?;
        side.ask(
            "a topic by an id that does not exist",
            version,
            &by_id(Uuid::from_u128(7), None),
        )?;
        side.ask(
            "a topic by id and name",
            version,
            &by_id(id, Some("described")),
        )?;
    }
    for version in side
        .versions(ApiKey::Metadata)
        .filter(|version| *version >= 8)
    {
        let request = MetadataRequest {
            include_topic_authorized_operations: true,
            include_cluster_authorized_operations: version <= 10,
            ..by_name(&["described"])
        };
        side.ask("with authorized operations", version, &request)?;
    }
    Ok(())
}

fn describe_partitions(side: &mut Side) -> Result<()> {
    let ask = |names: &[&str], limit, cursor| DescribeTopicPartitionsRequest {
        topics: names
            .iter()
            .map(|name| TopicRequest {
                name: (*name).into(),
            })
            .collect(),
        response_partition_limit: limit,
        cursor,
    };
    let at = |topic: &str, partition_index| {
        Some(Cursor {
            topic_name: topic.into(),
            partition_index,
        })
    };
    side.ask_all("topics that exist", |_| {
        ask(&["described", "plain-2"], 2000, None)
    })?;
    side.ask_all("three partitions of four", |_| {
        ask(&["plain-2", "described"], 3, None)
    })?;
    side.ask_all("from a cursor on", |_| {
        ask(&["described", "plain-2"], 2000, at("described", 1))
    })?;
    side.ask_all("from a cursor behind everything", |_| {
        ask(&["described"], 10, at("zzz", 0))
    })?;
    side.ask_all("a topic that does not exist", |_| {
        ask(&["nobody-made-this"], 10, None)
    })
}

fn enlarge(side: &mut Side) -> Result<()> {
    for version in side.versions(ApiKey::CreatePartitions) {
        let name = format!("enlarged-{version}");
        create_topic(side, &name, 2)?;
        let ask = |name: &str, count, assignments: Option<Vec<&[i32]>>| CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: assignments.map(|partitions| {
                    let brokers = partitions.into_iter().map(<[i32]>::to_vec);
                    brokers
                        .map(|broker_ids| CreatePartitionsAssignment { broker_ids })
                        .collect()
                }),
            }],
            timeout_ms: 15_000,
            validate_only: false,
        };
        let steps = [
            ("one more partition", ask(&name, 3, None)),
            ("as many as there are", ask(&name, 3, None)),
            ("fewer than there are", ask(&name, 1, None)),
            ("minus one", ask(&name, -1, None)),
            (
                "of a topic that does not exist",
                ask("nobody-made-this", 3, None),
            ),
            ("placed by hand", ask(&name, 4, Some(vec![&[1]]))),
            ("placed on another broker", ask(&name, 5, Some(vec![&[77]]))),
            ("too many places", ask(&name, 5, Some(vec![&[1], &[1]]))),
        ];
        for (step, request) in steps {
            side.ask(step, version, &request)?;
        }
        let validated = CreatePartitionsRequest {
            validate_only: true,
            ..ask(&name, 9, None)
        };
        side.ask("only validated", version, &validated)?;
        let twice = CreatePartitionsRequest {
            topics: [ask(&name, 6, None).topics, ask(&name, 7, None).topics].concat(),
            ..ask(&name, 6, None)
        };
        side.ask("the same topic twice", version, &twice)?;
    }
    Ok(())
}

fn delete(side: &mut Side) -> Result<()> {
    for version in side.versions(ApiKey::DeleteTopics) {
        let name = format!("deleted-{version}");
        let id = create_topic(side, &name, 1)?;
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).into());
            if version < 6 {
                DeleteTopicsRequest {
                    topic_names: names.collect(),
                    timeout_ms: 15_000,
                    ..Default::default()
                }
            } else {
                let topics = names.map(|name| DeleteTopicState {
                    name: Some(name),
                    ..Default::default()
                });
                DeleteTopicsRequest {
                    topics: topics.collect(),
                    timeout_ms: 15_000,
                    ..Default::default()
                }
            }
        };
        side.ask(
            "a topic and one that does not exist",
            version,
            &named(&[&name, "nobody-made-this"]),
        )?;
        if version < 6 {
            continue;
        }
        let by_id = |topic_id, name: Option<&str>| DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                topic_id,
                name: name.map(Into::into),
            }],
            timeout_ms: 15_000,
            ..Default::default()
        };
        side.ask("by an id that is gone", version, &by_id(id, None))?;
        let id = create_topic(side, &name, 1)?;
        side.ask("by id and name", version, &by_id(id, Some(&name)))?;
        side.ask("by id", version, &by_id(id, None))?;
        side.ask("by neither", version, &by_id(Uuid::nil(), None))?;
    }
    Ok(())
}
