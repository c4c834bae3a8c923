//! What the background tasks have for the consumer: a queue that one poll at a time empties.
//!
//! Bounded by what its senders may have under way: bytes of records by the credit of their node, one
//! fault a fetch session, one answer of the resolver, one callback of the group, the last trouble of
//! each node. Watermarks that come without records are kept apart, the last of each session.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use conveyor_grpc::ErrorCode;
use conveyor_record::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::decode::Chunk;
use super::group_session::GroupNews;
use super::node_stream::CreditGuard;
use super::resolver::Resolution;
use crate::error::Error;

/// Chosen by the consumer for each start of fetching a partition at some offset; never 0, never used
/// again.
pub(super) type FetchSession = u64;

/// How far a partition's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start_offset: i64,
}

/// One piece of news.
#[derive(Debug)]
pub(super) enum Delivery {
    Records(Box<Fetched>),
    /// The node ended the session.
    Fault {
        session: FetchSession,
        code: ErrorCode,
        message: String,
    },
    Resolved(Vec<Resolution>),
    Group(GroupNews),
    /// The node cannot be reached, or refuses the stream.
    NodeTrouble {
        node: NodeId,
        error: Error,
    },
}

/// Records of one session.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) session: FetchSession,
    pub(super) chunk: Chunk,
    pub(super) watermarks: Watermarks,
    /// Dropped with the chunk: then the node may send as many bytes again.
    pub(super) _credit: CreditGuard,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<VecDeque<Delivery>>,
    watermarks: Mutex<HashMap<FetchSession, Watermarks>>,
    group_news: AtomicBool,
    arrived: Notify,
}

impl Inbox {
    pub(super) fn push(&self, delivery: Delivery) {
        if matches!(delivery, Delivery::Group(_)) {
            self.group_news.store(true, Ordering::Release);
        }
        self.queue.lock().push_back(delivery);
        self.arrived.notify_one();
    }

    /// Replaces the trouble last told of this node, which has not been heard yet.
    pub(super) fn push_trouble(&self, node: NodeId, error: Error) {
        let mut queue = self.queue.lock();
        queue.retain(|delivery| {
            !matches!(delivery, Delivery::NodeTrouble { node: other, .. } if *other == node)
        });
        queue.push_back(Delivery::NodeTrouble { node, error });
        drop(queue);
        self.arrived.notify_one();
    }

    /// Watermarks that moved without records. Wakes nobody: they change no record.
    pub(super) fn set_watermarks(&self, session: FetchSession, watermarks: Watermarks) {
        self.watermarks.lock().insert(session, watermarks);
    }

    pub(super) fn take(&self) -> VecDeque<Delivery> {
        self.group_news.store(false, Ordering::Release);
        std::mem::take(&mut *self.queue.lock())
    }

    pub(super) fn take_watermarks(&self) -> HashMap<FetchSession, Watermarks> {
        std::mem::take(&mut *self.watermarks.lock())
    }

    /// Whether the group waits for an answer.
    pub(super) fn has_group_news(&self) -> bool {
        self.group_news.load(Ordering::Acquire)
    }

    /// Returns once something has arrived since the last return; may return without news.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
