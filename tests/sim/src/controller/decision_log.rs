//! Where decisions are kept: a log of the real engine, one batch a decision, so that a crash leaves
//! each whole or not at all.

use std::path::Path;
use std::sync::Arc;

use conveyor_log::disk::SimDisk;
use conveyor_log::{
    AppendBatch, Clock, DataDir, DataDirConfig, Log, LogConfig, SimClock, TopicPartition,
};
use conveyor_record::{
    AppendOrigin, BatchOptions, Batches, Decompressor, LeaderEpoch, Offset, ProduceRules,
    validate_produce,
};
use uuid::Uuid;

use super::{Placed, Record};
use crate::batch;
use crate::broker::DIRECTORY;

/// The id of the simulated cluster.
pub(super) const CLUSTER: &str = "simulated";

/// Opens the log, or founds it.
pub(super) fn open(disk: &SimDisk) -> Result<(DataDir, Log), conveyor_log::OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::at(0));
    let config = DataDirConfig {
        node_id: 0,
        cluster_id: Some(CLUSTER.to_owned()),
        pool_files: 0,
        ..DataDirConfig::default()
    };
    let dir = DataDir::open(disk.shared(), clock, Path::new(DIRECTORY), config)?;
    let partition = TopicPartition::new("__cluster_metadata", 0);
    let config = LogConfig {
        retention_ms: None,
        ..LogConfig::default()
    };
    let log = if dir.find(&partition)?.is_some() {
        dir.open_log(&partition, config)?.0
    } else {
        dir.create_log(&partition, Uuid::from_u128(1), config)?
    };
    Ok((dir, log))
}

/// Appends a decision as one batch; it counts once it is synced.
pub(super) fn append(log: &mut Log, records: &[Record]) -> Result<(), String> {
    let values = records.iter().map(Record::encode);
    let bytes = batch::of_values(BatchOptions::default(), values)?;
    let rules = ProduceRules {
        origin: AppendOrigin::Coordinator,
        ..ProduceRules::default()
    };
    let validated = validate_produce(&bytes, &rules, &mut Decompressor::new())
        .map_err(|error| error.to_string())?;
    let batch = AppendBatch { bytes, validated };
    for result in log.append_as_leader(&[batch], LeaderEpoch(0)) {
        result.map_err(|error| format!("controller: {error}"))?;
    }
    Ok(())
}

/// All decisions.
pub(super) fn read_entries(log: &Log) -> Result<Vec<Placed>, String> {
    let reader = log.reader();
    let (mut from, end) = (Offset::ZERO, reader.log_end_offset());
    let mut decompressor = Decompressor::new();
    let mut entries = Vec::new();
    while from < end {
        let chunk = reader
            .read(from, end, 1 << 20, true)
            .map_err(|error| error.to_string())?;
        for batch in Batches::new(&chunk.bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            let views = batch
                .records(&mut decompressor, 1 << 20)
                .map_err(|error| error.to_string())?;
            let mut records = Vec::new();
            for record in views {
                let record = record.map_err(|error| error.to_string())?;
                let value = record.value.unwrap_or_default();
                records.push(Record::decode(value).map_err(|error| error.to_string())?);
            }
            entries.push(Placed {
                at: batch.header().base_offset.value(),
                records,
            });
        }
        from = chunk.next_offset;
    }
    Ok(entries)
}
