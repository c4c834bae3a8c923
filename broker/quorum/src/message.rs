//! What the members say to each other, and its bytes.
//!
//! The format is our own and bounded: no length is believed before its bytes are there, numbers are
//! never negative, and a message that was damaged on its way is refused by its checksum. Whether
//! what it says fits the state of the node that gets it is another question: see `raft/check.rs`.
//!
//! ```text
//! version int16 = 0 | cluster id uuid | from int64 | to int64 | term int64 | kind int8 | body | crc32
//!
//! 1 append:          previous index, previous term, commit int64
//!                    | entries: count int32, each: term int64, kind int8, data bytes
//! 2 accepted:        index int64
//! 3 rejected:        index, hint index, hint term int64
//! 4 vote request:    flags int8 (1 = pre-vote, 2 = by transfer) | last index, last term int64
//! 5 vote:            flags int8 (1 = pre-vote, 2 = granted)
//! 6 heartbeat:       commit int64 | read round int64
//! 7 heartbeat reply: read round int64
//! 8 snapshot:        index, term int64 | membership bytes | data bytes
//! 9 campaign now:    nothing
//! ```
//! `bytes` are an int32 length and as many bytes; all numbers are big-endian. The checksum is
//! CRC-32 over everything before it.

use bytes::Bytes;
use conveyor_record::fields::{DecodeError, Reader, Writer};
use uuid::Uuid;

use crate::entry::{ENTRY_BYTES_MAX, Entry, EntryKind, LogPosition, SNAPSHOT_BYTES_MAX, Snapshot};
use crate::membership::{Membership, VoterId, check_version, number};

const VERSION: i16 = 0;
const CRC_BYTES: usize = 4;
/// Term, kind and length of an entry.
const ENTRY_BYTES_MIN: usize = 13;

/// A message from one member to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The cluster that both must belong to.
    pub cluster_id: Uuid,
    /// Who says it.
    pub from: VoterId,
    /// To whom.
    pub to: VoterId,
    /// The sender's term; of a pre-vote, the term it would campaign in.
    pub term: u64,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The leader's entries that follow a position.
    Append {
        /// The entry before the first one here.
        previous: LogPosition,
        /// Up to where the leader has committed.
        commit: u64,
        /// The entries, without a gap.
        entries: Vec<Entry>,
    },
    /// The log agrees with the leader's and is synced up to here. Index 0 tells a stale leader of a
    /// newer term.
    Accepted {
        /// The last entry that is known to agree.
        index: u64,
    },
    /// The entry before the leader's entries is not in the log.
    Rejected {
        /// The index of that entry.
        index: u64,
        /// Where the logs may agree.
        hint: LogPosition,
    },
    /// A candidate asks for a vote.
    VoteRequest {
        /// Only asks whether it would get the vote.
        pre_vote: bool,
        /// The leader has asked it to campaign, so that there is no need to wait for its silence.
        by_transfer: bool,
        /// The candidate's last entry.
        last: LogPosition,
    },
    /// The answer.
    Vote {
        /// To a pre-vote.
        pre_vote: bool,
        /// Whether the candidate gets it.
        granted: bool,
    },
    /// The leader is there.
    Heartbeat {
        /// Up to where the leader has committed, as far as the receiver has the log.
        commit: u64,
        /// The round of reads that the answer confirms, 0 for none.
        read_round: u64,
    },
    /// The answer.
    HeartbeatReply {
        /// As in the heartbeat.
        read_round: u64,
    },
    /// The state, because the log does not reach back far enough.
    Snapshot(Snapshot),
    /// The receiver is to campaign at once: the leader goes.
    CampaignNow,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It was damaged on its way.
    #[error("quorum message of {size} bytes fails its checksum")]
    Checksum {
        /// Its size.
        size: usize,
    },
    /// It does not follow the format.
    #[error("quorum message makes no sense: {0}")]
    Field(#[from] DecodeError),
    /// Its kind is of another version.
    #[error("quorum message has kind {0}, which this version does not know")]
    Kind(i8),
}

impl Message {
    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::version(VERSION);
        writer.uuid(self.cluster_id);
        writer.int64(self.from.0 as i64);
        writer.int64(self.to.0 as i64);
        writer.int64(self.term as i64);
        self.body.write(&mut writer);
        let mut bytes = writer.finish();
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    /// Reads a message. Entries and snapshots share the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        let checksum = MessageError::Checksum { size: bytes.len() };
        let Some((content, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(checksum);
        };
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return Err(checksum);
        }
        let mut reader = Reader::new(content);
        check_version(&mut reader, "quorum message", VERSION)?;
        let cluster_id = reader.uuid("cluster id")?;
        let from = VoterId(number(&mut reader, "sender")?);
        let to = VoterId(number(&mut reader, "receiver")?);
        let term = number(&mut reader, "term")?;
        let body = Body::read(&mut reader, bytes)?;
        reader.finish()?;
        Ok(Self {
            cluster_id,
            from,
            to,
            term,
            body,
        })
    }

    /// Bytes of entries and state that it carries.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Append { entries, .. } => entries.iter().map(|entry| entry.data.len()).sum(),
            Body::Snapshot(snapshot) => snapshot.data.len(),
            _ => 0,
        }
    }
}

