//! The end of a transaction: decided by one record, carried out by markers, completed by another.
//!
//! By the second version of the protocol (KIP-890) every end raises the epoch, and the epoch is what
//! tells a retry from the next call:
//!
//! | state, V2 | abort, retry | abort, current | commit, retry | commit, current |
//! |---|---|---|---|---|
//! | `Empty` | fenced | new epoch | fenced | `INVALID_TXN_STATE` |
//! | `CompleteAbort` | done | new epoch | `INVALID_TXN_STATE` | `INVALID_TXN_STATE` |
//! | `CompleteCommit` | `INVALID_TXN_STATE` | new epoch | done | `INVALID_TXN_STATE` |
//!
//! By the first version the epoch stays, and a retry is any call with the same direction.

use std::collections::BTreeSet;

use conveyor_record::ProducerId;

use crate::coordinator::{concurrent, fenced};
use crate::{
    Producer, TopicPartition, TransactionCoordinator, TransactionError, TransactionMetadata,
    TransactionState, TransactionVersion, Transition,
};

/// A producer ends its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTxn {
    /// Its transactional id.
    pub transactional_id: String,
    /// Who it is.
    pub producer: Producer,
    /// Commit, or abort.
    pub commit: bool,
    /// The protocol it speaks.
    pub version: TransactionVersion,
}

impl EndTxn {
    /// A commit.
    pub fn commit(
        transactional_id: impl Into<String>,
        producer: Producer,
        version: TransactionVersion,
    ) -> Self {
        Self {
            transactional_id: transactional_id.into(),
            producer,
            commit: true,
            version,
        }
    }

    /// An abort.
    pub fn abort(
        transactional_id: impl Into<String>,
        producer: Producer,
        version: TransactionVersion,
    ) -> Self {
        Self {
            commit: false,
            ..Self::commit(transactional_id, producer, version)
        }
    }

    fn action(&self) -> &'static str {
        if self.commit { "commit" } else { "abort" }
    }
}

/// The answer to [`EndTxn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who the client is for its next transaction; unchanged by the first version.
    pub producer: Producer,
    /// What has to be written now; `None` when this was a retry, or nothing was in the transaction.
    pub markers: Option<WriteMarkers>,
}

/// A command: write the marker to each partition, again and again until it is there, and then
/// [`TransactionCoordinator::complete`]. Writing a marker once more does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteMarkers {
    /// Whose transaction.
    pub transactional_id: String,
    /// Producer id and epoch of the markers.
    pub producer: Producer,
    /// Commit, or abort.
    pub commit: bool,
    /// When it was decided, in ms: by the first version of the protocol the next transaction has the
    /// same producer.
    pub decided_ms: i64,
    /// Where to.
    pub partitions: BTreeSet<TopicPartition>,
}

impl WriteMarkers {
    pub(crate) fn of(transactional_id: &str, decided: &TransactionMetadata) -> Self {
        Self {
            transactional_id: transactional_id.to_owned(),
            producer: decided.producer,
            commit: decided.state == TransactionState::PrepareCommit,
            decided_ms: decided.last_update_ms,
            partitions: decided.partitions.clone(),
        }
    }

    fn are_of(&self, current: &TransactionMetadata) -> bool {
        current.state.is_completing()
            && current.producer == self.producer
            && current.last_update_ms == self.decided_ms
    }
}

impl TransactionCoordinator {
    /// Decides the producer's open transaction. `fresh` is an id that nobody has, if there is one at
    /// hand; it may go unused.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`,
    /// `CONCURRENT_TRANSACTIONS` while it is being completed, `INVALID_TXN_STATE` when it was ended
    /// the other way or never began; [`TransactionError::NeedsProducerId`].
    pub fn end_txn(
        &self,
        now_ms: i64,
        request: &EndTxn,
        fresh: Option<ProducerId>,
    ) -> Result<Transition<Ended>, TransactionError> {
        if request.version.bumps_epoch() {
            self.end_v2(now_ms, request, fresh)
        } else {
            self.end_v1(now_ms, request)
        }
    }

