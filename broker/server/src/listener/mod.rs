//! The sockets of the node.

pub(crate) mod admin;
pub(crate) mod connections;
pub(crate) mod grpc;
