//! Groups of the newer protocol (KIP-848): one call does it all.

use anyhow::{Context, Result};
use conveyor_kafka::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use conveyor_kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use conveyor_kafka::messages::describe_groups::DescribeGroupsRequest;
use conveyor_kafka::{ApiKey, Text};

use super::groups::join;
use super::topics::create_topic;
use crate::side::Side;

const TOPIC: &str = "consumed";

fn first_heartbeat(group: &str, member_id: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member_id.into(),
        member_epoch: 0,
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

pub(super) fn play(side: &mut Side) -> Result<()> {
    create_topic(side, TOPIC, 2)?;
    for version in side.versions(ApiKey::ConsumerGroupHeartbeat) {
        life(side, version)?;
        refusals(side, version)?;
    }
    describe(side)
}

fn life(side: &mut Side, version: i16) -> Result<()> {
    let group = &*format!("consumers-{version}");
    // From version 1 on the member makes its id up.
    let id = if version == 0 {
        ""
    } else {
        "0123456789abcdefghijkl"
    };
    let joined = side.ask("a new member", version, &first_heartbeat(group, id))?;
    let joined = joined.context("it answers")?;
    let member_id = joined.member_id.clone().unwrap_or_default();
    let beat = |member_epoch| ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member_id.clone(),
        member_epoch,
        ..Default::default()
    };
    side.ask("nothing has changed", version, &beat(joined.member_epoch))?;
    let assigned = joined
        .assignment
        .map(|assignment| assignment.topic_partitions);
    let owned = ConsumerGroupHeartbeatRequest {
        topic_partitions: Some(
            assigned
                .unwrap_or_default()
                .into_iter()
                .map(|topic| TopicPartitions {
                    topic_id: topic.topic_id,
                    partitions: topic.partitions,
                })
                .collect(),
        ),
        ..beat(joined.member_epoch)
    };
    side.ask("it owns what it was given", version, &owned)?;
    side.ask(
        "of an epoch to come",
        version,
        &beat(joined.member_epoch + 9),
    )?;
    let subscribed = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec![TOPIC.into(), "nobody".into()]),
        ..beat(joined.member_epoch)
    };
    side.ask("another subscription", version, &subscribed)?;
    let classic = side.newest(ApiKey::JoinGroup)?;
    let request = join(classic, group, Text::default());
    side.ask(
        "a classic member in a group of the newer protocol",
        classic,
        &request,
    )?;
    side.ask("it leaves", version, &beat(-1))?;
    side.ask("it has left", version, &beat(1))?;
    Ok(())
}

fn refusals(side: &mut Side, version: i16) -> Result<()> {
    let id = if version == 0 {
        ""
    } else {
        "0123456789abcdefghijkl"
    };
    let good = first_heartbeat("refused-consumers", id);
    let bad = [
        (
            "no group",
            ConsumerGroupHeartbeatRequest {
                group_id: Text::default(),
                ..good.clone()
            },
        ),
        (
            "no subscription",
            ConsumerGroupHeartbeatRequest {
                subscribed_topic_names: None,
                ..good.clone()
            },
        ),
        (
            "no rebalance timeout",
            ConsumerGroupHeartbeatRequest {
                rebalance_timeout_ms: -1,
                ..good.clone()
            },
        ),
        (
            "an assignor that does not exist",
            ConsumerGroupHeartbeatRequest {
                server_assignor: Some("mine".into()),
                ..good.clone()
            },
        ),
        (
            "an empty rack",
            ConsumerGroupHeartbeatRequest {
                rack_id: Some(Text::default()),
                ..good.clone()
            },
        ),
        (
            "an empty instance id",
            ConsumerGroupHeartbeatRequest {
                instance_id: Some(Text::default()),
                ..good.clone()
            },
        ),
        (
            "owning already when it joins",
            ConsumerGroupHeartbeatRequest {
                topic_partitions: None,
                ..good.clone()
            },
        ),
        (
            "a member of no group",
            ConsumerGroupHeartbeatRequest {
                member_id: "nobody".into(),
                member_epoch: 4,
                ..good
            },
        ),
    ];
    for (step, request) in bad {
        side.ask(step, version, &request)?;
    }
    Ok(())
}

fn describe(side: &mut Side) -> Result<()> {
    let version = side.newest(ApiKey::ConsumerGroupHeartbeat)?;
    let request = first_heartbeat("described-consumers", "0123456789abcdefghijkl");
    side.quietly(version, &request)?;
    let ask = |groups: &[&str]| ConsumerGroupDescribeRequest {
        group_ids: groups.iter().map(|group| (*group).into()).collect(),
        include_authorized_operations: true,
    };
    side.ask_all("a group with a member", |_| ask(&["described-consumers"]))?;
    side.ask_all("a classic group", |_| ask(&["seen"]))?;
    side.ask_all("a group that does not exist", |_| ask(&["no-such-group"]))?;
    side.ask_all("a group without a name", |_| ask(&[""]))?;
    side.ask_all("a group of the newer protocol", |_| DescribeGroupsRequest {
        groups: vec!["described-consumers".into()],
        ..Default::default()
    })
}
