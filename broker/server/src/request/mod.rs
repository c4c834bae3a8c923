//! The one place that every request passes: who is it, may it, how much, how long.
//!
//! [`Gate::admit`] makes a [`Call`] of a request: it names the principal, asks the authorizer for the
//! operation as a whole, counts the call, and measures it until it is dropped. Handlers ask the call
//! about each topic or group they touch, and tell it the bytes that quotas count.

mod api;
mod authorizer;
mod quota;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conveyor_grpc::ErrorCode;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Extensions, Status};

pub use api::Api;
pub use authorizer::{AllowAll, Authorizer, Operation, Principal, Resource};
pub(crate) use quota::{Quota, Quotas};

use crate::metrics::{ApiMetrics, Metrics};

/// Metadata key by which a client names itself.
pub const CLIENT_ID_HEADER: &str = "x-conveyor-client-id";
/// Longest client id kept; the rest is cut.
const CLIENT_ID_LENGTH_MAX: usize = 255;

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
    principal: Principal,
    client_id: Arc<str>,
    peer: Option<SocketAddr>,
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

    /// Lets a request in, or refuses it as a whole.
    pub(crate) fn admit<T>(
        self: &Arc<Self>,
        api: Api,
        request: &tonic::Request<T>,
    ) -> Result<Call, Status> {
        let call = Call {
            gate: Arc::clone(self),
            api,
            principal: Principal::anonymous(),
            client_id: client_id(request.metadata()),
            peer: peer(request.extensions()),
            started: Instant::now(),
            throttled_micros: AtomicU64::new(0),
        };
        self.metrics.api(api).requests.increment();
        if call.may(api.operation(), api.resource()) {
            Ok(call)
        } else {
            call.metrics()
                .count_error(ErrorCode::ClusterAuthorizationFailed);
            let principal = &call.principal;
            Err(Status::permission_denied(format!(
                "{principal} may not call {api}"
            )))
        }
    }
}

impl Call {
    /// Who asks.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// How the client names itself; empty if it does not.
    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Where it comes from.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the principal may do this to that.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.gate
            .authorizer
            .authorize(&self.principal, operation, resource)
    }

    /// Counts bytes against the principal's quota; the time that it should pause now.
    pub(crate) fn charge(&self, quota: Quota, bytes: usize) -> Duration {
        let pause = self
            .gate
            .quotas
            .charge(&self.principal, quota, bytes, Instant::now());
        self.throttled_micros
            .fetch_add(pause.as_micros() as u64, Ordering::Relaxed);
        pause
    }

    /// The figures of this API.
    pub(crate) fn metrics(&self) -> &ApiMetrics {
        self.gate.metrics.api(self.api)
    }

    /// All figures.
    pub(crate) fn node_metrics(&self) -> &Metrics {
        &self.gate.metrics
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

fn client_id(metadata: &tonic::metadata::MetadataMap) -> Arc<str> {
    let text = metadata
        .get(CLIENT_ID_HEADER)
        .and_then(|value| value.to_str().ok());
    // Header values are visible ASCII here, so that logs and metrics need no escaping for control
    // characters.
    let clean: String = text
        .unwrap_or_default()
        .chars()
        .take(CLIENT_ID_LENGTH_MAX)
        .collect();
    clean.into()
}

fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    extensions
        .get::<TcpConnectInfo>()
        .and_then(TcpConnectInfo::remote_addr)
}
