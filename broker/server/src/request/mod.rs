//! The one place that every request passes: who is it, may it, how much, how long.
//!
//! [`Gate::call`] makes a [`Call`] of a request: it counts it and measures it until it is dropped.
//! [`Gate::admit`] also asks the authorizer for the operation as a whole. Handlers ask the call about
//! each topic or group they touch, and tell it the bytes that quotas count. Which protocol the request
//! came by is not known here: a listener says who asks, as a [`Caller`].

mod api;
mod authorizer;
mod caller;
mod quota;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conveyor_controller::ClientQuotas;
use conveyor_grpc::ErrorCode;
use thiserror::Error;

pub use api::Api;
pub use authorizer::{AllowAll, Authorizer, Operation, Principal, Resource};
pub use caller::CLIENT_ID_HEADER;
pub(crate) use caller::Caller;
pub(crate) use quota::{Quota, Quotas};

use crate::metrics::{ApiMetrics, Metrics};
use crate::partition::Partition;

/// A request that is refused as a whole.
#[derive(Debug, Clone, Error)]
#[error("{principal} may not call {api}")]
pub(crate) struct Denied {
    principal: Principal,
    api: Api,
}

/// What all requests pass.
#[derive(Debug)]
pub(crate) struct Gate {
    authorizer: Arc<dyn Authorizer>,
    quotas: Quotas,
    metrics: Arc<Metrics>,
}

/// One request on its way; measures until it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    gate: Arc<Gate>,
    api: Api,
    caller: Caller,
    started: Instant,
    throttled_micros: AtomicU64,
}

impl Gate {
    pub(crate) fn new(
        authorizer: Arc<dyn Authorizer>,
        quotas: Quotas,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            authorizer,
            quotas,
            metrics,
        })
    }

    /// Puts other client quotas in force.
    pub(crate) fn set_client_quotas(&self, newest: impl FnOnce() -> Arc<ClientQuotas>) {
        self.quotas.set_clients(newest);
    }

    /// Lets a request in, whose handler asks the authorizer about all that it touches.
    pub(crate) fn call(self: &Arc<Self>, api: Api, caller: Caller) -> Call {
        self.metrics.api(api).requests.increment();
        Call {
            gate: Arc::clone(self),
            api,
            caller,
            started: Instant::now(),
            throttled_micros: AtomicU64::new(0),
        }
    }

    /// Lets a request in, or refuses it as a whole.
    pub(crate) fn admit(
        self: &Arc<Self>,
        api: Api,
        caller: impl Into<Caller>,
    ) -> Result<Call, Denied> {
        let call = self.call(api, caller.into());
        if call.may(api.operation(), api.resource()) {
            return Ok(call);
        }
        call.outcome(ErrorCode::ClusterAuthorizationFailed);
        Err(Denied {
            principal: call.principal().clone(),
            api,
        })
    }
}

impl Call {
    /// Who asks.
    pub(crate) fn principal(&self) -> &Principal {
        &self.caller.principal
    }

    /// How the client names itself; empty if it does not.
    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.caller.client_id
    }

    /// Where it comes from.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.caller.peer
    }

    /// Whether the principal may do this to that.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.gate
            .authorizer
            .authorize(&self.caller.principal, operation, resource)
    }

    /// Counts bytes that may put the principal into debt, for its next call to feel.
    pub(crate) fn used(&self, quota: Quota, bytes: usize) {
        let Caller {
            principal,
            client_id,
            ..
        } = &self.caller;
        let quotas = &self.gate.quotas;
        quotas.charge(principal, client_id, quota, bytes, Instant::now());
    }

    /// How long the principal has to pause before it may do more, for what it has done already.
    pub(crate) fn debt(&self, quota: Quota) -> Duration {
        self.charge(quota, 0)
    }

    /// Counts bytes against the client's quota; the time that it should pause now.
    pub(crate) fn charge(&self, quota: Quota, bytes: usize) -> Duration {
        let pause = self.gate.quotas.charge(
            &self.caller.principal,
            &self.caller.client_id,
            quota,
            bytes,
            Instant::now(),
        );
        self.throttled_micros
            .fetch_add(pause.as_micros() as u64, Ordering::Relaxed);
        pause
    }

    /// How long the principal has to pause for this call in all.
    pub(crate) fn throttled(&self) -> Duration {
        Duration::from_micros(self.throttled_micros.load(Ordering::Relaxed))
    }

    /// The figures of this API.
    pub(crate) fn metrics(&self) -> &ApiMetrics {
        self.gate.metrics.api(self.api)
    }

    /// All figures.
    pub(crate) fn node_metrics(&self) -> &Metrics {
        &self.gate.metrics
    }

    /// Counts a read of a partition: the bytes of its records, `None` if it failed.
    pub(crate) fn count_fetch(&self, partition: &Partition, bytes: Option<usize>) {
        let metrics = self.node_metrics().topic(partition.topic());
        metrics.fetch_requests.increment();
        match bytes {
            Some(bytes) => metrics.bytes_out.add(bytes as u64),
            None => metrics.failed_fetch_requests.increment(),
        }
    }

    /// Counts the outcome of one item.
    pub(crate) fn outcome(&self, code: ErrorCode) {
        self.metrics().count_error(code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let throttled = Duration::from_micros(*self.throttled_micros.get_mut());
        let metrics = self.metrics();
        metrics.throttle.record(throttled);
        // A stream's length says nothing about how fast it was served.
        if !self.api.is_stream() {
            metrics.latency.record(self.started.elapsed());
        }
    }
}
