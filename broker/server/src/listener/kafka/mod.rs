//! The listeners for Kafka's protocol: sockets, frames, order.
//!
//! One task serves a connection. It reads frames, has them handled one after the other by
//! [`crate::kafka`], and writes the replies in the order of the requests; only a produced batch that
//! waits to become durable lets the next request be read meanwhile. What requests mean is not known
//! here.
//!
//! What bounds a connection: `socket.request.max.bytes` a frame, `queued.max.request.bytes` all large
//! frames of the node, which must come at some [`pace`] while others wait for the memory,
//! [`connection::PENDING_MAX`] requests that wait for the disk, and nothing is read
//! while the client does not take its replies.

mod accept;
mod bound;
mod connection;
mod inbound;
mod outbound;
mod pace;

pub(crate) use accept::serve;
pub(crate) use bound::{BoundListener, ListenerInfo, bind};
