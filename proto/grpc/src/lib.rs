//! The gRPC contracts of `proto/conveyor/v1` as Rust types, clients and servers.
//!
//! `bytes` fields are [`bytes::Bytes`]: a record batch stays a slice of the frame that brought it.
//! The contracts themselves are the documentation; what is generated from them carries their
//! comments.
#![forbid(unsafe_code)]

/// Messages and services of package `conveyor.v1`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::or_fun_call,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("conveyor.v1");
}

mod error_code;

pub use error_code::ErrorCode;

/// The compiled contracts, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/conveyor_descriptor.bin"));
