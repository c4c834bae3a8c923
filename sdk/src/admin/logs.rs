//! Logs and the nodes that keep them.

use conveyor_grpc::v1;
use conveyor_record::{LeaderEpoch, NodeId, Offset};

use super::{AdminClient, Answers};
use crate::client::services;
use crate::consumer::{IsolationLevel, TopicPartition};
use crate::error::{Error, Result};

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record there is.
    Earliest,
    /// Where readers' records end.
    Latest,
    /// The record with the highest timestamp.
    MaxTimestamp,
    /// The first record at or after this time, ms since the epoch.
    ForTimestamp(i64),
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            // Before the epoch there is nothing to tell apart, and negative numbers mean else.
            Self::ForTimestamp(timestamp_ms) => timestamp_ms.max(0),
        }
    }
}

/// An offset that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// None when no record is that young.
    pub offset: Option<Offset>,
    /// The record's time in ms since the epoch; none for latest and earliest.
    pub timestamp_ms: Option<i64>,
    /// The term of the leader that answered.
    pub leader_epoch: LeaderEpoch,
}

/// A partition's log on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDescription {
    /// Which partition.
    pub partition: TopicPartition,
    /// First offset there is.
    pub log_start_offset: Offset,
    /// First offset that consumers cannot read yet.
    pub high_watermark: Offset,
    /// First offset of the oldest open transaction, or the high watermark.
    pub last_stable_offset: Offset,
    /// The next offset to be given.
    pub log_end_offset: Offset,
    /// Everything below it is on disk.
    pub synced_offset: Offset,
    /// Bytes on disk.
    pub size_bytes: i64,
    /// Files that hold records.
    pub segment_count: i32,
    /// `fsync` or `replicated`: what an acknowledgement promises.
    pub durability: String,
    /// Where it lies.
    pub data_dir: String,
    /// Why it is offline or damaged, if it is.
    pub fault: Option<String>,
    /// The highest timestamp in it, ms since the epoch; none when empty.
    pub max_timestamp_ms: Option<i64>,
}

/// The cluster and its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: String,
    /// By id.
    pub nodes: Vec<NodeDescription>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its id.
    pub node: NodeId,
    /// The version it runs.
    pub version: String,
    /// When it started, ms since the epoch.
    pub started_timestamp_ms: i64,
    /// Where it keeps data.
    pub data_dirs: Vec<DataDirDescription>,
    /// Partitions it keeps.
    pub partition_count: i32,
}

/// A data directory of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirDescription {
    /// Its path.
    pub path: String,
    /// Why it is offline, if it is.
    pub offline_reason: Option<String>,
    /// Size of its volume.
    pub total_bytes: i64,
    /// What is left of it.
    pub available_bytes: i64,
}

