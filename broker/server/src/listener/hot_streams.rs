//! The two streams that carry records, served past tonic's codec.
//!
//! Everything else of the produce and fetch services goes to the generated servers; these two calls
//! are admitted, read and answered here, so that batches are not copied on their way (see
//! [`super::framing`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use conveyor_grpc::v1::fetch_service_server::FetchServiceServer;
use conveyor_grpc::v1::produce_service_server::ProduceServiceServer;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::framing::{Inbound, Outbound};
use super::grpc::MESSAGE_OVERHEAD;
use crate::handlers::{Services, fetch_stream, produce_stream};
use crate::node::Node;
use crate::request::Api;

const PRODUCE_STREAM: &str = "/conveyor.v1.ProduceService/ProduceStream";
const FETCH_STREAM: &str = "/conveyor.v1.FetchService/FetchStream";

type Answer = Result<http::Response<Body>, Infallible>;

/// `ProduceService`, its stream without copies.
#[derive(Debug, Clone)]
pub(crate) struct Produce {
    pub(crate) node: Arc<Node>,
    pub(crate) others: ProduceServiceServer<Services>,
}

impl NamedService for Produce {
    const NAME: &'static str = ProduceServiceServer::<Services>::NAME;
}

impl Service<http::Request<Body>> for Produce {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PRODUCE_STREAM {
            return self.others.call(request);
        }
        let request = Request::from_http(request);
        let answer = self
            .node
            .gate
            .admit(Api::ProduceStream, &request)
            .map_err(Status::from)
            .map(|call| {
                // Topics' limits may have changed since the last stream.
                let message_bytes_max = self.node.batch_bytes_max() + MESSAGE_OVERHEAD;
                let inbound = Inbound::new(request.into_inner(), message_bytes_max);
                Outbound::response(produce_stream::start(&self.node, call, inbound))
            });
        Box::pin(std::future::ready(Ok(answer.unwrap_or_else(refused))))
    }
}

/// `FetchService`, its stream without copies.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub(crate) node: Arc<Node>,
    pub(crate) others: FetchServiceServer<Services>,
    /// Largest message of the stream, bytes.
    pub(crate) message_bytes_max: usize,
}

impl NamedService for Fetch {
    const NAME: &'static str = FetchServiceServer::<Services>::NAME;
}

impl Service<http::Request<Body>> for Fetch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != FETCH_STREAM {
            return self.others.call(request);
        }
        let request = Request::from_http(request);
        let answer = self
            .node
            .gate
            .admit(Api::FetchStream, &request)
            .map_err(Status::from)
            .map(|call| {
                let inbound = Inbound::new(request.into_inner(), self.message_bytes_max);
                Outbound::response(fetch_stream::start(&self.node, call, inbound))
            });
        Box::pin(std::future::ready(Ok(answer.unwrap_or_else(refused))))
    }
}

fn refused(status: Status) -> http::Response<Body> {
    status.into_http()
}
