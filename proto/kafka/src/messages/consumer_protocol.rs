//! What the members of a classic group of consumers tell each other through `JoinGroup` and
//! `SyncGroup`. To the coordinator these are opaque bytes; tools show them.
//!
//! They travel with their version in two bytes before them. A reader that is older than the writer
//! reads the fields that it knows and leaves the rest: [`read_versioned`].

use bytes::Bytes;

use crate::error::{DecodeError, Fault};
use crate::input::Input;
use crate::message::Message;
use crate::schema::{Field, Kind, Layout, Versions};
use crate::table::{message, structure};
use crate::text::Text;
use crate::value::Value;

message! {
    /// What a member subscribes to and owns: its metadata in `JoinGroup`.
    ConsumerProtocolSubscription [0-3] {
        topics: Vec<Text> [0+],
        user_data: Option<Bytes> [0+],
        owned_partitions: Vec<TopicPartition> [1+, ignorable],
        generation_id: i32 [2+, ignorable] = -1,
        rack_id: Option<Text> [3+, ignorable],
    }
}

message! {
    /// What a member is given: its assignment in `SyncGroup`.
    ConsumerProtocolAssignment [0-3] {
        assigned_partitions: Vec<TopicPartition> [0+],
        user_data: Option<Bytes> [0+],
    }
}

structure! {
    /// An element of [`ConsumerProtocolSubscription::owned_partitions`] and of
    /// [`ConsumerProtocolAssignment::assigned_partitions`].
    TopicPartition {
        topic: Text [0+],
        partitions: Vec<i32> [0+],
    }
}

const VERSION: &Field = &Field::new(
    "ConsumerProtocol",
    "version",
    Kind::Int16,
    Versions::since(0),
);

/// Reads a subscription or assignment behind its version. A version that is newer than the tables is
/// read as the newest of them.
pub fn read_versioned<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut input = Input::new(bytes);
    let layout = Layout {
        version: 0,
        flexible: false,
    };
    let version = i16::read(&mut input, layout, VERSION)?;
    if version < M::VERSIONS.first {
        let versions = M::VERSIONS;
        return Err(input.error(Fault::UnsupportedVersion { version, versions }, VERSION));
    }
    M::decode(version.min(M::VERSIONS.last), &mut input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_are_read_as_far_as_known() {
        let bytes =
            Bytes::from_static(b"\0\x09\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff more");
        let read: ConsumerProtocolAssignment = read_versioned(bytes).unwrap();
        let expected = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition {
                topic: "t".into(),
                partitions: vec![7],
            }],
            user_data: None,
        };
        assert_eq!(read, expected);
        assert!(
            read_versioned::<ConsumerProtocolAssignment>(Bytes::from_static(b"\xff\xff")).is_err()
        );
    }
}
