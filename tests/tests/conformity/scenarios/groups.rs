//! Classic groups, from the first member to the last, and their offsets.

use anyhow::{Context, Result};
use bytes::Bytes;
use conveyor_kafka::messages::delete_groups::DeleteGroupsRequest;
use conveyor_kafka::messages::describe_groups::DescribeGroupsRequest;
use conveyor_kafka::messages::find_coordinator::FindCoordinatorRequest;
use conveyor_kafka::messages::heartbeat::HeartbeatRequest;
use conveyor_kafka::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use conveyor_kafka::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use conveyor_kafka::messages::list_groups::ListGroupsRequest;
use conveyor_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use conveyor_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use conveyor_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use conveyor_kafka::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use conveyor_kafka::{ApiKey, Text};
use uuid::Uuid;

use super::topics::create_topic;
use crate::side::Side;

const TOPIC: &str = "grouped";

pub(super) fn play(side: &mut Side) -> Result<()> {
    let topic_id = create_topic(side, TOPIC, 2)?;
    coordinators(side)?;
    for version in side.versions(ApiKey::JoinGroup) {
        life_of_a_group(side, version)?;
    }
    static_member(side)?;
    refusals(side)?;
    offsets(side, topic_id)?;
    seen_from_outside(side)
}

/// Asks for the coordinator of a group, or of a transactional id, until it is there.
pub(super) fn find(version: i16, key: &str, key_type: i8) -> FindCoordinatorRequest {
    let (key, coordinator_keys) = match version {
        0..=3 => (Text::from(key), Vec::new()),
        _ => (Text::default(), vec![Text::from(key)]),
    };
    FindCoordinatorRequest {
        key,
        key_type,
        coordinator_keys,
    }
}

fn coordinators(side: &mut Side) -> Result<()> {
    side.ask_all("of a group", |version| find(version, "a-group", 0))?;
    for version in side
        .versions(ApiKey::FindCoordinator)
        .filter(|version| *version >= 1)
    {
        side.ask(
            "of a transactional id",
            version,
            &find(version, "a-transaction", 1),
        )?;
        side.ask(
            "of a kind that does not exist",
            version,
            &find(version, "a-key", 9),
        )?;
    }
    side.ask_all("of a group without a name", |version| find(version, "", 0))
}

pub(super) fn join(version: i16, group: &str, member_id: Text) -> JoinGroupRequest {
    let protocol = |name: &str| JoinGroupRequestProtocol {
        name: name.into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x07grouped\xff\xff\xff\xff"),
    };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 5_000 },
        member_id,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        ..Default::default()
    }
}

/// Joins as a new member; from version 4 on that takes two calls.
fn join_as_new(side: &mut Side, version: i16, group: &str) -> Result<JoinGroupResponse> {
    let step = "a new member";
    let first = side.ask(step, version, &join(version, group, Text::default()))?;
    let first = first.context("it answers")?;
    if first.error_code != 79 {
        return Ok(first);
    }
    let step = "a new member with the id that it was given";
    let joined = side.ask(step, version, &join(version, group, first.member_id))?;
    joined.context("it answers")
}

/// The version of another call that belongs to a version of `JoinGroup`: older ones first.
fn beside(side: &Side, key: ApiKey, version: i16) -> i16 {
    let range = side.versions(key);
    version.clamp(*range.start(), *range.end())
}

fn sync(version: i16, group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let named = version >= 5;
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: named.then(|| "consumer".into()),
        protocol_name: named.then(|| "range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(
                b"\0\0\0\0\0\x01\0\x07grouped\0\0\0\x01\0\0\0\0\xff\xff\xff\xff",
            ),
        }],
        ..Default::default()
    }
}

