//! What a transactional producer may do next, and what an answer means. Pure: no clock, no network.
//!
//! ```text
//! New ──init──> Idle ──begin──> Open ──close──> Closing ──settled──> Ending ──ended──> Idle
//!                                 │ <── a failure is found ──┘           │
//!                                 └───────────── fenced, or refused ─────┴──> Dead
//! ```
//!
//! Rules:
//! - Records and offsets are taken while a transaction is open and nothing of it has failed. After a
//!   failure it can be aborted and in no way committed.
//! - A transaction into which nothing was put ends without a word to anybody.
//! - Once its end has been asked for, only that same end may be asked for again, with the id and
//!   epoch that it had: the coordinator answers a repeated question as the first one.
//! - By the second version of the protocol (KIP-890) every end gives a new epoch, under which the
//!   next transaction is written: nothing of this one can reach it, however late it is.
//! - Who is fenced stays so.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;

use super::super::sequencer::Identity;
use crate::error::{Error, Result, TransactionFault};

/// Milliseconds on a clock that never goes back.
pub(crate) type Millis = u64;

/// Why a transaction, or the producer, cannot go on.
#[derive(Debug, Clone)]
struct Failure {
    fault: TransactionFault,
    code: Option<ErrorCode>,
    reason: String,
}

/// A transaction that takes records.
#[derive(Debug, Clone, Default)]
struct Open {
    /// When something was put into it first; the coordinator's clock starts no earlier.
    used: Option<Millis>,
    /// The first failure.
    failure: Option<Failure>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// It has no id and epoch yet.
    New,
    /// Between transactions.
    Idle,
    Open(Open),
    /// Nothing more is taken; what was taken is on its way.
    Closing {
        commit: bool,
        open: Open,
    },
    /// The end has been asked for and may be decided.
    Ending {
        commit: bool,
        open: Open,
    },
    Dead(Failure),
}

/// One transactional producer.
#[derive(Debug)]
pub(crate) struct Machine {
    transactional_id: Arc<str>,
    /// How long a transaction may be open.
    timeout_ms: Millis,
    identity: Option<Identity>,
    phase: Phase,
}

impl Machine {
    pub(crate) fn new(transactional_id: Arc<str>, timeout_ms: Millis) -> Self {
        Self {
            transactional_id,
            timeout_ms,
            identity: None,
            phase: Phase::New,
        }
    }

