//! Groups of either kind as the gRPC API tells them.
//!
//! The two differ in what a group is at: one by the consumer protocol has an epoch and an assignor, a
//! classic one a generation and the protocol that its members voted for. Both are told in the same
//! fields. Assignments of classic members are made by one of them and only passed on here; those of
//! consumers can be read.

use bytes::Bytes;
use conveyor_group::classic::{CONSUMER_PROTOCOL_TYPE, subscription};
use conveyor_group::{
    ClassicDescription, ClassicMemberDescription, ClusterView as _, GroupDescription, GroupKind,
};
use conveyor_grpc::v1;

use super::cluster::ClusterSnapshot;
use super::membership::write_assignment;

/// A group of either kind.
pub(super) enum Described {
    Consumer(GroupDescription),
    Classic(ClassicDescription),
}

impl Described {
    /// All but the lag.
    pub(super) fn write(self, cluster: &ClusterSnapshot) -> v1::DescribedGroup {
        match self {
            Self::Consumer(group) => consumer(group, cluster),
            Self::Classic(group) => classic(group, cluster),
        }
    }
}

/// The kind of a group in requests and answers.
pub(super) fn type_name(kind: GroupKind) -> String {
    kind.name().to_lowercase()
}

fn consumer(group: GroupDescription, cluster: &ClusterSnapshot) -> v1::DescribedGroup {
    let members = group.members.into_iter().map(|member| v1::DescribedMember {
        member_id: member.member_id,
        instance_id: member.instance_id.unwrap_or_default(),
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topics: member.subscribed_topic_names,
        assignment: Some(write_assignment(&member.assignment, cluster)),
        target_assignment: Some(write_assignment(&member.target_assignment, cluster)),
    });
    v1::DescribedGroup {
        group_id: group.group_id,
        state: group.state.name().to_owned(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: group.assignor.name().to_owned(),
        members: members.collect(),
        r#type: type_name(GroupKind::Consumer),
        protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
        ..v1::DescribedGroup::default()
    }
}

fn classic(group: ClassicDescription, cluster: &ClusterSnapshot) -> v1::DescribedGroup {
    let is_of_consumers = group.protocol_type == CONSUMER_PROTOCOL_TYPE;
    let members = group
        .members
        .into_iter()
        .map(|member| classic_member(member, group.generation, is_of_consumers, cluster));
    v1::DescribedGroup {
        group_id: group.group_id,
        state: group.state.name().to_owned(),
        group_epoch: group.generation,
        assignment_epoch: group.generation,
        assignor: group.protocol,
        members: members.collect(),
        r#type: type_name(GroupKind::Classic),
        protocol_type: group.protocol_type,
        ..v1::DescribedGroup::default()
    }
}

fn classic_member(
    member: ClassicMemberDescription,
    generation: i32,
    is_of_consumers: bool,
    cluster: &ClusterSnapshot,
) -> v1::DescribedMember {
    // What cannot be read is not told: other clients may put anything there.
    let (topics, assignment) = if is_of_consumers {
        (
            subscription::read_subscription(&member.metadata).unwrap_or_default(),
            subscription::read_assignment(&member.assignment).unwrap_or_default(),
        )
    } else {
        Default::default()
    };
    let assigned = assignment.into_iter().map(|(topic, partitions)| {
        let id = cluster.topic(&topic).map(|topic| topic.id);
        v1::AssignedTopic {
            topic_id: id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            topic,
            partitions: partitions.into_iter().collect(),
        }
    });
    let assignment = v1::Assignment {
        topics: assigned.collect(),
    };
    v1::DescribedMember {
        member_id: member.member_id,
        instance_id: member.instance_id.unwrap_or_default(),
        member_epoch: generation,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topics: topics.into_iter().collect(),
        target_assignment: Some(assignment.clone()),
        assignment: Some(assignment),
    }
}