fn leave(version: i16, group: &str, member_id: &Text) -> LeaveGroupRequest {
    if version < 3 {
        return LeaveGroupRequest {
            group_id: group.into(),
            member_id: member_id.clone(),
            ..Default::default()
        };
    }
    LeaveGroupRequest {
        group_id: group.into(),
        members: vec![MemberIdentity {
            member_id: member_id.clone(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn life_of_a_group(side: &mut Side, version: i16) -> Result<()> {
    let group = &*format!("life-{version}");
    let joined = join_as_new(side, version, group)?;
    let sync_version = beside(side, ApiKey::SyncGroup, version);
    let heartbeat_version = beside(side, ApiKey::Heartbeat, version);
    let leave_version = beside(side, ApiKey::LeaveGroup, version);
    let heartbeat = |generation_id, member_id: &Text| HeartbeatRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.clone(),
        ..Default::default()
    };
    let member_id = &joined.member_id;
    let generation = joined.generation_id;
    side.ask(
        "before the assignment",
        heartbeat_version,
        &heartbeat(generation, member_id),
    )?;
    side.ask(
        "the leader's assignment",
        sync_version,
        &sync(sync_version, group, &joined),
    )?;
    side.ask(
        "a member",
        heartbeat_version,
        &heartbeat(generation, member_id),
    )?;
    side.ask(
        "a member of another generation",
        heartbeat_version,
        &heartbeat(generation + 5, member_id),
    )?;
    side.ask(
        "a member that nobody knows",
        heartbeat_version,
        &heartbeat(generation, &"nobody".into()),
    )?;
    side.ask(
        "a member that joins again",
        version,
        &join(version, group, member_id.clone()),
    )?;
    let stale = sync(sync_version, group, &joined);
    side.ask("an assignment of another generation", sync_version, &stale)?;
    side.ask(
        "a member that nobody knows",
        leave_version,
        &leave(leave_version, group, &"nobody".into()),
    )?;
    side.ask(
        "a member",
        leave_version,
        &leave(leave_version, group, member_id),
    )?;
    side.ask(
        "a member that has left",
        heartbeat_version,
        &heartbeat(generation, member_id),
    )?;
    side.ask(
        "a member that has left",
        leave_version,
        &leave(leave_version, group, member_id),
    )?;
    Ok(())
}

fn static_member(side: &mut Side) -> Result<()> {
    for version in side
        .versions(ApiKey::JoinGroup)
        .filter(|version| *version >= 5)
    {
        let group = &*format!("static-{version}");
        let instance = Some(Text::from("instance-1"));
        let request = JoinGroupRequest {
            group_instance_id: instance.clone(),
            ..join(version, group, Text::default())
        };
        let joined = side
            .ask("a static member", version, &request)?
            .context("it answers")?;
        let sync_version = beside(side, ApiKey::SyncGroup, version);
        let assignment = SyncGroupRequest {
            group_instance_id: instance.clone(),
            ..sync(sync_version, group, &joined)
        };
        side.ask("a static member's assignment", sync_version, &assignment)?;
        let again = side
            .ask("a static member comes back", version, &request)?
            .context("it answers")?;
        let heartbeat_version = beside(side, ApiKey::Heartbeat, version);
        let heartbeat = |member_id: &Text| HeartbeatRequest {
            group_id: group.into(),
            generation_id: again.generation_id,
            member_id: member_id.clone(),
            group_instance_id: instance.clone(),
        };
        side.ask(
            "a static member",
            heartbeat_version,
            &heartbeat(&again.member_id),
        )?;
        side.ask(
            "a static member that was replaced",
            heartbeat_version,
            &heartbeat(&joined.member_id),
        )?;
        let leave_version = beside(side, ApiKey::LeaveGroup, version);
        let leave = LeaveGroupRequest {
            group_id: group.into(),
            members: vec![MemberIdentity {
                group_instance_id: instance.clone(),
                ..Default::default()
            }],
            ..Default::default()
        };
        side.ask("by its instance id", leave_version, &leave)?;
    }
    Ok(())
}

fn refusals(side: &mut Side) -> Result<()> {
    side.ask_all("a group without a name", |version| {
        join(version, "", Text::default())
    })?;
    side.ask_all("a session timeout too short", |version| JoinGroupRequest {
        session_timeout_ms: 1,
        ..join(version, "refused", Text::default())
    })?;
    side.ask_all("a member that nobody knows", |version| {
        join(version, "refused", "nobody".into())
    })?;
    side.ask_all("no protocols", |version| JoinGroupRequest {
        protocols: Vec::new(),
        ..join(version, "refused", Text::default())
    })?;
    side.ask_all("no protocol type", |version| JoinGroupRequest {
        protocol_type: Text::default(),
        ..join(version, "refused", Text::default())
    })?;
    let nobody = JoinGroupResponse {
        generation_id: 1,
        member_id: "nobody".into(),
        ..Default::default()
    };
    side.ask_all("in a group that does not exist", |version| {
        sync(version, "no-such-group", &nobody)
    })?;
    side.ask_all("in a group that does not exist", |_| HeartbeatRequest {
        group_id: "no-such-group".into(),
        generation_id: 1,
        member_id: "nobody".into(),
        ..Default::default()
    })?;
    side.ask_all("in a group that does not exist", |version| {
        leave(version, "no-such-group", &"nobody".into())
    })
}

fn commit(version: i16, group: &str, name: &str, id: Uuid, partition: i32) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: name.into(),
            topic_id: if version >= 10 { id } else { Uuid::nil() },
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: 42,
                committed_leader_epoch: 0,
                committed_metadata: Some("read by night".into()),
            }],
        }],
        ..Default::default()
    }
}

