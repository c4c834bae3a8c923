//! From a frame to its answer: header, version, handler, reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conveyor_kafka::{ApiKey, DecodeError, EncodeError, Gather, Input, RequestHeader};
use thiserror::Error;

use super::apis::{self, ApiRow};
use super::fetch_session::FetchSessions;
use super::produce::{self, PendingProduce};
use super::{KafkaCall, Session, api_versions, sasl};
use crate::coordinator::GroupHost;
use crate::node::Node;
use crate::transaction::TransactionHost;

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct KafkaService {
    pub(super) node: Arc<Node>,
    pub(super) groups: Arc<GroupHost>,
    pub(super) transactions: Arc<TransactionHost>,
    pub(super) fetch_sessions: FetchSessions,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is answered.
    Reply {
        /// The frame.
        reply: Gather,
        /// How long to read nothing more of this client.
        mute: Duration,
    },
    /// It will be answered (or found done, without acknowledgement), and the next request may be
    /// handled meanwhile.
    Produce {
        /// The answer to come.
        pending: PendingProduce,
        /// How long to read nothing more of this client.
        mute: Duration,
    },
}

/// A request for which the connection is closed.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// Its header is not one.
    #[error("request header: {0}")]
    Header(#[source] DecodeError),
    /// Its API is not served.
    #[error("{key} is not served")]
    NotServed {
        /// The API.
        key: ApiKey,
    },
    /// The client has not proved who it is.
    #[error("{key} before authentication")]
    Unauthenticated {
        /// The API.
        key: ApiKey,
    },
    /// Its version is not served.
    #[error("{key} version {version} is not served, only {lowest} to {highest}")]
    UnsupportedVersion {
        /// The API.
        key: ApiKey,
        /// The version asked for.
        version: i16,
        /// The lowest served.
        lowest: i16,
        /// The highest served.
        highest: i16,
    },
    /// Its bytes are not what its header says.
    #[error("{key} version {version}: {source}")]
    Malformed {
        /// The API.
        key: ApiKey,
        /// The version.
        version: i16,
        /// What is wrong.
        source: DecodeError,
    },
    /// The response cannot be written in this version.
    #[error("the response to {key} version {version} is not written: {source}")]
    NotEncoded {
        /// The API.
        key: ApiKey,
        /// The version.
        version: i16,
        /// Why.
        source: EncodeError,
    },
    /// A batch without acknowledgement was refused: closing is the only way to tell.
    #[error("a batch produced without acknowledgement is refused: {reason}")]
    Unacknowledged {
        /// Why.
        reason: String,
    },
}

impl KafkaService {
    pub(crate) fn new(
        node: Arc<Node>,
        groups: Arc<GroupHost>,
        transactions: Arc<TransactionHost>,
    ) -> Arc<Self> {
        Arc::new(Self {
            fetch_sessions: FetchSessions::new(node.config.fetch_sessions_max),
            node,
            groups,
            transactions,
        })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Handles one request; returns its answer, or for Produce that its batches are queued.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        session: &mut Session,
        frame: Bytes,
    ) -> Result<Answer, RequestError> {
        let mut input = Input::new(frame);
        let header = RequestHeader::decode(&mut input).map_err(RequestError::Header)?;
        let key = header.api_key;
        let row = apis::row(key).ok_or(RequestError::NotServed { key })?;
        if !session.authentication.admits(key) {
            return Err(RequestError::Unauthenticated { key });
        }
        session
            .caller
            .rename(header.client_id.as_deref().unwrap_or_default());
        if !row.versions.contains(&header.api_version) {
            return unsupported(row, &header);
        }
        let call = KafkaCall {
            call: self.node.gate.call(row.api, session.caller.clone()),
            version: header.api_version,
            listener: Arc::clone(&session.listener),
            local: session.local,
        };
        let correlation_id = header.correlation_id;
        // Its texts would keep the frame.
        drop(header);
        let reply = match key {
            ApiKey::Produce => {
                let request = apis::decode(&call, key, input)?;
                return Box::pin(produce::produce(self, call, correlation_id, request)).await;
            }
            ApiKey::SaslHandshake => {
                let request = apis::decode(&call, key, input)?;
                let response = sasl::handshake(session, &call, &request);
                apis::encode(&call, key, correlation_id, &response)?
            }
            ApiKey::SaslAuthenticate => {
                let request = apis::decode(&call, key, input)?;
                let response = sasl::authenticate(session, &call, &request);
                apis::encode(&call, key, correlation_id, &response)?
            }
            _ => apis::answer(self, &call, key, correlation_id, input).await?,
        };
        Ok(Answer::Reply {
            reply,
            mute: call.throttled(),
        })
    }
}

/// A version that is not served. Only `ApiVersions` is answered, in the layout that every client
/// knows, with the versions to try again with.
fn unsupported(row: &ApiRow, header: &RequestHeader) -> Result<Answer, RequestError> {
    let (key, version) = (row.key, header.api_version);
    if key != ApiKey::ApiVersions {
        return Err(RequestError::UnsupportedVersion {
            key,
            version,
            lowest: *row.versions.start(),
            highest: *row.versions.end(),
        });
    }
    let response = api_versions::unsupported();
    let reply = conveyor_kafka::frame::response_frame(key, 0, header.correlation_id, &response);
    let reply = reply.map_err(|source| RequestError::NotEncoded {
        key,
        version: 0,
        source,
    })?;
    Ok(Answer::Reply {
        reply,
        mute: Duration::ZERO,
    })
}
