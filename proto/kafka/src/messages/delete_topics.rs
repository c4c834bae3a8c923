//! `DeleteTopics`: deletes topics by name or id.

use uuid::Uuid;

use crate::table::{message, structure};
use crate::text::Text;

message! {
    /// The topics to delete.
    DeleteTopicsRequest [1-6, flexible 4+] {
        topics: Vec<DeleteTopicState> [6+],
        topic_names: Vec<Text> [0-5, ignorable],
        timeout_ms: i32 [0+],
    }
}

structure! {
    /// An element of [`DeleteTopicsRequest::topics`].
    DeleteTopicState {
        name: Option<Text> [6+],
        topic_id: Uuid [6+],
    }
}

message! {
    /// The outcome by topic.
    DeleteTopicsResponse [1-6, flexible 4+] {
        throttle_time_ms: i32 [1+, ignorable],
        responses: Vec<DeletableTopicResult> [0+],
    }
}

structure! {
    /// An element of [`DeleteTopicsResponse::responses`].
    DeletableTopicResult {
        name: Option<Text> [0+, nullable 6+],
        topic_id: Uuid [6+, ignorable],
        error_code: i16 [0+],
        error_message: Option<Text> [5+, ignorable],
    }
}