fn committed(
    version: i16,
    group: &str,
    topics: Option<&[(&str, Uuid, &[i32])]>,
) -> OffsetFetchRequest {
    if version < 8 {
        let topic = |(name, _, partitions): &(&str, Uuid, &[i32])| OffsetFetchRequestTopic {
            name: (*name).into(),
            partition_indexes: partitions.to_vec(),
        };
        return OffsetFetchRequest {
            group_id: group.into(),
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            ..Default::default()
        };
    }
    let topic = |(name, id, partitions): &(&str, Uuid, &[i32])| OffsetFetchRequestTopics {
        name: if version < 10 {
            (*name).into()
        } else {
            Text::default()
        },
        topic_id: if version < 10 { Uuid::nil() } else { *id },
        partition_indexes: partitions.to_vec(),
    };
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn offsets(side: &mut Side, id: Uuid) -> Result<()> {
    let unknown = Uuid::from_u128(7);
    side.ask_all("without members", |version| {
        commit(version, "by-hand", TOPIC, id, 0)
    })?;
    side.ask_all("of a topic that does not exist", |version| {
        commit(version, "by-hand", "nobody", unknown, 0)
    })?;
    side.ask_all("of a partition that does not exist", |version| {
        commit(version, "by-hand", TOPIC, id, 9)
    })?;
    side.ask_all("metadata too long", |version| {
        let mut request = commit(version, "by-hand", TOPIC, id, 0);
        request.topics[0].partitions[0].committed_metadata = Some("x".repeat(5000).into());
        request
    })?;
    side.ask_all("of a member that nobody knows", |version| {
        OffsetCommitRequest {
            generation_id_or_member_epoch: 3,
            member_id: "nobody".into(),
            ..commit(version, "by-hand", TOPIC, id, 0)
        }
    })?;
    side.ask_all("of a group that has no name", |version| {
        commit(version, "", TOPIC, id, 0)
    })?;
    side.ask_all("what was committed", |version| {
        committed(version, "by-hand", Some(&[(TOPIC, id, &[0, 1])]))
    })?;
    side.ask_all("of a topic that does not exist", |version| {
        committed(version, "by-hand", Some(&[("nobody", unknown, &[0])]))
    })?;
    side.ask_all("of a group that does not exist", |version| {
        committed(version, "no-such-group", Some(&[(TOPIC, id, &[0])]))
    })?;
    for version in side
        .versions(ApiKey::OffsetFetch)
        .filter(|version| *version >= 2)
    {
        side.ask(
            "all that was committed",
            version,
            &committed(version, "by-hand", None),
        )?;
    }
    for version in side
        .versions(ApiKey::OffsetFetch)
        .filter(|version| *version >= 7)
    {
        let stable = OffsetFetchRequest {
            require_stable: true,
            ..committed(version, "by-hand", Some(&[(TOPIC, id, &[0])]))
        };
        side.ask("what is stable", version, &stable)?;
    }
    Ok(())
}

fn seen_from_outside(side: &mut Side) -> Result<()> {
    let version = side.newest(ApiKey::JoinGroup)?;
    let first = side.quietly(version, &join(version, "seen", Text::default()))?;
    let id = first.context("it answers")?.member_id;
    let joined = side
        .quietly(version, &join(version, "seen", id))?
        .context("it answers")?;
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|name| Text::from(*name))
            .collect::<Vec<_>>()
    };
    let describe = |names: &[&str]| DescribeGroupsRequest {
        groups: named(names),
        ..Default::default()
    };
    side.ask_all("a group that waits for its assignment", |_| {
        describe(&["seen"])
    })?;
    let sync_version = side.newest(ApiKey::SyncGroup)?;
    side.quietly(sync_version, &sync(sync_version, "seen", &joined))?;
    side.ask_all("a group that is stable", |_| describe(&["seen"]))?;
    side.ask_all("a group without members", |_| describe(&["by-hand"]))?;
    side.ask_all("a group that does not exist", |_| {
        describe(&["no-such-group"])
    })?;
    side.ask_all("a group without a name", |_| describe(&[""]))?;
    for version in side
        .versions(ApiKey::DescribeGroups)
        .filter(|version| *version >= 3)
    {
        let request = DescribeGroupsRequest {
            include_authorized_operations: true,
            ..describe(&["seen"])
        };
        side.ask("with authorized operations", version, &request)?;
    }
    for version in side
        .versions(ApiKey::ListGroups)
        .filter(|version| *version >= 4)
    {
        let request = |state: &str| ListGroupsRequest {
            states_filter: named(&[state]),
            ..Default::default()
        };
        side.ask("stable groups", version, &request("Stable"))?;
        side.ask(
            "groups of a state that does not exist",
            version,
            &request("Sleepy"),
        )?;
    }
    for version in side
        .versions(ApiKey::ListGroups)
        .filter(|version| *version >= 5)
    {
        let request = |kind: &str| ListGroupsRequest {
            types_filter: named(&[kind]),
            ..Default::default()
        };
        side.ask("classic groups", version, &request("classic"))?;
        side.ask(
            "groups of a type that does not exist",
            version,
            &request("sleepy"),
        )?;
    }
    side.ask_all("all groups", |_| ListGroupsRequest::default())?;
    side.ask_all("a group that has members, and others", |_| {
        DeleteGroupsRequest {
            groups_names: named(&["seen", "no-such-group", ""]),
        }
    })?;
    side.ask_all("offsets of a group that has a member", |_| {
        delete_offsets("seen", &[(TOPIC, &[0])])
    })?;
    side.ask_all("offsets of a group without members", |_| {
        delete_offsets("by-hand", &[(TOPIC, &[0, 1]), ("nobody", &[0])])
    })?;
    side.ask_all("offsets of a group that does not exist", |_| {
        delete_offsets("no-such-group", &[(TOPIC, &[0])])
    })?;
    for version in side.versions(ApiKey::DeleteGroups) {
        let group = &*format!("life-{version}");
        let delete = DeleteGroupsRequest {
            groups_names: named(&[group]),
        };
        side.ask("a group without members", version, &delete)?;
        side.ask("a group that is gone", version, &delete)?;
    }
    Ok(())
}

fn delete_offsets(group: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let partitions = |partitions: &[i32]| {
        let partitions = partitions
            .iter()
            .map(|partition_index| OffsetDeleteRequestPartition {
                partition_index: *partition_index,
            });
        partitions.collect()
    };
    let topics = topics
        .iter()
        .map(|(name, indexes)| OffsetDeleteRequestTopic {
            name: (*name).into(),
            partitions: partitions(indexes),
        });
    OffsetDeleteRequest {
        group_id: group.into(),
        topics: topics.collect(),
    }
}
