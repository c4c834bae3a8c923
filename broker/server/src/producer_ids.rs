//! Hands out producer ids, each once, from blocks that the metadata gives to this node.

use std::ops::Range;

use conveyor_controller::allocate_producer_ids;
use conveyor_record::ProducerId;
use parking_lot::Mutex;

use crate::metadata_host::{MetadataError, MetadataHost};

/// The rest of the present block.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// The next id. Callers that find the block empty at the same time each fetch one; no id is
    /// given twice, some may never be given.
    pub(crate) async fn next(&self, metadata: &MetadataHost) -> Result<ProducerId, MetadataError> {
        if let Some(id) = self.block.lock().next() {
            return Ok(ProducerId(id));
        }
        let mut block = metadata
            .change(|image| {
                let allocated = allocate_producer_ids(image);
                (allocated.records, allocated.response)
            })
            .await?;
        let id = block.next().unwrap_or(block.end);
        let mut present = self.block.lock();
        if present.is_empty() {
            *present = block;
        }
        Ok(ProducerId(id))
    }
}
