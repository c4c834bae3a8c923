//! Reads what consumers tell each other through a classic group.
//!
//! Both formats begin with a version and are extended at the end only, so that their first version
//! can be read off any later one. Members of other protocol types tell other things.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use conveyor_record::fields::{DecodeError, Reader, Writer};

/// The newest version of both formats that is known.
const VERSION_MAX: i16 = 3;

/// What a consumer tells of itself: its `ConsumerProtocolSubscription`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The version it was written in; its assignment is to be in the same.
    pub version: i16,
    /// The topics it wants.
    pub topics: BTreeSet<String>,
    /// What it has not given up. Nothing where it does not say: such a consumer gives up all before it
    /// joins.
    pub owned: BTreeMap<String, BTreeSet<i32>>,
    /// Where it runs.
    pub rack_id: Option<String>,
}

impl Subscription {
    /// Reads all of it.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = version(&mut reader)?.min(VERSION_MAX);
        let count = reader.int32_length(2, "topics")?;
        let topics = (0..count)
            .map(|_| reader.string("topic"))
            .collect::<Result<_, _>>()?;
        let mut subscription = Self {
            version,
            topics,
            ..Self::default()
        };
        if version >= 1 {
            // Null or bytes, which only other members can read.
            let length = reader.nullable_length(false, 1, "user data")?;
            for _ in 0..length {
                reader.int8("user data")?;
            }
            subscription.owned = read_partitions(&mut reader)?;
        }
        if version >= 2 {
            reader.int32("generation")?;
        }
        if version >= 3 {
            subscription.rack_id = reader.nullable_string("rack id")?;
        }
        Ok(subscription)
    }
}

/// The topics of a consumer's `ConsumerProtocolSubscription`.
///
/// # Errors
/// When the bytes are none.
pub fn read_subscription(bytes: &[u8]) -> Result<BTreeSet<String>, DecodeError> {
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    let count = reader.int32_length(2, "topics")?;
    (0..count).map(|_| reader.string("topic")).collect()
}

/// The partitions of a consumer's `ConsumerProtocolAssignment`. No bytes are no partitions: that is
/// what a member gets for which the leader made nothing.
///
/// # Errors
/// When the bytes are none.
pub fn read_assignment(bytes: &[u8]) -> Result<BTreeMap<String, BTreeSet<i32>>, DecodeError> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    read_partitions(&mut reader)
}

/// Whether a consumer's assignment carries data beside its partitions, which only the assignor that made
/// it understands.
///
/// # Errors
/// When the bytes are none.
pub(crate) fn has_user_data(assignment: &[u8]) -> Result<bool, DecodeError> {
    if assignment.is_empty() {
        return Ok(false);
    }
    let mut reader = Reader::new(assignment);
    version(&mut reader)?;
    read_partitions(&mut reader)?;
    Ok(reader.nullable_length(false, 1, "user data")? > 0)
}

/// A consumer's `ConsumerProtocolAssignment`, in the version of its subscription, without user data.
pub fn write_assignment(version: i16, assignment: &BTreeMap<String, BTreeSet<i32>>) -> Bytes {
    let mut value = Writer::version(version);
    value.int32(assignment.len() as i32);
    for (topic, partitions) in assignment {
        value.string(topic);
        value.int32(partitions.len() as i32);
        for partition in partitions {
            value.int32(*partition);
        }
    }
    value.int32(-1); // no user data
    Bytes::from(value.finish())
}

fn read_partitions(
    reader: &mut Reader<'_>,
) -> Result<BTreeMap<String, BTreeSet<i32>>, DecodeError> {
    let mut assignment: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for _ in 0..reader.int32_length(6, "assigned topics")? {
        let topic = reader.string("topic")?;
        let count = reader.int32_length(4, "partitions")?;
        let partitions = assignment.entry(topic).or_default();
        for _ in 0..count {
            partitions.insert(reader.int32("partition")?);
        }
    }
    Ok(assignment)
}

fn version(reader: &mut Reader<'_>) -> Result<i16, DecodeError> {
    let version = reader.int16("version")?;
    if version < 0 {
        return Err(DecodeError::Invalid {
            field: "version",
            reason: "a negative number",
        });
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1 of a subscription to `a` and `bc`, with user data and owned partitions behind.
    const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";

    #[test]
    fn later_versions_are_read_as_the_first() {
        let topics = read_subscription(SUBSCRIPTION).unwrap();
        assert_eq!(topics, BTreeSet::from(["a".to_owned(), "bc".to_owned()]));
    }

    #[test]
    fn all_of_a_subscription_is_read() {
        // Version 3, as Apache Kafka 4.3.1 writes it.
        let bytes = b"\0\x03\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x01\0\0\0\x07\0\x02r1";
        let expected = Subscription {
            version: 3,
            topics: BTreeSet::from(["a".to_owned()]),
            owned: BTreeMap::from([("t".to_owned(), BTreeSet::from([1]))]),
            rack_id: Some("r1".into()),
        };
        assert_eq!(Subscription::read(bytes).unwrap(), expected);
        let old = Subscription::read(b"\0\0\0\0\0\x01\0\x01a\0\0\0\x02xy").unwrap();
        assert_eq!((old.version, old.owned.len()), (0, 0));
        for end in 0..bytes.len() {
            assert!(Subscription::read(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn assignments_are_written_as_kafka_writes_them() {
        let assignment = BTreeMap::from([("t".to_owned(), BTreeSet::from([0, 3]))]);
        let bytes = write_assignment(3, &assignment);
        let expected = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03\xff\xff\xff\xff";
        assert_eq!(&bytes[..], expected);
        assert_eq!(read_assignment(&bytes).unwrap(), assignment);
    }

    #[test]
    fn assignments_are_read_and_none_is_empty() {
        let bytes = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03\xff\xff\xff\xff";
        let assignment = read_assignment(bytes).unwrap();
        assert_eq!(assignment["t"], BTreeSet::from([0, 3]));
        assert!(read_assignment(b"").unwrap().is_empty());
    }

    #[test]
    fn lies_about_lengths_are_found_before_memory_is_taken() {
        assert!(read_subscription(b"\0\0\x7f\xff\xff\xff").is_err());
        assert!(read_subscription(b"\0\0\xff\xff\xff\xff").is_err());
        assert!(read_assignment(b"\0\0\x7f\xff\xff\xff\0\x01t").is_err());
        assert!(read_assignment(b"\xff\xff\0\0\0\0").is_err());
        for end in 0..SUBSCRIPTION.len() - 8 {
            assert!(read_subscription(&SUBSCRIPTION[..end]).is_err(), "{end}");
        }
    }
}
