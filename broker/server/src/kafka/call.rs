//! Who asks by Kafka's protocol: a connection, and one request on it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use conveyor_grpc::ErrorCode;

use super::authentication::Authentication;
use crate::listener::kafka::ListenerInfo;
use crate::request::{Call, Caller, Principal};

/// What is remembered of a connection between its requests.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) listener: Arc<ListenerInfo>,
    /// The address that the client has reached.
    pub(super) local: SocketAddr,
    pub(super) caller: Caller,
    pub(super) authentication: Authentication,
}

impl Session {
    /// A connection that was just made: nobody is known yet, nor will be on a listener without
    /// authentication.
    pub(crate) fn new(listener: Arc<ListenerInfo>, local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            authentication: Authentication::new(&listener.mechanisms),
            listener,
            local,
            caller: Caller::new(Principal::anonymous(), "", Some(peer)),
        }
    }
}

/// One request. Dereferences to the gate's [`Call`]: principal, client id, peer, authorizer, quotas,
/// metrics.
#[derive(Debug)]
pub(crate) struct KafkaCall {
    pub(super) call: Call,
    /// Version of request and response.
    pub(crate) version: i16,
    /// The listener that the client has come by.
    pub(crate) listener: Arc<ListenerInfo>,
    /// The address that it has reached there.
    pub(crate) local: SocketAddr,
}

impl KafkaCall {
    /// Host and port of this node for clients of this listener.
    pub(crate) fn endpoint(&self) -> (String, u16) {
        self.listener.endpoint(self.local)
    }

    /// Counts the outcome of an item and gives the number for the response.
    pub(crate) fn code(&self, code: ErrorCode) -> i16 {
        self.call.outcome(code);
        code.code() as i16
    }
}

impl Deref for KafkaCall {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}
