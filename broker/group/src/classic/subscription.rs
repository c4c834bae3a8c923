//! Reads what consumers tell each other through a classic group.
//!
//! Both formats begin with a version and are extended at the end only, so that their first version
//! can be read off any later one. Members of other protocol types tell other things.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::fields::{DecodeError, Reader};

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
    let mut assignment: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(assignment);
    }
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
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

fn version(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    if reader.int16("version")? < 0 {
        return Err(DecodeError::Invalid {
            field: "version",
            reason: "a negative number",
        });
    }
    Ok(())
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
