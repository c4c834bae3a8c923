//! `WriteTxnMarkers`: a transaction coordinator has partition leaders write markers.

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The transactions that ended and their partitions.
    WriteTxnMarkersRequest [1-2, flexible 1+] {
        markers: Vec<WritableTxnMarker> [0+],
    }
}

structure! {
    /// An element of [`WriteTxnMarkersRequest::markers`].
    WritableTxnMarker {
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        transaction_result: bool [0+],
        topics: Vec<WritableTxnMarkerTopic> [0+],
        coordinator_epoch: i32 [0+],
        transaction_version: i8 [2+, ignorable],
    }
}

structure! {
    /// An element of [`WritableTxnMarker::topics`].
    WritableTxnMarkerTopic {
        name: Text [0+],
        partition_indexes: Vec<i32> [0+],
    }
}

message! {
    /// The outcome by producer and partition.
    WriteTxnMarkersResponse [1-2, flexible 1+] {
        markers: Vec<WritableTxnMarkerResult> [0+],
    }
}

structure! {
    /// An element of [`WriteTxnMarkersResponse::markers`].
    WritableTxnMarkerResult {
        producer_id: i64 [0+],
        topics: Vec<WritableTxnMarkerTopicResult> [0+],
    }
}

structure! {
    /// An element of [`WritableTxnMarkerResult::topics`].
    WritableTxnMarkerTopicResult {
        name: Text [0+],
        partitions: Vec<WritableTxnMarkerPartitionResult> [0+],
    }
}

structure! {
    /// An element of [`WritableTxnMarkerTopicResult::partitions`].
    WritableTxnMarkerPartitionResult {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}
