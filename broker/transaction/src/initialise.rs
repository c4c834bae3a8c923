//! `InitProducerId`: a producer starts, or goes on after an error.
//!
//! A producer that starts takes the id over: its epoch is one higher, so that whoever had the id
//! before is fenced, and a transaction that was left open is aborted first. A producer that goes on
//! (KIP-360) names the id and epoch it has; its retry finds the epoch that it was given.

use conveyor_record::{ProducerEpoch, ProducerId};

use crate::coordinator::{check_id, concurrent, fenced};
use crate::end::WriteMarkers;
use crate::{
    Producer, TransactionCoordinator, TransactionError, TransactionMetadata, TransactionState,
    Transition,
};

/// A producer asks for an id and an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerId {
    /// Its transactional id.
    pub transactional_id: String,
    /// How long its transactions may be open, in ms.
    pub timeout_ms: i32,
    /// What it has, when it goes on after an error.
    pub expected: Option<Producer>,
}

impl InitProducerId {
    /// A producer that starts.
    pub fn new(transactional_id: impl Into<String>, timeout_ms: i32) -> Self {
        Self {
            transactional_id: transactional_id.into(),
            timeout_ms,
            expected: None,
        }
    }
}

/// What a producer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initialised {
    /// It may begin transactions.
    Ready(Producer),
    /// The transaction it found open is aborted: these markers are to be written, and the producer
    /// is to ask again (`CONCURRENT_TRANSACTIONS`).
    Aborting(WriteMarkers),
}

impl TransactionCoordinator {
    /// Gives a producer its id and epoch. `fresh` is an id that nobody has, if there is one at
    /// hand; it may go unused.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `INVALID_TRANSACTION_TIMEOUT`, `PRODUCER_FENCED`,
    /// `CONCURRENT_TRANSACTIONS`; [`TransactionError::NeedsProducerId`] when a fresh id is needed.
    pub fn init_producer_id(
        &self,
        now_ms: i64,
        request: &InitProducerId,
        fresh: Option<ProducerId>,
    ) -> Result<Transition<Initialised>, TransactionError> {
        let id = request.transactional_id.as_str();
        check_id(id)?;
        let max_ms = self.config.max_timeout_ms;
        if !(1..=max_ms).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTransactionTimeout {
                timeout_ms: request.timeout_ms,
                max_ms,
            });
        }
        let Some(current) = self.transactions.get(id) else {
            let fresh = fresh.ok_or(TransactionError::NeedsProducerId)?;
            let first = TransactionMetadata::new(fresh, request.timeout_ms, now_ms);
            return Ok(ready(id, first));
        };
        check_expected(request, current)?;
        match current.state {
            state if state.is_completing() => Err(concurrent(id, state)),
            TransactionState::Ongoing => {
                if let Some(expected) = request.expected.filter(|e| *e != current.producer) {
                    // Who writes has its epoch; a late copy of the request that gave it that one
                    // must not abort what it writes.
                    return Err(fenced(id, expected, current.producer));
                }
                let next = current.fenced(now_ms);
                let markers = WriteMarkers::of(id, &next);
                Ok(Transition::to(id, next, Initialised::Aborting(markers)))
            }
            _ => {
                let next = reinitialised(now_ms, request, current, fresh)?;
                Ok(ready(id, next))
            }
        }
    }
}

/// Refuses a producer that names an id or epoch which it cannot have.
fn check_expected(
    request: &InitProducerId,
    current: &TransactionMetadata,
) -> Result<(), TransactionError> {
    let Some(expected) = request.expected else {
        return Ok(());
    };
    let is_own = expected == current.producer;
    let is_retry = if expected.id == current.producer.id {
        expected.epoch == current.last_producer_epoch
    } else {
        expected.id == current.previous_producer_id
            && expected.is_exhausted()
            && expected.epoch == current.last_producer_epoch
    };
    // While a transaction is completing, its own producer may ask early; the epoch that counts in
    // the end is looked at when it asks again.
    let is_early = current.state.is_completing() && expected.id == current.producer.id;
    if is_own || is_early || (is_retry && expected.epoch.is_some()) {
        Ok(())
    } else {
        Err(fenced(
            &request.transactional_id,
            expected,
            current.producer,
        ))
    }
}

fn reinitialised(
    now_ms: i64,
    request: &InitProducerId,
    current: &TransactionMetadata,
    fresh: Option<ProducerId>,
) -> Result<TransactionMetadata, TransactionError> {
    let mut next = TransactionMetadata {
        timeout_ms: request.timeout_ms,
        state: TransactionState::Empty,
        start_ms: -1,
        last_update_ms: now_ms,
        ..current.clone()
    };
    next.partitions.clear();
    if request
        .expected
        .is_some_and(|expected| expected != current.producer)
    {
        // A retry: the epoch it asks for has been given out already.
        return Ok(next);
    }
    next.last_producer_epoch = match request.expected {
        Some(expected) => expected.epoch,
        None => ProducerEpoch::NONE,
    };
    match current.producer.next_epoch() {
        Some(producer) if !current.producer.is_exhausted() => next.producer = producer,
        _ => {
            next.previous_producer_id = current.producer.id;
            next.producer = Producer {
                id: fresh.ok_or(TransactionError::NeedsProducerId)?,
                epoch: ProducerEpoch(0),
            };
        }
    }
    Ok(next)
}

fn ready(transactional_id: &str, next: TransactionMetadata) -> Transition<Initialised> {
    let response = Initialised::Ready(next.producer);
    Transition::to(transactional_id, next, response)
}