impl Body {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Append {
                previous,
                commit,
                entries,
            } => {
                writer.int8(1);
                write_position(writer, *previous);
                writer.int64(*commit as i64);
                writer.int32(entries.len() as i32);
                for entry in entries {
                    writer.int64(entry.term as i64);
                    writer.int8(kind_code(entry.kind));
                    writer.bytes(&entry.data);
                }
            }
            Self::Accepted { index } => {
                writer.int8(2);
                writer.int64(*index as i64);
            }
            Self::Rejected { index, hint } => {
                writer.int8(3);
                writer.int64(*index as i64);
                write_position(writer, *hint);
            }
            Self::VoteRequest {
                pre_vote,
                by_transfer,
                last,
            } => {
                writer.int8(4);
                writer.int8(flags(*pre_vote, *by_transfer));
                write_position(writer, *last);
            }
            Self::Vote { pre_vote, granted } => {
                writer.int8(5);
                writer.int8(flags(*pre_vote, *granted));
            }
            Self::Heartbeat { commit, read_round } => {
                writer.int8(6);
                writer.int64(*commit as i64);
                writer.int64(*read_round as i64);
            }
            Self::HeartbeatReply { read_round } => {
                writer.int8(7);
                writer.int64(*read_round as i64);
            }
            Self::Snapshot(snapshot) => {
                writer.int8(8);
                write_position(writer, snapshot.last);
                writer.bytes(&snapshot.membership.encode());
                writer.bytes(&snapshot.data);
            }
            Self::CampaignNow => writer.int8(9),
        }
    }

    fn read(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Self, MessageError> {
        Ok(match reader.int8("kind")? {
            1 => {
                let previous = read_position(reader)?;
                let commit = number(reader, "commit")?;
                let entries = read_entries(reader, whole, previous)?;
                Self::Append {
                    previous,
                    commit,
                    entries,
                }
            }
            2 => Self::Accepted {
                index: number(reader, "index")?,
            },
            3 => Self::Rejected {
                index: number(reader, "index")?,
                hint: read_position(reader)?,
            },
            4 => {
                let (pre_vote, by_transfer) = read_flags(reader)?;
                Self::VoteRequest {
                    pre_vote,
                    by_transfer,
                    last: read_position(reader)?,
                }
            }
            5 => {
                let (pre_vote, granted) = read_flags(reader)?;
                Self::Vote { pre_vote, granted }
            }
            6 => Self::Heartbeat {
                commit: number(reader, "commit")?,
                read_round: number(reader, "read round")?,
            },
            7 => Self::HeartbeatReply {
                read_round: number(reader, "read round")?,
            },
            8 => Self::Snapshot(Snapshot {
                last: read_position(reader)?,
                membership: Membership::decode(reader.bytes("membership")?)?,
                data: read_data(reader, whole, SNAPSHOT_BYTES_MAX)?,
            }),
            9 => Self::CampaignNow,
            kind => return Err(MessageError::Kind(kind)),
        })
    }
}

pub(crate) fn kind_code(kind: EntryKind) -> i8 {
    match kind {
        EntryKind::Data => 0,
        EntryKind::Membership => 1,
    }
}

pub(crate) fn read_kind(code: i8) -> Result<EntryKind, DecodeError> {
    match code {
        0 => Ok(EntryKind::Data),
        1 => Ok(EntryKind::Membership),
        _ => Err(DecodeError::Invalid {
            field: "kind of entry",
            reason: "a kind that is not known",
        }),
    }
}

fn read_entries(
    reader: &mut Reader<'_>,
    whole: &Bytes,
    previous: LogPosition,
) -> Result<Vec<Entry>, DecodeError> {
    let count = reader.int32_length(ENTRY_BYTES_MIN, "entries")?;
    let mut entries = Vec::with_capacity(count);
    // Not above i64::MAX + i32::MAX: no overflow.
    let indexes = previous.index + 1..;
    for index in indexes.take(count) {
        let term = number(reader, "term of an entry")?;
        let kind = read_kind(reader.int8("kind of entry")?)?;
        let data = read_data(reader, whole, ENTRY_BYTES_MAX)?;
        entries.push(Entry {
            index,
            term,
            kind,
            data,
        });
    }
    Ok(entries)
}

