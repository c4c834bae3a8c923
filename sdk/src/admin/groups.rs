//! Consumer groups and their offsets.

use std::time::Duration;

use conveyor_grpc::v1;
use conveyor_record::{LeaderEpoch, Offset};

use super::{AdminClient, Answers, only};
use crate::client::services;
use crate::consumer::{OffsetAndMetadata, TopicPartition};
use crate::error::{Error, Result};

/// A group by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// Empty, Assigning, Reconciling, Stable or Dead; classic groups have `PreparingRebalance` and
    /// `CompletingRebalance` instead of the two in between.
    pub state: String,
    /// `consumer`, or `classic` for groups whose members assign for themselves.
    pub group_type: String,
    /// What its members take it for, such as `consumer` or `connect`; empty for a group that only
    /// has offsets.
    pub protocol_type: String,
}

/// A group, its members and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Empty, Assigning, Reconciling, Stable or Dead; classic groups have `PreparingRebalance` and
    /// `CompletingRebalance` instead of the two in between.
    pub state: String,
    /// `consumer`, or `classic` for groups whose members assign for themselves.
    pub group_type: String,
    /// What its members take it for, such as `consumer` or `connect`.
    pub protocol_type: String,
    /// Grows when members or subscriptions change; of a classic group the generation.
    pub group_epoch: i32,
    /// The group epoch that the present target assignment was made for.
    pub assignment_epoch: i32,
    /// Who assigns: `uniform` or `range`; of a classic group the protocol that its members use.
    pub assignor: String,
    /// By id.
    pub members: Vec<MemberDescription>,
    /// By partition.
    pub lag: Vec<PartitionLag>,
}

impl GroupDescription {
    /// Records behind, over all partitions with a committed offset.
    pub fn lag_records(&self) -> i64 {
        self.lag
            .iter()
            .filter_map(|partition| partition.lag_records)
            .sum()
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id, chosen by itself.
    pub member_id: String,
    /// For static members.
    pub instance_id: Option<String>,
    /// The group epoch it has reached.
    pub member_epoch: i32,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it wants to read.
    pub subscribed_topics: Vec<String>,
    /// What it may read now.
    pub assignment: Vec<TopicPartition>,
    /// What it shall read in the end.
    pub target_assignment: Vec<TopicPartition>,
}

/// How far a group is behind in one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionLag {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next record to read; none when nothing is committed.
    pub committed_offset: Option<Offset>,
    /// Where readers' records end.
    pub end_offset: Offset,
    /// Records between the two.
    pub lag_records: Option<i64>,
    /// Age of the oldest record not read yet; zero without lag, none when unknown.
    pub lag: Option<Duration>,
    /// Who reads it.
    pub member_id: Option<String>,
    /// What was committed with the offset.
    pub metadata: String,
}

