//! Raises the log start offset (`DeleteRecords`).

use conveyor_grpc::ErrorCode;
use conveyor_record::Offset;

use super::read;
use crate::node::{Node, Refusal};
use crate::partition::Partition;
use crate::request::{Call, Operation};

/// Stands for the high watermark in a request.
const HIGH_WATERMARK: i64 = -1;

/// Deletes the records below `before`, or all that consumers can see for -1; the new log start.
pub(crate) async fn delete_before(
    node: &Node,
    call: &Call,
    place: (&str, i32),
    before: i64,
) -> Result<Offset, Refusal> {
    let partition = node.partition_for(call, Operation::Delete, place.0, place.1)?;
    if !partition.config().cleanup_policy.delete {
        let message = format!("{}: cleanup.policy has no \"delete\"", partition.name());
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    let change = tokio::task::spawn_blocking(move || raise_start(&partition, before)).await;
    change.unwrap_or_else(|error| {
        Err(Refusal::new(
            ErrorCode::UnknownServerError,
            format!("given up: {error}"),
        ))
    })
}

fn raise_start(partition: &Partition, before: i64) -> Result<Offset, Refusal> {
    let high_watermark = partition.reader().high_watermark();
    let before = if before == HIGH_WATERMARK {
        high_watermark
    } else {
        Offset(before)
    };
    if !before.is_some() || before > high_watermark {
        let message = format!(
            "{}: offset {before} is outside 0 to {high_watermark}",
            partition.name()
        );
        return Err(Refusal::new(ErrorCode::OffsetOutOfRange, message));
    }
    match partition.with_log(|log| log.delete_records_before(before)) {
        Some(start) => Ok(start?),
        None => Err(read::closed(partition)),
    }
}
