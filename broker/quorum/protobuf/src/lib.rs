//! What the crate `raft` asks of `protobuf` 2, and nothing else.
//!
//! `raft` 0.7.0 names `protobuf` 2 as a dependency whatever features are chosen, but uses of it only
//! three methods of one trait and an error type. The real crate has an open advisory
//! (RUSTSEC-2024-0437: messages nested without end overflow the stack) that is mended in version 3
//! only, and needs `protoc` and C++ for its generated code. The workspace's `[patch.crates-io]` puts
//! this crate in its place. Should another dependency ever ask for the real protobuf 2, it fails to
//! compile against this one, which is the moment to look for another way.
//!
//! It knows no wire format: the messages of our `raft-proto` encode themselves.
#![forbid(unsafe_code)]

/// Why the bytes of a message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {message}: {reason}")]
pub struct ProtobufError {
    /// The kind of message that was expected.
    pub message: &'static str,
    /// What is wrong with the bytes.
    pub reason: &'static str,
}

/// The result of reading or writing a message.
pub type ProtobufResult<T> = Result<T, ProtobufError>;

/// A message that knows its size and its stored form.
pub trait Message {
    /// Size of the stored form in bytes, or a close bound; `raft` cuts its batches by it.
    fn compute_size(&self) -> u32;

    /// The stored form.
    fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>>;

    /// Replaces the message by the one stored in `bytes`; no bytes are the default message.
    fn merge_from_bytes(&mut self, bytes: &[u8]) -> ProtobufResult<()>;
}
