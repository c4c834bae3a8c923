//! A running node.

use std::net::SocketAddr;

use crate::BrokerConfig;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {}

/// Why a node did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {}

/// A running node; dropping it stops it without order, as a crash would.
#[derive(Debug)]
pub struct Broker {}

impl Broker {
    /// Opens the data directories, replays the metadata, and serves. Returns when clients can
    /// produce.
    pub async fn start(_config: BrokerConfig) -> Result<Self, StartError> {
        unimplemented!()
    }
    /// Where the gRPC listener is bound (the real port when the setting says 0).
    pub fn grpc_address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// Where the admin HTTP listener is bound; `None` when it is switched off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        unimplemented!()
    }
    /// The cluster's id.
    pub fn cluster_id(&self) -> uuid::Uuid {
        unimplemented!()
    }
    /// Returns when the node stops by itself, because a listener failed; never otherwise.
    pub async fn stopped(&self) {
        unimplemented!()
    }
    /// Stops in order: no new calls, calls under way finished or cut after
    /// `controlled.shutdown.timeout.ms`, everything synced, checkpoints and clean marker written.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        unimplemented!()
    }
}
