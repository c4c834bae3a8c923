//! Our words and raft-rs's words for the same things.

use std::collections::BTreeSet;

use bytes::Bytes;
use conveyor_record::fields::DecodeError;
use raft::eraftpb::{
    self, ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, EntryType, MessageType,
};
use uuid::Uuid;

use crate::entry::{Entry, EntryKind, LogPosition, Snapshot};
use crate::membership::{Membership, MembershipChange, VoterId};
use crate::message::{Body, Message};

/// raft-rs marks votes that need not wait for the leader's silence by these words.
const BY_TRANSFER: &[u8] = b"CampaignTransfer";

fn raw(ids: &BTreeSet<VoterId>) -> Vec<u64> {
    ids.iter().map(|id| id.0).collect()
}

pub(super) fn conf_state(membership: &Membership) -> ConfState {
    ConfState {
        voters: raw(&membership.voters),
        learners: raw(&membership.learners),
        voters_outgoing: raw(&membership.outgoing),
        learners_next: raw(&membership.learners_next),
        auto_leave: membership.is_joint(),
    }
}

pub(super) fn conf_change(change: &MembershipChange) -> ConfChangeV2 {
    let of = |id: VoterId, change_type| ConfChangeSingle {
        change_type,
        node_id: id.0,
    };
    let removed = change.removed.iter();
    let mut changes: Vec<_> = removed
        .map(|id| of(*id, ConfChangeType::RemoveNode))
        .collect();
    changes.extend(change.promoted.map(|id| of(id, ConfChangeType::AddNode)));
    let added = change.added.as_ref();
    changes.extend(added.map(|(id, _)| of(*id, ConfChangeType::AddLearnerNode)));
    ConfChangeV2 {
        changes,
        context: change.encode().into(),
        ..ConfChangeV2::default()
    }
}

pub(super) fn to_raft_entry(entry: &Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Data => EntryType::EntryNormal,
            EntryKind::Membership => EntryType::EntryConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data.clone(),
        ..eraftpb::Entry::default()
    }
}

pub(super) fn from_raft_entry(entry: eraftpb::Entry) -> Entry {
    Entry {
        index: entry.index,
        term: entry.term,
        kind: match entry.entry_type {
            EntryType::EntryNormal => EntryKind::Data,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
        },
        data: entry.data,
    }
}

/// The members travel in front of the state, since raft-rs knows ids only.
pub(super) fn to_raft_snapshot(snapshot: &Snapshot) -> eraftpb::Snapshot {
    let members = snapshot.membership.encode();
    let mut data = Vec::with_capacity(4 + members.len() + snapshot.data.len());
    data.extend_from_slice(&(members.len() as u32).to_be_bytes());
    data.extend_from_slice(&members);
    data.extend_from_slice(&snapshot.data);
    eraftpb::Snapshot {
        data: data.into(),
        metadata: eraftpb::SnapshotMetadata {
            conf_state: conf_state(&snapshot.membership),
            index: snapshot.last.index,
            term: snapshot.last.term,
        },
    }
}

pub(super) fn from_raft_snapshot(snapshot: &eraftpb::Snapshot) -> Result<Snapshot, DecodeError> {
    let cut = DecodeError::Invalid {
        field: "snapshot",
        reason: "fewer bytes than its members need",
    };
    let (length, rest) = snapshot
        .data
        .split_first_chunk()
        .ok_or_else(|| cut.clone())?;
    let (members, _) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or(cut)?;
    Ok(Snapshot {
        last: LogPosition {
            term: snapshot.metadata.term,
            index: snapshot.metadata.index,
        },
        membership: Membership::decode(members)?,
        data: snapshot.data.slice(length.len() + members.len()..),
    })
}

fn read_round(context: &[u8]) -> u64 {
    context.try_into().map_or(0, u64::from_be_bytes)
}

fn read_context(round: u64) -> Bytes {
    match round {
        0 => Bytes::new(),
        _ => Bytes::copy_from_slice(&round.to_be_bytes()),
    }
}

