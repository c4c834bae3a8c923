//! The admin HTTP listener: is the node alive, is it ready, how is it doing.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process serves; 503 once every data directory is offline |
//! | `/readyz` | 200 while clients are served; 503 while it stops |
//! | `/metrics` | Prometheus text |
//! | `/v1/status` | the same in a few words of JSON |

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::metrics::render;
use crate::node::Node;

/// Serves until the node has stopped.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) -> io::Result<()> {
    let stopped = node.stopped.clone();
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .with_state(node);
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped.cancelled_owned())
        .await
}

async fn healthz(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let directories = node.storage.directories();
    match directories
        .iter()
        .map(|directory| directory.offline())
        .collect::<Option<Vec<_>>>()
    {
        Some(reasons) if !reasons.is_empty() => {
            let text: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            (StatusCode::SERVICE_UNAVAILABLE, text.join("\n"))
        }
        _ => (StatusCode::OK, "ok".to_owned()),
    }
}

async fn readyz(State(node): State<Arc<Node>>) -> impl IntoResponse {
    if node.stopping.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        (StatusCode::OK, "ready")
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let text = tokio::task::spawn_blocking(move || render(&node))
        .await
        .unwrap_or_default();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
}

#[derive(Serialize)]
struct Status {
    node_id: i32,
    cluster_id: String,
    version: &'static str,
    uptime_ms: i64,
    topics: usize,
    partitions: usize,
    offline_partitions: usize,
    connections: u64,
    kafka_listeners: Vec<KafkaListenerStatus>,
    data_dirs: Vec<DataDirStatus>,
}

#[derive(Serialize)]
struct KafkaListenerStatus {
    name: String,
    /// Where it is bound.
    address: String,
    /// What clients are told; `*` stands for the address that they have reached.
    advertised: String,
}

#[derive(Serialize)]
struct DataDirStatus {
    path: String,
    online: bool,
    reason: Option<String>,
    partitions: usize,
    queued_bytes: usize,
}

async fn status(State(node): State<Arc<Node>>) -> Json<Status> {
    let image = node.metadata.image();
    let data_dirs = node.storage.directories().iter().map(|directory| {
        let reason = directory.offline().map(|offline| offline.to_string());
        DataDirStatus {
            path: directory.path().display().to_string(),
            online: reason.is_none(),
            reason,
            partitions: directory.partition_count(),
            queued_bytes: directory.queued_bytes(),
        }
    });
    let kafka_listeners = node
        .kafka_listeners
        .iter()
        .map(|listener| KafkaListenerStatus {
            name: listener.name.to_string(),
            address: listener.address.to_string(),
            advertised: listener.advertised(),
        });
    Json(Status {
        node_id: node.node_id.value(),
        cluster_id: image.cluster_id().unwrap_or_default().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: node.now_ms() - node.started_ms,
        topics: image.topics().len(),
        partitions: image.partition_count(),
        offline_partitions: node.offline_partitions(),
        connections: node
            .metrics
            .connections_open
            .load(std::sync::atomic::Ordering::Relaxed),
        kafka_listeners: kafka_listeners.collect(),
        data_dirs: data_dirs.collect(),
    })
}
