//! The cluster's beginning, its nodes, and the producer ids that they hand out.
//!
//! Producer ids are given to a node in blocks: one metadata record for a thousand producers, and no
//! id is ever given twice, also not after a crash that loses the rest of a block.

use std::ops::Range;

use crate::{BrokerRegistration, MetadataImage, MetadataRecord, RegisterError, Transition};

/// Producer ids in a block, as in Kafka.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1_000;

/// Producer ids that the node that asked may hand out, each once.
pub type ProducerIdBlock = Range<i64>;

/// Gives the cluster its id; does nothing when it has one.
pub fn bootstrap(image: &MetadataImage, cluster_id: &str) -> Transition<String> {
    match image.cluster_id() {
        Some(present) => Transition {
            records: Vec::new(),
            response: present.to_owned(),
        },
        None => Transition {
            records: vec![MetadataRecord::Cluster {
                cluster_id: cluster_id.to_owned(),
            }],
            response: cluster_id.to_owned(),
        },
    }
}

/// Registers a node with its present address; no records when nothing has changed.
pub fn register_broker(
    image: &MetadataImage,
    registration: BrokerRegistration,
) -> Result<Transition<()>, RegisterError> {
    let node_id = registration.node_id;
    if !node_id.is_some() {
        return Err(RegisterError::InvalidNodeId { node_id });
    }
    if registration.host.is_empty() || registration.port == 0 {
        return Err(RegisterError::NoAddress { node_id });
    }
    let records = if image.broker(node_id) == Some(&registration) {
        Vec::new()
    } else {
        vec![MetadataRecord::RegisterBroker(registration)]
    };
    Ok(Transition {
        records,
        response: (),
    })
}

/// Takes the next block of producer ids.
pub fn allocate_producer_ids(image: &MetadataImage) -> Transition<ProducerIdBlock> {
    let first = image.next_producer_id();
    let next = first.saturating_add(PRODUCER_ID_BLOCK_SIZE);
    Transition {
        records: vec![MetadataRecord::ProducerIds {
            next_producer_id: next,
        }],
        response: first..next,
    }
}

#[cfg(test)]
mod tests {
    use conveyor_record::NodeId;

    use super::*;

    #[test]
    fn a_cluster_keeps_its_first_id() {
        let mut image = MetadataImage::default();
        image.replay_all(&bootstrap(&image, "first").records);
        let second = bootstrap(&image, "second");
        assert_eq!(second.response, "first");
        assert!(second.records.is_empty());
    }

    #[test]
    fn blocks_of_producer_ids_do_not_overlap() {
        let mut image = MetadataImage::default();
        let first = allocate_producer_ids(&image);
        image.replay_all(&first.records);
        let second = allocate_producer_ids(&image);
        assert_eq!(first.response, 0..1_000);
        assert_eq!(second.response, 1_000..2_000);
    }

    #[test]
    fn a_node_that_comes_back_unchanged_writes_nothing() {
        let mut image = MetadataImage::default();
        let node = BrokerRegistration::new(NodeId(1), "host", 9192);
        image.replay_all(&register_broker(&image, node.clone()).unwrap().records);
        assert!(register_broker(&image, node).unwrap().records.is_empty());
        let moved = BrokerRegistration::new(NodeId(1), "host", 9193);
        image.replay_all(&register_broker(&image, moved).unwrap().records);
        assert_eq!(image.broker(NodeId(1)).map(|node| node.port), Some(9193));
    }

    #[test]
    fn a_node_without_number_or_address_is_refused() {
        let image = MetadataImage::default();
        assert!(register_broker(&image, BrokerRegistration::new(NodeId(-1), "h", 1)).is_err());
        assert!(register_broker(&image, BrokerRegistration::new(NodeId(1), "", 1)).is_err());
        assert!(register_broker(&image, BrokerRegistration::new(NodeId(1), "h", 0)).is_err());
    }
}