impl AdminClient {
    /// Groups in some states, in any state when `states` is empty, by id.
    pub async fn list_groups(&self, states: &[&str]) -> Result<Vec<GroupListing>> {
        let request = v1::ListGroupsRequest {
            states: states.iter().map(|&state| state.to_owned()).collect(),
        };
        let attempt = || async {
            let answers = self
                .ask_all("list groups", |channel| {
                    let request = request.clone();
                    async move { services::group(channel).list_groups(request).await }
                })
                .await?;
            let mut groups = Vec::new();
            for answer in answers {
                let error = answer.error.unwrap_or_default();
                let (code, message) = (error.error_code, &error.error_message);
                Error::check("list groups", String::new, code, message)?;
                groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                    group_id: group.group_id,
                    state: group.state,
                    group_type: group.r#type,
                    protocol_type: group.protocol_type,
                }));
            }
            Ok(groups)
        };
        let mut groups = self.client.retry(attempt).await?;
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// One group.
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription> {
        only("describe group", self.describe_groups(&[group_id]).await?)
    }

    /// Some groups: state, members, offsets, lag.
    pub async fn describe_groups(
        &self,
        group_ids: &[&str],
    ) -> Result<Answers<String, GroupDescription>> {
        let mut answers = Vec::with_capacity(group_ids.len());
        for &group_id in group_ids {
            answers.push((group_id.to_owned(), self.describe_one_group(group_id).await));
        }
        Ok(answers)
    }

    /// Deletes groups without members, and their offsets.
    pub async fn delete_groups(&self, group_ids: &[&str]) -> Result<Answers<String, ()>> {
        let mut answers = Vec::with_capacity(group_ids.len());
        for &group_id in group_ids {
            answers.push((group_id.to_owned(), self.delete_one_group(group_id).await));
        }
        Ok(answers)
    }

    /// Committed offsets of some partitions, of all partitions that have one when `partitions` is
    /// empty. Partitions without a committed offset are left out.
    pub async fn group_offsets(
        &self,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Result<Answers<TopicPartition, OffsetAndMetadata>> {
        const OPERATION: &str = "fetch offsets of";
        let request = v1::FetchOffsetsRequest {
            group_id: group_id.to_owned(),
            member_id: String::new(),
            member_epoch: -1,
            partitions: partitions.iter().map(TopicPartition::to_wire).collect(),
            require_stable: false,
        };
        let answer = self
            .ask_coordinator(
                OPERATION,
                group_id,
                |mut groups| {
                    let request = request.clone();
                    async move { groups.fetch_offsets(request).await }
                },
                |answer: &v1::FetchOffsetsResponse| {
                    let place = || format!("group {group_id}");
                    Error::check(OPERATION, place, answer.error_code, &answer.error_message)
                },
            )
            .await?;
        let read = |committed: v1::CommittedOffset| {
            let partition = TopicPartition::new(committed.topic, committed.partition);
            let place = || format!("group {group_id} {partition}");
            let result = Error::check(OPERATION, place, committed.error_code, "").map(|()| {
                OffsetAndMetadata {
                    offset: Offset(committed.offset),
                    leader_epoch: LeaderEpoch(committed.leader_epoch),
                    metadata: committed.metadata,
                }
            });
            (partition, result)
        };
        let offsets = answer.offsets.into_iter();
        let offsets = offsets.filter(|one| one.error_code != 0 || one.offset >= 0);
        Ok(offsets.map(read).collect())
    }

    /// Sets offsets of a group without members.
    pub async fn alter_group_offsets(
        &self,
        group_id: &str,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
    ) -> Result<Answers<TopicPartition, ()>> {
        const OPERATION: &str = "set offsets of";
        let wire = offsets
            .iter()
            .map(|(partition, offset)| v1::OffsetToCommit {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: offset.offset.value(),
                leader_epoch: offset.leader_epoch.value(),
                metadata: offset.metadata.clone(),
            });
        let request = v1::CommitOffsetsRequest {
            group_id: group_id.to_owned(),
            member_id: String::new(),
            member_epoch: -1,
            offsets: wire.collect(),
        };
        let answer = self
            .ask_coordinator(
                OPERATION,
                group_id,
                |mut groups| {
                    let request = request.clone();
                    async move { groups.commit_offsets(request).await }
                },
                |answer: &v1::CommitOffsetsResponse| retry_if_all(OPERATION, &answer.results),
            )
            .await?;
        Ok(offset_results(OPERATION, group_id, answer.results))
    }

    /// Forgets offsets of a group, for topics that it is not subscribed to.
    pub async fn delete_group_offsets(
        &self,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Result<Answers<TopicPartition, ()>> {
        const OPERATION: &str = "delete offsets of";
        let request = v1::DeleteOffsetsRequest {
            group_id: group_id.to_owned(),
            partitions: partitions.iter().map(TopicPartition::to_wire).collect(),
        };
        let answer = self
            .ask_coordinator(
                OPERATION,
                group_id,
                |mut groups| {
                    let request = request.clone();
                    async move { groups.delete_offsets(request).await }
                },
                |answer: &v1::DeleteOffsetsResponse| {
                    let place = || format!("group {group_id}");
                    Error::check(OPERATION, place, answer.error_code, &answer.error_message)
                },
            )
            .await?;
        Ok(offset_results(OPERATION, group_id, answer.results))
    }

    async fn describe_one_group(&self, group_id: &str) -> Result<GroupDescription> {
        let request = v1::DescribeGroupsRequest {
            group_ids: vec![group_id.to_owned()],
        };
        let answer = self
            .ask_coordinator(
                "describe group",
                group_id,
                |mut groups| {
                    let request = request.clone();
                    async move { groups.describe_groups(request).await }
                },
                |answer: &v1::DescribeGroupsResponse| {
                    answer.groups.iter().try_for_each(|group| {
                        let (code, message) = (group.error_code, &group.error_message);
                        Error::check("describe group", || group_id.to_owned(), code, message)
                    })
                },
            )
            .await?;
        let group = answer
            .groups
            .into_iter()
            .next()
            .ok_or_else(|| Error::Protocol {
                operation: "describe group",
                reason: format!("the answer does not name {group_id}"),
            })?;
        Ok(read_group(group))
    }

    async fn delete_one_group(&self, group_id: &str) -> Result<()> {
        let request = v1::DeleteGroupsRequest {
            group_ids: vec![group_id.to_owned()],
        };
        self.ask_coordinator(
            "delete group",
            group_id,
            |mut groups| {
                let request = request.clone();
                async move { groups.delete_groups(request).await }
            },
            |answer: &v1::DeleteGroupsResponse| {
                answer.results.iter().try_for_each(|result| {
                    let (code, message) = (result.error_code, &result.error_message);
                    Error::check("delete group", || group_id.to_owned(), code, message)
                })
            },
        )
        .await
        .map(|_answer| ())
    }
}

/// An error if every partition was refused for a reason that time mends (a coordinator that loads).
fn retry_if_all(operation: &'static str, results: &[v1::OffsetResult]) -> Result<()> {
    let refused = |result: &v1::OffsetResult| {
        let place = || format!("{}-{}", result.topic, result.partition);
        Error::check(operation, place, result.error_code, &result.error_message).err()
    };
    let errors: Vec<Error> = results.iter().filter_map(refused).collect();
    let all = errors.len() == results.len() && errors.iter().all(Error::is_retriable);
    match errors.into_iter().next() {
        Some(error) if all => Err(error),
        _ => Ok(()),
    }
}

fn offset_results(
    operation: &'static str,
    group_id: &str,
    results: Vec<v1::OffsetResult>,
) -> Answers<TopicPartition, ()> {
    let read = |result: v1::OffsetResult| {
        let partition = TopicPartition::new(result.topic, result.partition);
        let place = || format!("group {group_id} {partition}");
        let checked = Error::check(operation, place, result.error_code, &result.error_message);
        (partition, checked)
    };
    results.into_iter().map(read).collect()
}

fn read_group(group: v1::DescribedGroup) -> GroupDescription {
    GroupDescription {
        group_id: group.group_id,
        state: group.state,
        group_type: group.r#type,
        protocol_type: group.protocol_type,
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: group.assignor,
        members: group.members.into_iter().map(read_member).collect(),
        lag: group.lag.into_iter().map(read_lag).collect(),
    }
}

fn read_member(member: v1::DescribedMember) -> MemberDescription {
    MemberDescription {
        member_id: member.member_id,
        instance_id: Some(member.instance_id).filter(|id| !id.is_empty()),
        member_epoch: member.member_epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topics: member.subscribed_topics,
        assignment: read_assignment(member.assignment),
        target_assignment: read_assignment(member.target_assignment),
    }
}

fn read_assignment(assignment: Option<v1::Assignment>) -> Vec<TopicPartition> {
    let topics = assignment.unwrap_or_default().topics;
    let partitions = topics.into_iter().flat_map(|topic| {
        let partitions = topic.partitions;
        let name: std::sync::Arc<str> = topic.topic.into();
        partitions
            .into_iter()
            .map(move |partition| TopicPartition::new(std::sync::Arc::clone(&name), partition))
    });
    partitions.collect()
}

fn read_lag(lag: v1::GroupLag) -> PartitionLag {
    PartitionLag {
        partition: TopicPartition::new(lag.topic, lag.partition),
        committed_offset: Some(Offset(lag.committed_offset)).filter(|offset| offset.is_some()),
        end_offset: Offset(lag.end_offset),
        lag_records: Some(lag.lag_records).filter(|&records| records >= 0),
        // Negative (unknown) and impossible numbers are no duration.
        lag: Duration::try_from_secs_f64(lag.lag_seconds).ok(),
        member_id: Some(lag.member_id).filter(|id| !id.is_empty()),
        metadata: lag.metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_lag_is_none_not_zero() {
        let lag = read_lag(v1::GroupLag {
            committed_offset: -1,
            lag_records: -1,
            lag_seconds: -1.0,
            ..v1::GroupLag::default()
        });
        assert_eq!(
            (lag.committed_offset, lag.lag_records, lag.lag),
            (None, None, None)
        );
        let lag = read_lag(v1::GroupLag {
            lag_seconds: 1.5,
            ..v1::GroupLag::default()
        });
        assert_eq!(lag.lag, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn a_loading_coordinator_is_asked_again_a_partial_answer_is_not() {
        let result = |error_code| v1::OffsetResult {
            error_code,
            ..v1::OffsetResult::default()
        };
        assert!(retry_if_all("set", &[result(14), result(14)]).is_err());
        assert!(retry_if_all("set", &[result(14), result(0)]).is_ok());
        assert!(retry_if_all("set", &[result(25)]).is_ok());
        assert!(retry_if_all("set", &[]).is_ok());
    }
}
