//! Hands out producer ids, each once, from blocks that the metadata gives to this node.

use std::ops::Range;

use conveyor_controller::{Answer, Change};
use conveyor_record::{BrokerEpoch, NodeId, ProducerId};
use parking_lot::Mutex;

use crate::metadata_host::{MetadataError, MetadataHost, SubmitError};

/// The rest of the present block.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    node_id: NodeId,
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// For a node that has no block yet.
    pub(crate) fn of(node_id: NodeId) -> Self {
        Self {
            node_id,
            block: Mutex::default(),
        }
    }

    /// The next id. Callers that find the block empty at the same time each fetch one; no id is
    /// given twice, some may never be given.
    pub(crate) async fn next(&self, metadata: &MetadataHost) -> Result<ProducerId, SubmitError> {
        if let Some(id) = self.block.lock().next() {
            return Ok(ProducerId(id));
        }
        let mut block = self.fetch(metadata).await?;
        let id = block.next().unwrap_or(block.end);
        let mut present = self.block.lock();
        if present.is_empty() {
            *present = block;
        }
        Ok(ProducerId(id))
    }

    async fn fetch(&self, metadata: &MetadataHost) -> Result<Range<i64>, SubmitError> {
        let image = metadata.image();
        let own = image.broker(self.node_id);
        let change = Change::AllocateProducerIds {
            node_id: self.node_id,
            broker_epoch: own.map_or(BrokerEpoch::NONE, |own| own.epoch),
        };
        match metadata.submit(change).await? {
            Answer::ProducerIds(block) => Ok(block),
            _ => Err(MetadataError::OtherAnswer.into()),
        }
    }
}
