//! `DescribeLogs`, `DescribeCluster`: what there is and how it stands.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_grpc::v1::{
    DataDirDescription, DescribeClusterResponse, DescribeLogsRequest, DescribeLogsResponse,
    LogDescription, NodeDescription, TopicResult,
};

use crate::node::{Node, Refusal, authorize_topic};
use crate::partition::{Directory, Partition, Slot, TopicPartitions};
use crate::request::{Call, Operation, Resource};

pub(super) async fn describe_logs(
    node: &Node,
    call: &Call,
    request: &DescribeLogsRequest,
) -> DescribeLogsResponse {
    let mut found = Vec::new();
    let mut response = DescribeLogsResponse::default();
    let topics: Vec<Result<Arc<TopicPartitions>, (String, Refusal)>> = if request.topics.is_empty()
    {
        let mut all = node.partitions().all();
        all.retain(|topic| call.may(Operation::Describe, Resource::Topic(&topic.name)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.into_iter().map(Ok).collect()
    } else {
        request
            .topics
            .iter()
            .map(|name| find(node, call, name))
            .collect()
    };
    for topic in topics {
        match topic {
            Ok(topic) => found.push(topic),
            Err((name, refusal)) => response.errors.push(TopicResult {
                name,
                error_code: refusal.code.code(),
                error_message: refusal.message,
            }),
        }
    }
    // The newest timestamp is looked up in index and log: on a thread that may wait for the disk.
    let described =
        tokio::task::spawn_blocking(move || found.iter().flat_map(|t| logs(t)).collect());
    response.logs = described.await.unwrap_or_default();
    call.outcome(ErrorCode::None);
    response
}

fn find(node: &Node, call: &Call, name: &str) -> Result<Arc<TopicPartitions>, (String, Refusal)> {
    authorize_topic(call, Operation::Describe, name)
        .and_then(|()| Ok(node.partitions().topic(name)?))
        .map_err(|refusal| (name.to_owned(), refusal))
}

fn logs(topic: &TopicPartitions) -> Vec<LogDescription> {
    let describe = |(index, slot): (usize, &Slot)| match slot {
        Slot::Online(partition) => log(partition),
        Slot::Offline(reason) => LogDescription {
            topic: topic.name.to_string(),
            partition: index as i32,
            log_start_offset: -1,
            high_watermark: -1,
            last_stable_offset: -1,
            log_end_offset: -1,
            synced_offset: -1,
            size_bytes: -1,
            segment_count: -1,
            max_timestamp_ms: -1,
            fault: reason.to_string(),
            ..LogDescription::default()
        },
    };
    topic.slots().iter().enumerate().map(describe).collect()
}

fn log(partition: &Partition) -> LogDescription {
    let reader = partition.reader();
    let directory = partition.directory();
    let offline = directory.offline().map(|offline| offline.to_string());
    let newest = reader
        .offset_of_max_timestamp(reader.high_watermark())
        .ok()
        .flatten();
    LogDescription {
        topic: partition.topic().to_string(),
        partition: partition.index(),
        log_start_offset: reader.log_start_offset().value(),
        high_watermark: reader.high_watermark().value(),
        last_stable_offset: reader.last_stable_offset().value(),
        log_end_offset: reader.log_end_offset().value(),
        synced_offset: reader.synced_offset().value(),
        size_bytes: reader.size_bytes() as i64,
        segment_count: reader.segment_count() as i32,
        durability: partition.config().durability.as_str().to_owned(),
        data_dir: directory.path().display().to_string(),
        fault: offline.unwrap_or_else(|| partition.fault().to_owned()),
        max_timestamp_ms: newest.map_or(-1, |newest| newest.timestamp_ms),
    }
}

pub(super) fn describe_cluster(node: &Node, call: &Call) -> DescribeClusterResponse {
    call.outcome(ErrorCode::None);
    let image = node.metadata.image();
    DescribeClusterResponse {
        cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
        nodes: vec![NodeDescription {
            node_id: node.node_id.value(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_timestamp_ms: node.started_ms,
            data_dirs: node
                .storage
                .directories()
                .iter()
                .map(|dir| data_dir(dir))
                .collect(),
            partition_count: image.partition_count() as i32,
        }],
    }
}

fn data_dir(directory: &Directory) -> DataDirDescription {
    let offline = directory.offline();
    let room = directory.room();
    DataDirDescription {
        path: directory.path().display().to_string(),
        online: offline.is_none(),
        offline_reason: offline.map_or_else(String::new, |offline| offline.to_string()),
        total_bytes: room.map_or(-1, |room| room.total_bytes as i64),
        available_bytes: room.map_or(-1, |room| room.available_bytes as i64),
    }
}
