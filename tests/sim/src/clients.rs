//! What uses the cluster: idempotent producers that never give up, and consumers.

pub mod consumer;
pub mod producer;

pub use consumer::Consumer;
pub use producer::Producer;
