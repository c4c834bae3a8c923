//! The sockets of the node.

pub(crate) mod admin;
pub(crate) mod connections;
mod framing;
pub(crate) mod grpc;
mod hot_streams;
pub(crate) mod kafka;

pub(crate) use framing::Inbound;
