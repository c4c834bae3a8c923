//! Limits of users and client ids: shown, changed, and put in force at once.

use std::sync::Arc;

use conveyor_controller::{Change, ClientQuotas, QuotaEntity, checked_rates};

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
    let change = Change::AlterClientQuotas {
        entity,
        changes: checked_rates(changes)?,
        validate_only,
    };
    node.metadata.submit(change).await?;
    node.gate
        .set_client_quotas(|| Arc::clone(node.metadata.image().client_quotas()));
    Ok(())
}
