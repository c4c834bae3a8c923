//! What administration does, whichever protocol asks for it: authorize, let the controller decide,
//! make the node follow.
//!
//! The handlers of gRPC and of Kafka's protocol translate to and from these functions; they know
//! messages, these do not.

pub(crate) mod configs;
pub(crate) mod quotas;
pub(crate) mod topics;

use std::time::Duration;

use conveyor_grpc::ErrorCode;

pub(crate) use topics::ensure_topic;

use crate::node::Refusal;

/// Waits for a change no longer than its client wants to. A change that is given up may still happen.
pub(crate) async fn within<T>(
    timeout_ms: i32,
    change: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let limit = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    tokio::time::timeout(limit, change)
        .await
        .unwrap_or_else(|_| {
            let message = format!("not done within {timeout_ms} ms, it may still happen");
            Err(Refusal::new(ErrorCode::RequestTimedOut, message))
        })
}
