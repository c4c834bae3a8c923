//! What the handlers of groups have in common: who calls, what a refusal is told as.

use conveyor_grpc::ErrorCode;
use conveyor_kafka::Text;
use uuid::Uuid;

use super::{KafkaCall, KafkaService};
use crate::coordinator::authorize_group;
use crate::node::Refusal;
use crate::request::Operation;

impl KafkaCall {
    /// Refuses what the authorizer does not allow on a group.
    pub(super) fn allow_group(&self, operation: Operation, group_id: &str) -> Result<(), Refusal> {
        authorize_group(self, operation, group_id)
    }

    /// The code of a refusal, counted; its text goes to the log, as most responses have no place for
    /// one.
    pub(super) fn refused(&self, refusal: &Refusal) -> i16 {
        tracing::debug!(
            client_id = %self.client_id(),
            peer = ?self.peer(),
            code = ?refusal.code,
            reason = refusal.message,
            "request about a group refused"
        );
        self.code(refusal.code)
    }

    /// The code of an outcome, counted.
    pub(super) fn outcome_code<T>(&self, outcome: &Result<T, Refusal>) -> i16 {
        match outcome {
            Ok(_) => self.code(ErrorCode::None),
            Err(refusal) => self.refused(refusal),
        }
    }

    /// The client's address as Kafka writes it.
    pub(super) fn client_host(&self) -> String {
        self.peer()
            .map(|peer| format!("/{}", peer.ip()))
            .unwrap_or_default()
    }
}

/// Refuses metadata or assignments that no record of the group could hold: they are kept as long as
/// members are. Kafka answers likewise when it cannot write the group's record.
pub(super) fn check_size(service: &KafkaService, bytes: usize) -> Result<(), Refusal> {
    let max = service.node().message_bytes_max();
    if bytes <= max {
        return Ok(());
    }
    let message =
        format!("{bytes} bytes of metadata or assignments are more than message.max.bytes ({max})");
    Err(Refusal::new(ErrorCode::UnknownServerError, message))
}

/// An id for a member that has none, made as Kafka makes them: readable and never used before.
pub(super) fn new_member_id(client_id: &str, instance_id: Option<&str>) -> String {
    format!("{}-{}", instance_id.unwrap_or(client_id), Uuid::new_v4())
}

/// A text of one's own: a slice would keep the whole frame.
pub(super) fn owned(text: Option<&Text>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

/// A text for a response.
pub(super) fn text(text: Option<String>) -> Option<Text> {
    text.map(Text::from)
}
