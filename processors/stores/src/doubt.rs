//! Transactions whose answer was lost: a connection broke between the commit and its answer, or the
//! wait for it was given up, so nobody here knows whether it was written. As a wait can be given up
//! at any moment, each transaction is in doubt from before its first write.
//!
//! The driver brings the same batch again. If the store then stands where that batch leads, under
//! the same owner, nobody else can have written it: it is done. Without this memory the batch would
//! be refused as one that does not follow on, and the instance would join its group anew.

use std::collections::HashMap;

use conveyor_processors::store::Advance;
use parking_lot::Mutex;

use crate::fence::{self, Held};

/// At most one for each projection: each has one transaction under way.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    advances: Mutex<HashMap<String, Vec<Advance>>>,
}

impl Doubts {
    /// From now on nobody knows whether this is written.
    pub(crate) fn note(&self, projection: &str, advances: &[Advance]) {
        self.advances
            .lock()
            .insert(projection.to_owned(), advances.to_vec());
    }

    /// The answer has come: what was noted last is written.
    pub(crate) fn clear(&self, projection: &str) {
        self.advances.lock().remove(projection);
    }

    /// Whether these are in doubt and the positions show that they were written. They are in doubt
    /// no longer.
    pub(crate) fn settle(&self, projection: &str, held: &[Held], advances: &[Advance]) -> bool {
        let doubtful = self.advances.lock().remove(projection);
        doubtful.is_some_and(|doubtful| doubtful == advances) && fence::is_done(held, advances)
    }
}

#[cfg(test)]
mod tests {
    use conveyor_processors::record::TopicPartition;
    use conveyor_processors::store::OwnerEpoch;
    use conveyor_record::Offset;

    use super::*;

    #[test]
    fn only_a_doubtful_transaction_that_was_written_is_settled_and_once() {
        let doubts = Doubts::default();
        let topic_partition = TopicPartition::new("t", 0);
        let advances = [Advance {
            topic_partition: topic_partition.clone(),
            from: None,
            to: Offset(4),
            owner_epoch: OwnerEpoch(1),
        }];
        let held = |next_offset| {
            [Held {
                topic_partition: topic_partition.clone(),
                next_offset,
                owner_epoch: OwnerEpoch(1),
            }]
        };
        let there = held(Some(Offset(4)));
        assert!(!doubts.settle("p", &there, &advances), "never in doubt");
        doubts.note("p", &advances);
        assert!(!doubts.settle("q", &there, &advances));
        assert!(doubts.settle("p", &there, &advances));
        assert!(!doubts.settle("p", &there, &advances), "once");
        doubts.note("p", &advances);
        assert!(!doubts.settle("p", &held(None), &advances), "not written");
        doubts.note("p", &advances);
        doubts.clear("p");
        assert!(!doubts.settle("p", &there, &advances), "answered");
    }
}