/// A message that raft-rs wants to send; `None` for kinds that never leave a node of ours: proposals
/// and reads are not forwarded.
pub(super) fn from_raft(cluster_id: Uuid, message: eraftpb::Message) -> Option<Message> {
    let position = LogPosition {
        term: message.log_term,
        index: message.index,
    };
    let body = match message.msg_type {
        MessageType::MsgAppend => Body::Append {
            previous: position,
            commit: message.commit,
            entries: message.entries.into_iter().map(from_raft_entry).collect(),
        },
        MessageType::MsgAppendResponse if message.reject => Body::Rejected {
            index: message.index,
            hint: LogPosition {
                term: message.log_term,
                index: message.reject_hint,
            },
        },
        MessageType::MsgAppendResponse => Body::Accepted {
            index: message.index,
        },
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            Body::VoteRequest {
                pre_vote: kind == MessageType::MsgRequestPreVote,
                by_transfer: message.context == BY_TRANSFER,
                last: position,
            }
        }
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            Body::Vote {
                pre_vote: kind == MessageType::MsgRequestPreVoteResponse,
                granted: !message.reject,
            }
        }
        MessageType::MsgHeartbeat => Body::Heartbeat {
            commit: message.commit,
            read_round: read_round(&message.context),
        },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply {
            read_round: read_round(&message.context),
        },
        MessageType::MsgSnapshot => Body::Snapshot(from_raft_snapshot(&message.snapshot).ok()?),
        MessageType::MsgTimeoutNow => Body::CampaignNow,
        _ => return None,
    };
    Some(Message {
        cluster_id,
        from: VoterId(message.from),
        to: VoterId(message.to),
        term: message.term,
        body,
    })
}

pub(super) fn to_raft(message: Message) -> eraftpb::Message {
    let mut raft = eraftpb::Message {
        from: message.from.0,
        to: message.to.0,
        term: message.term,
        ..eraftpb::Message::default()
    };
    match message.body {
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            raft.msg_type = MessageType::MsgAppend;
            (raft.log_term, raft.index) = (previous.term, previous.index);
            raft.commit = commit;
            raft.entries = entries.iter().map(to_raft_entry).collect();
        }
        Body::Accepted { index } => {
            raft.msg_type = MessageType::MsgAppendResponse;
            raft.index = index;
        }
        Body::Rejected { index, hint } => {
            raft.msg_type = MessageType::MsgAppendResponse;
            raft.reject = true;
            raft.index = index;
            (raft.log_term, raft.reject_hint) = (hint.term, hint.index);
        }
        Body::VoteRequest {
            pre_vote,
            by_transfer,
            last,
        } => {
            raft.msg_type = if pre_vote {
                MessageType::MsgRequestPreVote
            } else {
                MessageType::MsgRequestVote
            };
            (raft.log_term, raft.index) = (last.term, last.index);
            if by_transfer {
                raft.context = Bytes::from_static(BY_TRANSFER);
            }
        }
        Body::Vote { pre_vote, granted } => {
            raft.msg_type = if pre_vote {
                MessageType::MsgRequestPreVoteResponse
            } else {
                MessageType::MsgRequestVoteResponse
            };
            raft.reject = !granted;
        }
        Body::Heartbeat { commit, read_round } => {
            raft.msg_type = MessageType::MsgHeartbeat;
            raft.commit = commit;
            raft.context = read_context(read_round);
        }
        Body::HeartbeatReply { read_round } => {
            raft.msg_type = MessageType::MsgHeartbeatResponse;
            raft.context = read_context(read_round);
        }
        Body::Snapshot(snapshot) => {
            raft.msg_type = MessageType::MsgSnapshot;
            raft.snapshot = to_raft_snapshot(&snapshot);
        }
        Body::CampaignNow => raft.msg_type = MessageType::MsgTimeoutNow,
    }
    raft
}
