//! Limits of users and client ids: shown, changed, and put in force at once.

use std::sync::Arc;

use conveyor_controller::{self as controller, ClientQuotas, QuotaEntity};

use crate::node::{Node, Refusal, authorize_cluster};
use crate::request::{Call, Operation};

/// All limits, for somebody who may see them.
pub(crate) fn describe(node: &Node, call: &Call) -> Result<Arc<ClientQuotas>, Refusal> {
    authorize_cluster(call, Operation::DescribeConfigs)?;
    Ok(Arc::clone(node.metadata.image().client_quotas()))
}

/// Changes the limits of an entity, all or none: each to a new rate, or to none.
pub(crate) async fn alter(
    node: &Node,
    call: &Call,
    entity: QuotaEntity,
    changes: Vec<(String, Option<f64>)>,
    validate_only: bool,
) -> Result<(), Refusal> {
    authorize_cluster(call, Operation::AlterConfigs)?;
    node.metadata
        .change(
            move |image| match controller::alter_client_quotas(image, &entity, &changes) {
                Ok(_) if validate_only => (Vec::new(), Ok(())),
                Ok(altered) => (altered.records, Ok(())),
                Err(error) => (Vec::new(), Err(Refusal::from(error))),
            },
        )
        .await??;
    node.gate
        .set_client_quotas(|| Arc::clone(node.metadata.image().client_quotas()));
    Ok(())
}