impl AdminClient {
    /// Removes the records below an offset, [`Offset::NONE`] for all that consumers can read.
    /// Answers with the log start offsets afterwards.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Offset)],
    ) -> Result<Answers<TopicPartition, Offset>> {
        self.ask_leaders(before.to_vec(), |node, channel, items| async move {
            let partitions = items
                .iter()
                .map(|(partition, before)| v1::DeleteRecordsPartition {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    before_offset: before.value(),
                });
            let request = v1::DeleteRecordsRequest {
                partitions: partitions.collect(),
            };
            let mut admin = services::admin(channel);
            let call = admin.delete_records(request);
            let answer = self.client.call("delete records", &at(node), call).await?;
            let read = |result: v1::DeleteRecordsResult| {
                let partition = TopicPartition::new(result.topic, result.partition);
                let place = || format!("of {partition}");
                let (code, message) = (result.error_code, &result.error_message);
                let checked = Error::check("delete records", place, code, message);
                (partition, checked.map(|()| Offset(result.low_watermark)))
            };
            Ok(answer.partitions.into_iter().map(read).collect())
        })
        .await
    }

    /// Looks offsets up by position or time.
    pub async fn list_offsets(
        &self,
        specs: &[(TopicPartition, OffsetSpec)],
        isolation_level: IsolationLevel,
    ) -> Result<Answers<TopicPartition, ListedOffset>> {
        self.ask_leaders(specs.to_vec(), |node, channel, items| async move {
            let partitions = items
                .iter()
                .map(|(partition, spec)| v1::ListOffsetsPartition {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    timestamp_ms: spec.to_wire(),
                    current_leader_epoch: -1,
                });
            let request = v1::ListOffsetsRequest {
                partitions: partitions.collect(),
                isolation_level: isolation_level.to_wire().into(),
            };
            let mut fetch = services::fetch(channel);
            let call = fetch.list_offsets(request);
            let answer = self.client.call("list offsets", &at(node), call).await?;
            let read = |result: v1::ListOffsetsResult| {
                let partition = TopicPartition::new(result.topic, result.partition);
                let place = || format!("of {partition}");
                let (code, message) = (result.error_code, &result.error_message);
                let checked = Error::check("list offsets", place, code, message);
                let listed = checked.map(|()| ListedOffset {
                    offset: Some(Offset(result.offset)).filter(|offset| offset.is_some()),
                    timestamp_ms: not_negative(result.timestamp_ms),
                    leader_epoch: LeaderEpoch(result.leader_epoch),
                });
                (partition, listed)
            };
            Ok(answer.partitions.into_iter().map(read).collect())
        })
        .await
    }

    /// The logs of some topics on every node, of all topics when `topics` is empty.
    ///
    /// # Errors
    /// Also when one of the topics does not exist.
    pub async fn describe_logs(&self, topics: &[&str]) -> Result<Vec<LogDescription>> {
        let request = v1::DescribeLogsRequest {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        };
        let answers = self
            .ask_all("describe logs", |channel| {
                let request = request.clone();
                async move { services::admin(channel).describe_logs(request).await }
            })
            .await?;
        let mut logs = Vec::new();
        for answer in answers {
            for error in answer.errors {
                let place = || format!("of {}", error.name);
                Error::check(
                    "describe logs",
                    place,
                    error.error_code,
                    &error.error_message,
                )?;
            }
            logs.extend(answer.logs.into_iter().map(read_log));
        }
        logs.sort_by(|a: &LogDescription, b| a.partition.cmp(&b.partition));
        Ok(logs)
    }

    /// The cluster and its nodes.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let answer = self
            .ask_any("describe cluster", |mut admin| async move {
                admin.describe_cluster(v1::DescribeClusterRequest {}).await
            })
            .await?;
        let mut nodes: Vec<NodeDescription> = answer.nodes.into_iter().map(read_node).collect();
        nodes.sort_by_key(|node| node.node);
        Ok(ClusterDescription {
            cluster_id: answer.cluster_id,
            nodes,
        })
    }
}

fn at(node: NodeId) -> String {
    format!("node {node}")
}

fn read_log(log: v1::LogDescription) -> LogDescription {
    LogDescription {
        partition: TopicPartition::new(log.topic, log.partition),
        log_start_offset: Offset(log.log_start_offset),
        high_watermark: Offset(log.high_watermark),
        last_stable_offset: Offset(log.last_stable_offset),
        log_end_offset: Offset(log.log_end_offset),
        synced_offset: Offset(log.synced_offset),
        size_bytes: log.size_bytes,
        segment_count: log.segment_count,
        durability: log.durability,
        data_dir: log.data_dir,
        fault: not_empty(log.fault),
        max_timestamp_ms: not_negative(log.max_timestamp_ms),
    }
}

fn read_node(node: v1::NodeDescription) -> NodeDescription {
    let read = |dir: v1::DataDirDescription| DataDirDescription {
        path: dir.path,
        offline_reason: (!dir.online)
            .then(|| not_empty(dir.offline_reason).unwrap_or_else(|| "no reason given".to_owned())),
        total_bytes: dir.total_bytes,
        available_bytes: dir.available_bytes,
    };
    NodeDescription {
        node: NodeId(node.node_id),
        version: node.version,
        started_timestamp_ms: node.started_timestamp_ms,
        data_dirs: node.data_dirs.into_iter().map(read).collect(),
        partition_count: node.partition_count,
    }
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn not_negative(number: i64) -> Option<i64> {
    Some(number).filter(|&number| number >= 0)
}