    fn end_v1(&self, now_ms: i64, request: &EndTxn) -> Result<Transition<Ended>, TransactionError> {
        let id = request.transactional_id.as_str();
        let current = self.mapped(id, request.producer)?;
        if request.producer.epoch != current.producer.epoch {
            return Err(fenced(id, request.producer, current.producer));
        }
        match (current.state, request.commit) {
            (TransactionState::Ongoing, _) => {
                let next = TransactionMetadata {
                    state: decided(request.commit),
                    last_update_ms: now_ms,
                    client_version: request.version,
                    ..current.clone()
                };
                Ok(prepared(id, next))
            }
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
                Ok(already_done(current))
            }
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                Err(concurrent(id, current.state))
            }
            _ => Err(wrong_state(request, current)),
        }
    }

    fn end_v2(
        &self,
        now_ms: i64,
        request: &EndTxn,
        fresh: Option<ProducerId>,
    ) -> Result<Transition<Ended>, TransactionError> {
        let id = request.transactional_id.as_str();
        let asked = request.producer;
        if let Some(current) = self
            .transactions
            .get(id)
            .filter(|current| is_retry_on_overflow(asked, current))
        {
            return retried(request, current);
        }
        let current = self.mapped(id, asked)?;
        let is_current = asked.epoch == current.producer.epoch;
        // After a fence by the coordinator nobody's retry is good: the last epoch is none.
        let is_retry = asked.epoch == current.last_producer_epoch
            && asked.next_epoch() == Some(current.producer);
        match current.state {
            TransactionState::Ongoing if is_current => bumped(now_ms, request, current, fresh),
            TransactionState::PrepareCommit | TransactionState::PrepareAbort if is_retry => {
                if decided(request.commit) == current.state {
                    Err(concurrent(id, current.state))
                } else {
                    Err(wrong_state(request, current))
                }
            }
            TransactionState::CompleteCommit | TransactionState::CompleteAbort if is_retry => {
                retried(request, current)
            }
            // The next transaction ends, without a record, before the one before is complete. Kafka
            // calls it fenced; clients that come again do better.
            state if state.is_completing() && is_current => Err(concurrent(id, state)),
            state if state.is_idle() && is_current => {
                if request.commit {
                    Err(wrong_state(request, current))
                } else {
                    // Nothing was added; records may still have been on their way, so that the
                    // epoch goes up as ever.
                    bumped(now_ms, request, current, fresh)
                }
            }
            _ => Err(fenced(id, asked, current.producer)),
        }
    }

    /// Takes note that all markers are written. Changes nothing when that very transaction is no
    /// longer being completed.
    pub fn complete(&self, now_ms: i64, markers: &WriteMarkers) -> Transition<bool> {
        let id = markers.transactional_id.as_str();
        match self.transactions.get(id) {
            Some(current) if markers.are_of(current) => {
                Transition::to(id, current.completed(now_ms), true)
            }
            _ => Transition::unchanged(false),
        }
    }

    /// Aborts the open transaction of an id and takes its epoch away, as an administrator asks:
    /// whoever holds the id has to start again.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`, `CONCURRENT_TRANSACTIONS` while it is being completed,
    /// `INVALID_TXN_STATE` without an open transaction.
    pub fn abort_by_force(
        &self,
        now_ms: i64,
        transactional_id: &str,
    ) -> Result<Transition<WriteMarkers>, TransactionError> {
        let current = self.describe(transactional_id)?;
        match current.state {
            TransactionState::Ongoing => {
                let next = current.fenced(now_ms);
                let markers = WriteMarkers::of(transactional_id, &next);
                Ok(Transition::to(transactional_id, next, markers))
            }
            state if state.is_completing() => Err(concurrent(transactional_id, state)),
            state => Err(TransactionError::InvalidTxnState {
                transactional_id: transactional_id.to_owned(),
                action: "abort",
                state,
            }),
        }
    }
}

/// The decision by the second version: the epoch goes up with it.
fn bumped(
    now_ms: i64,
    request: &EndTxn,
    current: &TransactionMetadata,
    fresh: Option<ProducerId>,
) -> Result<Transition<Ended>, TransactionError> {
    let mut next = TransactionMetadata {
        state: decided(request.commit),
        last_producer_epoch: current.producer.epoch,
        last_update_ms: now_ms,
        client_version: request.version,
        ..current.clone()
    };
    if let Some(producer) = current.producer.next_epoch() {
        next.producer = producer;
    }
    if current.producer.is_exhausted() {
        next.next_producer_id = fresh.ok_or(TransactionError::NeedsProducerId)?;
    }
    if current.state != TransactionState::Ongoing {
        next.start_ms = now_ms;
        next.partitions.clear();
    }
    Ok(prepared(&request.transactional_id, next))
}

const fn decided(commit: bool) -> TransactionState {
    if commit {
        TransactionState::PrepareCommit
    } else {
        TransactionState::PrepareAbort
    }
}

/// Whether the client retries an end that has replaced its producer id.
fn is_retry_on_overflow(asked: Producer, current: &TransactionMetadata) -> bool {
    asked.id == current.previous_producer_id
        && asked.is_exhausted()
        && asked.epoch == current.last_producer_epoch
        && current.producer.epoch.value() == 0
}

fn retried(
    request: &EndTxn,
    current: &TransactionMetadata,
) -> Result<Transition<Ended>, TransactionError> {
    match (current.state, request.commit) {
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
            Ok(already_done(current))
        }
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, _) => {
            Err(wrong_state(request, current))
        }
        _ => Err(fenced(
            &request.transactional_id,
            request.producer,
            current.producer,
        )),
    }
}

fn prepared(transactional_id: &str, next: TransactionMetadata) -> Transition<Ended> {
    let response = Ended {
        producer: next.producer_after(),
        markers: Some(WriteMarkers::of(transactional_id, &next)),
    };
    Transition::to(transactional_id, next, response)
}

fn already_done(current: &TransactionMetadata) -> Transition<Ended> {
    Transition::unchanged(Ended {
        producer: current.producer,
        markers: None,
    })
}

fn wrong_state(request: &EndTxn, current: &TransactionMetadata) -> TransactionError {
    TransactionError::InvalidTxnState {
        transactional_id: request.transactional_id.clone(),
        action: request.action(),
        state: current.state,
    }
}
