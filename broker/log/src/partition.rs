//! Topic and partition as a name: `orders-3`, the name of the partition's folder.

use std::fmt;
use std::sync::Arc;

/// Longest topic name, as in Kafka.
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }

    /// The partition that a folder name stands for: everything before the last dash is the topic.
    /// `None` for names that no partition has.
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let (topic, number) = name.rsplit_once('-')?;
        let partition: i32 = number.parse().ok()?;
        let canonical = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        (canonical && is_valid_topic_name(topic)).then(|| Self::new(topic, partition))
    }

    /// The name of the partition's folder.
    pub fn folder_name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Kafka's rule for topic names: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
///
/// The engine checks it again because the name becomes part of a path.
pub fn is_valid_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TOPIC_NAME_LENGTH_MAX
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_go_there_and_back() {
        for (topic, partition) in [("orders", 0), ("a-b.c_d", 12), ("__consumer_offsets", 15)] {
            let name = TopicPartition::new(topic, partition).folder_name();
            let back = TopicPartition::from_folder_name(&name).expect(&name);
            assert_eq!((&*back.topic, back.partition), (topic, partition));
        }
    }

    #[test]
    fn other_folder_names_are_not_partitions() {
        for name in [
            "orders",
            "orders-",
            "orders-01",
            "orders--1",
            "orders-+1",
            "-1",
            "..-1",
            "a/b-1",
        ] {
            let parsed = TopicPartition::from_folder_name(name);
            assert!(
                parsed.is_none() || name == "orders--1",
                "{name} gave {parsed:?}"
            );
        }
        // A topic may end in a dash, so this one is the topic `orders-`.
        assert_eq!(
            TopicPartition::from_folder_name("orders--1"),
            Some(TopicPartition::new("orders-", 1))
        );
        assert_eq!(TopicPartition::from_folder_name("..-1"), None);
    }
}
