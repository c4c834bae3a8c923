//! What the handlers of transactions have in common: who may use an id, what a refusal is told as.

use conveyor_controller::MetadataImage;
use conveyor_grpc::ErrorCode;

use super::KafkaCall;
use crate::node::Refusal;
use crate::request::{Operation, Resource};
use crate::transaction::authorize_transactional_id;

impl KafkaCall {
    /// Refuses what the authorizer does not allow on a transactional id.
    pub(super) fn allow_transactional_id(
        &self,
        operation: Operation,
        transactional_id: &str,
    ) -> Result<(), Refusal> {
        authorize_transactional_id(self, operation, transactional_id)
    }

    /// Refuses what only brokers may do.
    pub(super) fn allow_cluster_action(&self) -> Result<(), Refusal> {
        if self.may(Operation::ClusterAction, Resource::Cluster) {
            return Ok(());
        }
        let message = format!("{} may not do what brokers do", self.principal());
        Err(Refusal::new(ErrorCode::ClusterAuthorizationFailed, message))
    }

    /// Refuses a producer id to who may write to the cluster in no way: neither what is named for it
    /// nor to any topic that there is.
    pub(super) fn allow_idempotent_write(&self, image: &MetadataImage) -> Result<(), Refusal> {
        let may_write = |name| self.may(Operation::Write, Resource::Topic(name));
        if self.may(Operation::IdempotentWrite, Resource::Cluster)
            || image.topics().any(|topic| may_write(&topic.name))
        {
            return Ok(());
        }
        let message = format!("{} may not write to any topic", self.principal());
        Err(Refusal::new(ErrorCode::ClusterAuthorizationFailed, message))
    }

    /// Clients of versions before `since` do not know `PRODUCER_FENCED`.
    pub(super) fn fenced_since(&self, since: i16, refusal: Refusal) -> Refusal {
        match refusal.code {
            ErrorCode::ProducerFenced if self.version < since => Refusal {
                code: ErrorCode::InvalidProducerEpoch,
                ..refusal
            },
            _ => refusal,
        }
    }
}
