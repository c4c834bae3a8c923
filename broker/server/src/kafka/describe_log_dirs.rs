//! `DescribeLogDirs`: the data directories, what lies in them and how much room there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;
use conveyor_kafka::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::{KafkaCall, KafkaService};
use crate::node::{Node, authorize_cluster};
use crate::partition::{Directory, Partition};
use crate::request::Operation;

pub(super) async fn describe_log_dirs(
    service: &Arc<KafkaService>,
    call: &KafkaCall,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if let Err(refusal) = authorize_cluster(call, Operation::Describe) {
        return DescribeLogDirsResponse {
            error_code: call.code(refusal.code),
            ..DescribeLogDirsResponse::default()
        };
    }
    let node = Arc::clone(service.node());
    // Looking at a volume may wait for the disk.
    let described = tokio::task::spawn_blocking(move || describe(&node, request.topics)).await;
    let code = match described {
        Ok(_) => ErrorCode::None,
        Err(_) => ErrorCode::UnknownServerError,
    };
    DescribeLogDirsResponse {
        error_code: call.code(code),
        results: described.unwrap_or_default(),
        ..DescribeLogDirsResponse::default()
    }
}

fn describe(
    node: &Node,
    topics: Option<Vec<DescribableLogDirTopic>>,
) -> Vec<DescribeLogDirsResult> {
    let wanted: Option<BTreeSet<(String, i32)>> = topics.map(|topics| {
        let places = topics.into_iter().flat_map(|topic| {
            let name = String::from(topic.topic);
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| (name.clone(), partition))
        });
        places.collect()
    });
    let mut online = node.partitions().online();
    online.retain(|partition| {
        let place = || (partition.topic().to_string(), partition.index());
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&place()))
    });
    let directories = node.storage.directories().iter();
    directories
        .map(|directory| describe_directory(directory, &online))
        .collect()
}

fn describe_directory(
    directory: &Arc<Directory>,
    partitions: &[Arc<Partition>],
) -> DescribeLogDirsResult {
    let path = absolute(directory.path());
    if directory.offline().is_some() {
        return DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError.code() as i16,
            log_dir: path.into(),
            ..DescribeLogDirsResult::default()
        };
    }
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let own = partitions.iter();
    for partition in own.filter(|partition| Arc::ptr_eq(partition.directory(), directory)) {
        let name = Arc::clone(partition.topic());
        topics
            .entry(name)
            .or_default()
            .push(describe_log(partition));
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic {
            name: name.into(),
            partitions,
        }
    });
    let room = directory.room();
    DescribeLogDirsResult {
        log_dir: path.into(),
        topics: topics.collect(),
        total_bytes: room.map_or(-1, |room| room.total_bytes as i64),
        usable_bytes: room.map_or(-1, |room| room.available_bytes as i64),
        ..DescribeLogDirsResult::default()
    }
}

fn describe_log(partition: &Partition) -> DescribeLogDirsPartition {
    let reader = partition.reader();
    let lag = reader.high_watermark().value() - reader.log_end_offset().value();
    DescribeLogDirsPartition {
        partition_index: partition.index(),
        partition_size: reader.size_bytes() as i64,
        offset_lag: lag.max(0),
        is_future_key: false,
    }
}

/// The path as other programs understand it.
fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.display().to_string()
}