    /// Under which id and epoch records are written now.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Whether a transaction has been begun and not ended.
    pub(crate) fn is_in_transaction(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open(_) | Phase::Closing { .. } | Phase::Ending { .. }
        )
    }

    /// Whether an id and epoch may be asked for.
    pub(crate) fn init(&self) -> Result<()> {
        match &self.phase {
            Phase::New => Ok(()),
            Phase::Dead(failure) => Err(self.error("init transactions of", failure)),
            _ => Err(self.misuse("init transactions of", "that has been done")),
        }
    }

    /// Takes the answer to that.
    pub(crate) fn initialised(&mut self, answer: Result<Identity>) -> Result<()> {
        const OPERATION: &str = "init transactions of";
        match answer {
            Ok(identity) => {
                self.identity = Some(identity);
                self.phase = Phase::Idle;
                Ok(())
            }
            Err(error) if error.is_retriable() => Err(error),
            // Nothing has been begun: whoever mends the reason may ask again.
            Err(error) => Err(self.error(OPERATION, &failure(&error, TransactionFault::Fatal))),
        }
    }

    /// Begins a transaction. Nobody is told before something is put into it.
    pub(crate) fn begin(&mut self) -> Result<()> {
        const OPERATION: &str = "begin a transaction of";
        match &self.phase {
            Phase::Idle => {
                self.phase = Phase::Open(Open::default());
                Ok(())
            }
            Phase::New => Err(self.misuse(OPERATION, "init_transactions comes first")),
            Phase::Dead(failure) => Err(self.error(OPERATION, failure)),
            _ => Err(self.misuse(OPERATION, "the one before has not ended")),
        }
    }

    /// Whether something may be put into the transaction.
    pub(crate) fn may_take(&self, operation: &'static str) -> Result<Identity> {
        match (&self.phase, self.identity) {
            (
                Phase::Open(Open {
                    failure: Some(failure),
                    ..
                })
                | Phase::Dead(failure),
                _,
            ) => Err(self.error(operation, failure)),
            (Phase::Open(_), Some(identity)) => Ok(identity),
            (Phase::Closing { .. } | Phase::Ending { .. }, _) => {
                Err(self.misuse(operation, "the transaction is being ended"))
            }
            _ => Err(self.misuse(operation, "no transaction has been begun")),
        }
    }

    /// Something was put into the transaction.
    pub(crate) fn used(&mut self, now: Millis) {
        if let Phase::Open(open) = &mut self.phase {
            open.used.get_or_insert(now);
        }
    }

    /// Something of the transaction is lost: a batch that no retry mends, offsets that are refused.
    pub(crate) fn lost(&mut self, error: &Error, now: Millis) {
        let (Phase::Open(open) | Phase::Closing { open, .. }) = &mut self.phase else {
            return;
        };
        let failure = failure_of(
            error,
            TransactionFault::Abortable,
            open,
            now,
            self.timeout_ms,
        );
        if failure.fault == TransactionFault::Abortable {
            open.failure.get_or_insert(failure);
        } else {
            self.phase = Phase::Dead(failure);
        }
    }

    /// Why nothing of the transaction needs to be sent any more, if that is so.
    pub(crate) fn discards(&self) -> Option<Error> {
        let failure = match &self.phase {
            Phase::Open(open) | Phase::Closing { open, .. } => open.failure.as_ref()?,
            Phase::Dead(failure) => failure,
            Phase::New | Phase::Idle | Phase::Ending { .. } => return None,
        };
        Some(self.error("produce in the transaction of", failure))
    }

    /// Takes nothing more, as the transaction is to be ended. The same once more goes on where the
    /// first call was left.
    pub(crate) fn close(&mut self, commit: bool) -> Result<()> {
        let operation = operation(commit);
        match &self.phase {
            Phase::Open(open) | Phase::Closing { open, .. } => {
                if let (true, Some(failure)) = (commit, &open.failure) {
                    return Err(self.error(operation, failure));
                }
                let mut open = open.clone();
                if !commit {
                    // What is given up from now on cannot be committed any more.
                    open.failure.get_or_insert_with(|| Failure {
                        fault: TransactionFault::Abortable,
                        code: None,
                        reason: "it is being aborted".to_owned(),
                    });
                }
                self.phase = Phase::Closing { commit, open };
                Ok(())
            }
            Phase::Ending { commit: asked, .. } if *asked == commit => Ok(()),
            Phase::Ending { .. } => Err(self.misuse(
                operation,
                "its other end has been asked for and may be decided: ask for that one again",
            )),
            Phase::Dead(failure) => Err(self.error(operation, failure)),
            Phase::New | Phase::Idle => Err(self.misuse(operation, "none has been begun")),
        }
    }

    /// Everything that was taken is in the log or given up. Says with which id and epoch to ask for
    /// the end; `None` when there is nothing to end.
    pub(crate) fn settled(&mut self) -> Result<Option<Identity>> {
        match &self.phase {
            Phase::Closing { commit, open } => {
                let (commit, open) = (*commit, open.clone());
                if let (true, Some(failure)) = (commit, &open.failure) {
                    let error = self.error(operation(commit), failure);
                    self.phase = Phase::Open(open);
                    return Err(error);
                }
                if open.used.is_none() {
                    self.phase = Phase::Idle;
                    return Ok(None);
                }
                self.phase = Phase::Ending { commit, open };
                Ok(self.identity)
            }
            Phase::Ending { .. } => Ok(self.identity),
            Phase::Dead(failure) => Err(self.error("end the transaction of", failure)),
            Phase::New | Phase::Idle | Phase::Open(_) => Ok(None),
        }
    }

    /// Takes the answer to the question for the end. With a retriable error the end may be asked for
    /// again.
    pub(crate) fn ended(&mut self, answer: Result<Identity>, now: Millis) -> Result<()> {
        let Phase::Ending { commit, open } = &self.phase else {
            return Ok(());
        };
        let (commit, mut open) = (*commit, open.clone());
        let error = match answer {
            Ok(identity) => {
                self.identity = Some(identity);
                self.phase = Phase::Idle;
                return Ok(());
            }
            Err(error) if error.is_retriable() => return Err(error),
            Err(error) => error,
        };
        let mut failure = failure_of(&error, TransactionFault::Fatal, &open, now, self.timeout_ms);
        if commit && error.code() == Some(ErrorCode::TransactionAbortable) {
            failure.fault = TransactionFault::Abortable;
            let told = self.error(operation(commit), &failure);
            open.failure = Some(failure);
            self.phase = Phase::Open(open);
            return Err(told);
        }
        if commit {
            failure
                .reason
                .push_str("; whether it was committed is not known");
        }
        let told = self.error(operation(commit), &failure);
        self.phase = Phase::Dead(failure);
        Err(told)
    }

    fn error(&self, operation: &'static str, failure: &Failure) -> Error {
        Error::Transaction {
            operation,
            transactional_id: self.transactional_id.to_string(),
            fault: failure.fault,
            code: failure.code,
            reason: failure.reason.clone(),
        }
    }

    fn misuse(&self, operation: &'static str, reason: &str) -> Error {
        let failure = Failure {
            fault: TransactionFault::Misuse,
            code: None,
            reason: reason.to_owned(),
        };
        self.error(operation, &failure)
    }
}

fn operation(commit: bool) -> &'static str {
    if commit {
        "commit the transaction of"
    } else {
        "abort the transaction of"
    }
}

/// As [`failure`]; who is fenced although nobody else need have come has been too slow.
fn failure_of(
    error: &Error,
    otherwise: TransactionFault,
    open: &Open,
    now: Millis,
    timeout_ms: Millis,
) -> Failure {
    let mut failure = failure(error, otherwise);
    let is_overdue = open
        .used
        .is_some_and(|used| now.saturating_sub(used) >= timeout_ms);
    if failure.fault == TransactionFault::Fenced && is_overdue {
        failure.fault = TransactionFault::TimedOut;
    }
    failure
}

/// What an error that no retry mends does to the transaction or its producer.
fn failure(error: &Error, otherwise: TransactionFault) -> Failure {
    let fault = match error.code() {
        Some(
            ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping,
        ) => TransactionFault::Fenced,
        Some(
            ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidTransactionTimeout
            | ErrorCode::UnsupportedVersion,
        ) => TransactionFault::Fatal,
        _ => match error {
            Error::Transaction { fault, .. } => *fault,
            _ => otherwise,
        },
    };
    Failure {
        fault,
        code: error.code(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
