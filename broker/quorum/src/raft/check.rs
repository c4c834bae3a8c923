//! What a message must fulfil before raft-rs sees it.
//!
//! raft-rs trusts its peers: it panics when a leader's heartbeat commits more than the log holds,
//! when a follower's hint lies beyond the leader's log, when entries have gaps, when a snapshot's
//! members contradict each other, and a term close to the largest number overflows. In a sound
//! cluster none of this happens; it does when a disk lost what it had synced, or when a program that
//! is not ours connects. Such a message is refused with what is wrong with it.

use raft::{Raft, StateRole};

use super::log_view::LogView;
use crate::consensus::StepError;
use crate::entry::{ENTRY_BYTES_MAX, Entry, LogPosition};
use crate::message::{Body, Message};

/// Far above any real term or index, far below overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be stepped.
    Take,
    /// It was overtaken by a later one of the same sender and says nothing new.
    Stale,
}

/// Looks at a message in the light of the node's state.
pub(super) fn check(raft: &Raft<LogView>, message: &Message) -> Result<Verdict, StepError> {
    let refuse = |why| {
        Err(StepError::Inconsistent {
            from: message.from,
            what: name(&message.body),
            why,
        })
    };
    if message.from.0 == 0 || message.from.0 == raft.id {
        return refuse("nobody else has that voter id");
    }
    if message.term == 0 || message.term > NUMBER_MAX {
        return refuse("its term is out of range");
    }
    let current = message.term >= raft.term;
    let leads = raft.state == StateRole::Leader && message.term == raft.term;
    let last = raft.raft_log.last_index();
    match &message.body {
        Body::Append {
            previous, entries, ..
        } => {
            if let Err(why) = check_entries(message.term, *previous, entries) {
                return refuse(why);
            }
            let committed = raft.raft_log.committed;
            let committed_term = raft.raft_log.term(committed).unwrap_or(0);
            if current && previous.index >= committed && previous.term < committed_term {
                return refuse("it puts an older term behind an entry that is committed here");
            }
        }
        Body::Heartbeat { commit, .. } => {
            if current && *commit > last {
                return refuse(
                    "it commits entries that this node has acknowledged and does not have; \
                     has its disk lost data?",
                );
            }
        }
        Body::Accepted { index } => {
            if leads && *index > last {
                return refuse("it acknowledges entries that this leader does not have");
            }
        }
        Body::Rejected { index, hint } => {
            if !leads {
                return Ok(Verdict::Take);
            }
            if *index > last || hint.index > *index {
                return refuse("it names entries that this leader does not have");
            }
            let matched = raft.prs().get(message.from.0).map_or(0, |pr| pr.matched);
            if hint.index < matched {
                // Also keeps raft-rs 0.7.0 from going back to before what has matched.
                return Ok(Verdict::Stale);
            }
        }
        Body::Snapshot(snapshot) => {
            if let Err(why) = check_position(message.term, snapshot.last) {
                return refuse(why);
            }
            if snapshot.last.index == 0 {
                return refuse("it stands for nothing");
            }
        }
        Body::VoteRequest { last, .. } => {
            if let Err(why) = check_position(message.term, *last) {
                return refuse(why);
            }
        }
        Body::Vote { .. } | Body::HeartbeatReply { .. } | Body::CampaignNow => {}
    }
    Ok(Verdict::Take)
}

fn check_position(term: u64, position: LogPosition) -> Result<(), &'static str> {
    if position.index > NUMBER_MAX {
        return Err("its index is out of range");
    }
    if position.term > term {
        return Err("its log is of a later term than itself");
    }
    if (position.term == 0) != (position.index == 0) {
        return Err("only the beginning of the log has no term");
    }
    Ok(())
}

fn check_entries(term: u64, previous: LogPosition, entries: &[Entry]) -> Result<(), &'static str> {
    check_position(term, previous)?;
    let mut before = previous;
    for entry in entries {
        if entry.index != before.index + 1 {
            return Err("its entries do not follow one another");
        }
        if entry.term < before.term || entry.term > term || entry.term == 0 {
            return Err("the terms of its entries go back or beyond its own");
        }
        if entry.data.len() > ENTRY_BYTES_MAX {
            return Err("one of its entries is larger than an entry may be");
        }
        before = LogPosition {
            term: entry.term,
            index: entry.index,
        };
    }
    Ok(())
}

fn name(body: &Body) -> &'static str {
    match body {
        Body::Append { .. } => "entries",
        Body::Accepted { .. } => "acknowledgement",
        Body::Rejected { .. } => "rejection",
        Body::VoteRequest { .. } => "vote request",
        Body::Vote { .. } => "vote",
        Body::Heartbeat { .. } => "heartbeat",
        Body::HeartbeatReply { .. } => "heartbeat reply",
        Body::Snapshot(_) => "snapshot",
        Body::CampaignNow => "request to campaign",
    }
}
