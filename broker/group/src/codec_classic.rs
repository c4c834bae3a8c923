//! The bytes of a `GroupMetadata` record's value, as Apache Kafka writes them.
//!
//! ```text
//! version i16 = 3 | protocol type | generation i32 | protocol? | leader? | state timestamp i64
//! count i32 | member id | instance id? | client id | client host | rebalance timeout i32
//!           | session timeout i32 | subscription | assignment
//! ```
//! Strings have 16-bit lengths (-1 for none where marked), bytes 32-bit ones. Versions from 0 are
//! read, and 4, which is flexible. Source: `GroupMetadataValue` of Kafka's group coordinator.

use bytes::Bytes;
use conveyor_record::fields::{DecodeError, Reader, Writer};

use crate::classic::{GroupMember, GroupMetadata};

const VERSION: i16 = 3;
const VERSION_MAX: i16 = 4;
const VERSION_FLEXIBLE: i16 = 4;
/// The fewest bytes a member takes in any version.
const MEMBER_BYTES_MIN: usize = 9;

pub(crate) fn encode(group: &GroupMetadata) -> Vec<u8> {
    let mut value = Writer::version(VERSION);
    value.string(&group.protocol_type);
    value.int32(group.generation);
    value.nullable_string(group.protocol.as_deref());
    value.nullable_string(group.leader.as_deref());
    value.int64(group.state_timestamp_ms);
    value.int32(group.members.len() as i32);
    for (member_id, member) in &group.members {
        value.string(member_id);
        value.nullable_string(member.instance_id.as_deref());
        value.string(&member.client_id);
        value.string(&member.client_host);
        value.int32(member.rebalance_timeout_ms);
        value.int32(member.session_timeout_ms);
        value.bytes(&member.subscription);
        value.bytes(&member.assignment);
    }
    value.finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<GroupMetadata, DecodeError> {
    let mut value = Fields::new(bytes)?;
    let mut group = GroupMetadata {
        protocol_type: value.string("protocol type")?,
        generation: value.reader.int32("generation")?,
        protocol: value.nullable_string("protocol")?,
        leader: value.nullable_string("leader")?,
        state_timestamp_ms: -1,
        ..GroupMetadata::default()
    };
    if value.version >= 2 {
        group.state_timestamp_ms = value.reader.int64("state timestamp")?;
    }
    for _ in 0..value.length("members")? {
        let member_id = value.string("member id")?;
        let member = value.member()?;
        group.members.insert(member_id, member);
    }
    value.end_of_structure()?;
    value.reader.finish()?;
    Ok(group)
}

/// Reads fields in the form of the value's version.
struct Fields<'a> {
    reader: Reader<'a>,
    version: i16,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.int16("value version")?;
        if !(0..=VERSION_MAX).contains(&version) {
            return Err(DecodeError::UnsupportedVersion {
                kind: "GroupMetadata",
                version,
                supported: VERSION_MAX,
            });
        }
        Ok(Self { reader, version })
    }

    fn is_flexible(&self) -> bool {
        self.version >= VERSION_FLEXIBLE
    }

    fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        if self.is_flexible() {
            self.reader.compact_string(field)
        } else {
            self.reader.string(field)
        }
    }

    fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        if self.is_flexible() {
            self.reader.compact_nullable_string(field)
        } else {
            self.reader.nullable_string(field)
        }
    }

    fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let bytes = if self.is_flexible() {
            self.reader.compact_bytes(field)?
        } else {
            self.reader.bytes(field)?
        };
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn length(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        if self.is_flexible() {
            self.reader.length(MEMBER_BYTES_MIN, field)
        } else {
            self.reader.int32_length(MEMBER_BYTES_MIN, field)
        }
    }

    fn end_of_structure(&mut self) -> Result<(), DecodeError> {
        if self.is_flexible() {
            self.reader.skip_tagged_fields()?;
        }
        Ok(())
    }

    fn member(&mut self) -> Result<GroupMember, DecodeError> {
        let instance_id = if self.version >= 3 {
            self.nullable_string("instance id")?
        } else {
            None
        };
        let client_id = self.string("client id")?;
        let client_host = self.string("client host")?;
        let rebalance_timeout_ms = if self.version >= 1 {
            Some(self.reader.int32("rebalance timeout")?)
        } else {
            None
        };
        let session_timeout_ms = self.reader.int32("session timeout")?;
        let member = GroupMember {
            instance_id,
            client_id,
            client_host,
            // Version 0 had one time-out for both.
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: self.bytes("subscription")?,
            assignment: self.bytes("assignment")?,
        };
        self.end_of_structure()?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    fn group() -> GroupMetadata {
        let member = GroupMember {
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 7,
            session_timeout_ms: 9,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"as"),
        };
        GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_timestamp_ms: 11,
            members: [("m".to_owned(), member)].into(),
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        // What Kafka 4.3.1 writes for the same group (GroupMetadataValue, version 3).
        let expected = b"\x00\x03\x00\x08consumer\x00\x00\x00\x05\x00\x05range\x00\x01m\
            \x00\x00\x00\x00\x00\x00\x00\x0b\x00\x00\x00\x01\x00\x01m\x00\x01i\x00\x01c\x00\x02/h\
            \x00\x00\x00\x07\x00\x00\x00\x09\x00\x00\x00\x01s\x00\x00\x00\x02as";
        assert_eq!(encode(&group()), expected);
        assert_eq!(decode(expected).unwrap(), group());
    }

    #[test]
    fn an_empty_group_has_neither_protocol_nor_leader() {
        let empty = GroupMetadata {
            protocol_type: "connect".into(),
            generation: 2,
            ..GroupMetadata::default()
        };
        let bytes = encode(&empty);
        assert_eq!(decode(&bytes).unwrap(), empty);
        let record = Record::GroupMetadata {
            group_id: "g".into(),
            value: None,
        };
        assert_eq!(record.encode().key, b"\0\x02\0\x01g");
        assert_eq!(record.encode().value, None);
        assert_eq!(Record::decode(b"\0\x02\0\x01g", None), Ok(Some(record)));
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let oldest = b"\x00\x00\x00\x08consumer\x00\x00\x00\x05\x00\x05range\x00\x01m\
            \x00\x00\x00\x01\x00\x01m\x00\x01c\x00\x02/h\x00\x00\x00\x09\x00\x00\x00\x01s\
            \x00\x00\x00\x02as";
        let read = decode(oldest).unwrap();
        let member = &read.members["m"];
        assert_eq!((read.state_timestamp_ms, &member.instance_id), (-1, &None));
        assert_eq!(member.rebalance_timeout_ms, 9);

        let flexible = b"\x00\x04\x09consumer\x00\x00\x00\x05\x06range\x02m\
            \x00\x00\x00\x00\x00\x00\x00\x0b\x02\x02m\x02i\x02c\x03/h\x00\x00\x00\x07\
            \x00\x00\x00\x09\x02s\x03as\x00\x00";
        assert_eq!(decode(flexible).unwrap(), group());
    }

    #[test]
    fn damage_is_told_and_never_believed() {
        let bytes = encode(&group());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(
            decode(&longer),
            Err(DecodeError::TrailingBytes { left: 1 })
        ));
        assert!(decode(b"\0\x05").is_err());
        // A count of members that no bytes are there for.
        let lie =
            b"\x00\x03\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
        assert!(matches!(decode(lie), Err(DecodeError::Truncated { .. })));
    }
}
