//! `ConsumerGroupDescribe`: state and members of consumer groups (KIP-848).

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The groups to describe.
    ConsumerGroupDescribeRequest [0-1, flexible 0+] {
        group_ids: Vec<Text> [0+],
        include_authorized_operations: bool [0+],
    }
}

message! {
    /// The groups, with members, assignments and targets.
    ConsumerGroupDescribeResponse [0-1, flexible 0+] {
        throttle_time_ms: i32 [0+],
        groups: Vec<DescribedGroup> [0+],
    }
}

structure! {
    /// An element of [`ConsumerGroupDescribeResponse::groups`].
    DescribedGroup {
        error_code: i16 [0+],
        error_message: Option<Text> [0+],
        group_id: Text [0+],
        group_state: Text [0+],
        group_epoch: i32 [0+],
        assignment_epoch: i32 [0+],
        assignor_name: Text [0+],
        members: Vec<Member> [0+],
        authorized_operations: i32 [0+] = i32::MIN,
    }
}

structure! {
    /// An element of [`DescribedGroup::members`].
    Member {
        member_id: Text [0+],
        instance_id: Option<Text> [0+],
        rack_id: Option<Text> [0+],
        member_epoch: i32 [0+],
        client_id: Text [0+],
        client_host: Text [0+],
        subscribed_topic_names: Vec<Text> [0+],
        subscribed_topic_regex: Option<Text> [0+],
        assignment: Assignment [0+],
        target_assignment: Assignment [0+],
        member_type: i8 [1+, ignorable] = -1,
    }
}

structure! {
    /// The value of [`Member::assignment`].
    Assignment {
        topic_partitions: Vec<TopicPartitions> [0+],
    }
}

structure! {
    /// An element of [`Assignment::topic_partitions`].
    TopicPartitions {
        topic_id: Uuid [0+],
        topic_name: Text [0+],
        partitions: Vec<i32> [0+],
    }
}
