//! Streaming produce over gRPC: a real node beside a bare tonic server of the same contract that
//! does nothing but acknowledge.
//!
//! Server and client are processes of their own. The client is the same for both: it sends batches
//! that are encoded already over one or more streams and keeps the window full.

pub mod client;
pub mod echo;

/// HTTP/2 window of a stream and of a connection, as the node's defaults.
pub const STREAM_WINDOW: u32 = 8 << 20;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest HTTP/2 frame, as the node's default.
pub const FRAME_SIZE: u32 = 1 << 20;
/// Largest message.
pub const MESSAGE_SIZE: usize = 4 << 20;