fn read_data(reader: &mut Reader<'_>, whole: &Bytes, max: usize) -> Result<Bytes, DecodeError> {
    let data = reader.bytes("data")?;
    if data.len() > max {
        return Err(DecodeError::Invalid {
            field: "data",
            reason: "more bytes than allowed",
        });
    }
    Ok(whole.slice_ref(data))
}

fn write_position(writer: &mut Writer, position: LogPosition) {
    writer.int64(position.index as i64);
    writer.int64(position.term as i64);
}

fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, DecodeError> {
    let index = number(reader, "index")?;
    let term = number(reader, "term")?;
    Ok(LogPosition { term, index })
}

fn flags(first: bool, second: bool) -> i8 {
    i8::from(first) | i8::from(second) << 1
}

fn read_flags(reader: &mut Reader<'_>) -> Result<(bool, bool), DecodeError> {
    match reader.int8("flags")? {
        flags @ 0..=3 => Ok((flags & 1 != 0, flags & 2 != 0)),
        _ => Err(DecodeError::Invalid {
            field: "flags",
            reason: "a flag that is not known",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use conveyor_record::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn message(body: Body) -> Message {
        Message {
            cluster_id: Uuid::from_u128(7),
            from: VoterId(1),
            to: VoterId(2),
            term: 3,
            body,
        }
    }

    fn position() -> impl Strategy<Value = LogPosition> {
        (0..i64::MAX as u64, 0..i64::MAX as u64)
            .prop_map(|(term, index)| LogPosition { term, index })
    }

    fn body() -> impl Strategy<Value = Body> {
        let number = 0..=i64::MAX as u64;
        let data = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let kind = prop_oneof![Just(EntryKind::Data), Just(EntryKind::Membership)];
        let entry = (number.clone(), kind, data.clone());
        let append = (
            position(),
            number.clone(),
            prop::collection::vec(entry, 0..4),
        );
        let members =
            BTreeMap::from([(NodeId(1), "a:1".to_owned()), (NodeId(2), "b:2".to_owned())]);
        let membership = Membership::bootstrap(&members).unwrap();
        prop_oneof![
            append.prop_map(|(previous, commit, entries)| Body::Append {
                previous,
                commit,
                entries: entries
                    .into_iter()
                    .zip(previous.index + 1..)
                    .map(|((term, kind, data), index)| Entry {
                        index,
                        term,
                        kind,
                        data,
                    })
                    .collect(),
            }),
            number.clone().prop_map(|index| Body::Accepted { index }),
            (number.clone(), position()).prop_map(|(index, hint)| Body::Rejected { index, hint }),
            (any::<bool>(), any::<bool>(), position()).prop_map(|(pre_vote, by_transfer, last)| {
                Body::VoteRequest {
                    pre_vote,
                    by_transfer,
                    last,
                }
            }),
            (any::<bool>(), any::<bool>())
                .prop_map(|(pre_vote, granted)| Body::Vote { pre_vote, granted }),
            (number.clone(), number.clone())
                .prop_map(|(commit, read_round)| Body::Heartbeat { commit, read_round }),
            number.prop_map(|read_round| Body::HeartbeatReply { read_round }),
            (position(), data).prop_map(move |(last, data)| Body::Snapshot(Snapshot {
                last,
                membership: membership.clone(),
                data,
            })),
            Just(Body::CampaignNow),
        ]
    }

    proptest! {
        #[test]
        fn messages_go_there_and_back(body in body()) {
            let message = message(body);
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn a_message_with_one_wrong_bit_is_refused(body in body(), place in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = message(body).encode().to_vec();
            let place = place.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
            prop_assert!(Message::decode(&bytes.into()).is_err());
        }

        #[test]
        fn bytes_with_a_right_checksum_are_read_or_refused(body in body(), cut in any::<prop::sample::Index>(), junk in any::<Vec<u8>>()) {
            let mut bytes = message(body).encode().to_vec();
            bytes.truncate(cut.index(bytes.len()));
            bytes.extend_from_slice(&junk);
            let crc = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&crc.to_be_bytes());
            let bytes = Bytes::from(bytes);
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_count_of_entries_takes_no_memory_before_they_are_there() {
        let mut bytes = message(Body::Append {
            previous: LogPosition::default(),
            commit: 0,
            entries: Vec::new(),
        })
        .encode()
        .to_vec();
        bytes.truncate(bytes.len() - CRC_BYTES - 4);
        bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        assert!(matches!(
            Message::decode(&bytes.into()),
            Err(MessageError::Field(
                DecodeError::Truncated { .. } | DecodeError::Invalid { .. }
            ))
        ));
    }
}
