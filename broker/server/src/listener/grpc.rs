//! The gRPC listener: HTTP/2 with raised windows, bounded messages, keep-alive, and reflection, so
//! that generic clients find the contracts.

use std::sync::Arc;
use std::time::Duration;

use conveyor_grpc::FILE_DESCRIPTOR_SET;
use conveyor_grpc::v1::admin_service_server::AdminServiceServer;
use conveyor_grpc::v1::fetch_service_server::FetchServiceServer;
use conveyor_grpc::v1::metadata_service_server::MetadataServiceServer;
use conveyor_grpc::v1::produce_service_server::ProduceServiceServer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::{Error, Server};

use super::connections::incoming;
use super::hot_streams::HotStream;
use crate::handlers::Services;

/// How often an idle connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Largest header list taken; ours are a few hundred bytes.
const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Streams reset before they were served, beyond which a connection is closed (rapid reset).
const PENDING_RESETS_MAX: usize = 64;
/// Largest request without batches; offsets of 100,000 partitions fit.
pub(super) const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Batches that fit one unary produce call.
const BATCHES_PER_CALL: usize = 16;
/// Room for what stands around a batch in its message.
pub(super) const MESSAGE_OVERHEAD: usize = 64 * 1024;

/// Serves until the node stops; returns once the last connection has ended.
pub(crate) async fn serve(
    services: Services,
    listener: TcpListener,
    more: Routes,
) -> Result<(), Error> {
    let node = Arc::clone(&services.node);
    let config = &node.config;
    let idle = Duration::from_millis(u64::try_from(config.connections_max_idle_ms).unwrap_or(0));
    let connections = incoming(listener, config.connections_max, Arc::clone(&node.metrics));
    let stopping = node.stopping.clone();
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(config.grpc_stream_window)
        .initial_connection_window_size(config.grpc_connection_window)
        .max_frame_size(config.grpc_frame_bytes)
        .max_concurrent_streams(config.grpc_streams_max)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL.min(idle)))
        .http2_keepalive_timeout(Some(idle.min(Duration::from_secs(20))))
        .add_routes(routes(&services, more))
        .serve_with_incoming_shutdown(connections, stopping.cancelled_owned())
        .await
}

fn routes(services: &Services, more: Routes) -> Routes {
    let batch_bytes = services.node.batch_bytes_max() + MESSAGE_OVERHEAD;
    let produce = ProduceServiceServer::new(services.clone())
        .max_decoding_message_size(batch_bytes.saturating_mul(BATCHES_PER_CALL));
    let fetch = FetchServiceServer::new(services.clone())
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let metadata =
        MetadataServiceServer::new(services.clone()).max_decoding_message_size(REQUEST_BYTES);
    let admin = AdminServiceServer::new(services.clone()).max_decoding_message_size(REQUEST_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1();
    let more = match reflection {
        Ok(reflection) => more.add_service(reflection),
        Err(error) => {
            tracing::warn!(%error, "no server reflection");
            more
        }
    };
    let produce = HotStream::produce(services, produce);
    let fetch = HotStream::fetch(services, fetch);
    more.add_service(produce)
        .add_service(fetch)
        .add_service(metadata)
        .add_service(admin)
}
