//! What administration does, whichever protocol asks for it: authorize, let the controller decide,
//! make the node follow.
//!
//! The handlers of gRPC and of Kafka's protocol translate to and from these functions; they know
//! messages, these do not.

pub(crate) mod configs;
pub(crate) mod quotas;
pub(crate) mod topics;

pub(crate) use topics::ensure_topic;
