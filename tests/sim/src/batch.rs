//! Batches as clients and the controller's host build them: values only, each at time 0.

use bytes::Bytes;
use conveyor_record::{BatchBuilder, BatchOptions, Compressor, NewRecord};

/// One batch of these values.
pub(crate) fn of_values(
    options: BatchOptions,
    values: impl IntoIterator<Item = Vec<u8>>,
) -> Result<Bytes, String> {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder
            .append(&NewRecord {
                timestamp_ms: 0,
                key: None,
                value: Some(&value),
                headers: &[],
            })
            .map_err(|error| error.to_string())?;
    }
    builder
        .build(&mut Compressor::new())
        .map_err(|error| error.to_string())
}
