//! Answers that wait: who gets them, by ticket.
//!
//! A coordinator that cannot answer yet (a member joins, and others have still to) keeps the ticket
//! of the request and names it when the answer is there. The callers wait here.

use std::collections::BTreeMap;

use conveyor_grpc::ErrorCode;
use tokio::sync::oneshot;

use super::machine::Ticket;
use crate::node::Refusal;

/// Answers that may wait in one shard. Each is a request that a connection waits for; more than
/// this are refused.
const WAITING_MAX: usize = 100_000;

/// Whoever waits for an answer.
pub(super) type Waiting<R> = oneshot::Sender<Result<R, Refusal>>;

/// The callers that wait in one shard.
#[derive(Debug)]
pub(super) struct LateReplies<R> {
    last: u64,
    waiting: BTreeMap<Ticket, Waiting<R>>,
}

impl<R> Default for LateReplies<R> {
    fn default() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
        }
    }
}

impl<R> LateReplies<R> {
    /// Lets a caller wait; `None`, and the caller is refused, when too many do.
    pub(super) fn wait(&mut self, caller: Waiting<R>) -> Option<Ticket> {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.retain(|_, waiting| !waiting.is_closed());
        }
        if self.waiting.len() >= WAITING_MAX {
            let message = format!("{WAITING_MAX} requests wait already: try again");
            let refusal = Refusal::new(ErrorCode::CoordinatorNotAvailable, message);
            drop(caller.send(Err(refusal)));
            return None;
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.insert(ticket, caller);
        Some(ticket)
    }

    /// Takes the callers of some answers out.
    pub(super) fn take(&mut self, replies: Vec<(Ticket, R)>) -> Vec<(Waiting<R>, R)> {
        replies
            .into_iter()
            .filter_map(|(ticket, reply)| Some((self.waiting.remove(&ticket)?, reply)))
            .collect()
    }

    /// Refuses everybody.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for (_, caller) in std::mem::take(&mut self.waiting) {
            drop(caller.send(Err(refusal.clone())));
        }
    }
}
