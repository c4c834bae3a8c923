//! The two streams that carry records, served past tonic's codec.
//!
//! Everything else of the produce and fetch services goes to the generated servers; these two calls
//! are admitted, read and answered here, so that batches are not copied on their way (see
//! [`super::framing`]).

use std::convert::Infallible;
use std::task::{Context, Poll};

use conveyor_grpc::v1::fetch_service_server::FetchServiceServer;
use conveyor_grpc::v1::produce_service_server::ProduceServiceServer;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::framing::{Inbound, Outbound};
use super::grpc::{MESSAGE_OVERHEAD, REQUEST_BYTES};
use crate::handlers::{Services, fetch_stream, produce_stream};
use crate::request::{Api, Call};

type Answer = Result<http::Response<Body>, Infallible>;

/// A generated server, its stream served without copies.
#[derive(Debug, Clone)]
pub(crate) struct HotStream<S> {
    services: Services,
    others: S,
    path: &'static str,
    api: Api,
    start: fn(&Services, Call, Body) -> http::Response<Body>,
}

impl HotStream<ProduceServiceServer<Services>> {
    /// `ProduceService`.
    pub(crate) fn produce(services: &Services, others: ProduceServiceServer<Services>) -> Self {
        Self {
            services: services.clone(),
            others,
            path: "/conveyor.v1.ProduceService/ProduceStream",
            api: Api::ProduceStream,
            start: |services, call, body| {
                // Topics' limits may have changed since the last stream.
                let message_bytes_max = services.node.batch_bytes_max() + MESSAGE_OVERHEAD;
                let inbound = Inbound::new(body, message_bytes_max);
                Outbound::response(produce_stream::start(services, call, inbound))
            },
        }
    }
}

impl HotStream<FetchServiceServer<Services>> {
    /// `FetchService`.
    pub(crate) fn fetch(services: &Services, others: FetchServiceServer<Services>) -> Self {
        Self {
            services: services.clone(),
            others,
            path: "/conveyor.v1.FetchService/FetchStream",
            api: Api::FetchStream,
            start: |services, call, body| {
                let inbound = Inbound::new(body, REQUEST_BYTES);
                Outbound::response(fetch_stream::start(&services.node, call, inbound))
            },
        }
    }
}

impl<S: NamedService> NamedService for HotStream<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for HotStream<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<'static, Answer>,
        >,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.others.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != self.path {
            return self.others.call(request);
        }
        let request = Request::from_http(request);
        let admitted = self.services.node.gate.admit(self.api, &request);
        let answer = match admitted {
            Ok(call) => (self.start)(&self.services, call, request.into_inner()),
            Err(refused) => Status::from(refused).into_http(),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}
