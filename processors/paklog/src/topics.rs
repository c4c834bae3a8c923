//! The eight canonical topics: names, partitions, settings, keys.
//!
//! Knows nothing of brokers: the caller turns a [`TopicPlan`] into whatever creates topics.

use std::fmt;

/// One of `PakLog`'s canonical topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Waves; key: wave id.
    Wave,
    /// Orders; key: order id.
    Order,
    /// Stock; key: sku.
    Inventory,
    /// Work tasks; key: task id.
    Task,
    /// Picking; key: pick session id.
    Pick,
    /// Packing; key: pack session id.
    Pack,
    /// What carriers and other outside systems report; key: the event's subject.
    External,
    /// What could not be processed; key: that of the failed record.
    Error,
}

impl Topic {
    /// Every topic, in the order of the deployment diagram.
    pub const ALL: [Self; 8] = [
        Self::Wave,
        Self::Order,
        Self::Inventory,
        Self::Task,
        Self::Pick,
        Self::Pack,
        Self::External,
        Self::Error,
    ];

    /// The topic's name on the broker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wave => "wave-events",
            Self::Order => "order-events",
            Self::Inventory => "inventory-events",
            Self::Task => "task-events",
            Self::Pick => "pick-events",
            Self::Pack => "pack-events",
            Self::External => "external-events",
            Self::Error => "error-events",
        }
    }

    /// Number of partitions in `PakLog`'s deployment.
    pub const fn partitions(self) -> u32 {
        match self {
            Self::Inventory | Self::Task | Self::Pick => 12,
            Self::Wave | Self::Order | Self::Pack => 6,
            Self::External | Self::Error => 3,
        }
    }

    /// What a record's key is, in words for people.
    pub const fn key_rule(self) -> &'static str {
        match self {
            Self::Wave => "wave id",
            Self::Order => "order id",
            Self::Inventory => "sku",
            Self::Task => "task id",
            Self::Pick => "pick session id",
            Self::Pack => "pack session id",
            Self::External => "subject of the event",
            Self::Error => "key of the failed record",
        }
    }

    /// The canonical topic of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a topic is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Which topic.
    pub topic: Topic,
    /// Number of partitions.
    pub partitions: u32,
    /// Copies of each partition: 3, or as many as there are nodes when there are fewer.
    pub replication_factor: u16,
    /// Topic settings, by Kafka's names.
    pub settings: Vec<(&'static str, String)>,
}

/// Retention of every canonical topic: seven days, in milliseconds.
pub const RETENTION_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The plans of all eight topics for a cluster of `nodes` nodes.
///
/// Three nodes or more: replication factor 3, of which two must be in sync. Fewer: as many copies as
/// nodes, and one must be in sync, so that a single node can serve.
pub fn plans(nodes: u16) -> Vec<TopicPlan> {
    let replication_factor = nodes.clamp(1, 3);
    let min_insync_replicas = if replication_factor == 3 { 2 } else { 1 };
    Topic::ALL
        .into_iter()
        .map(|topic| TopicPlan {
            topic,
            partitions: topic.partitions(),
            replication_factor,
            settings: vec![
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", RETENTION_MS.to_string()),
                ("min.insync.replicas", min_insync_replicas.to_string()),
            ],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_topics_have_sixty_partitions_in_all() {
        let plans = plans(1);
        assert_eq!(plans.len(), 8);
        assert_eq!(plans.iter().map(|plan| plan.partitions).sum::<u32>(), 60);
    }

    #[test]
    fn one_node_needs_one_copy_and_three_nodes_need_two_in_sync() {
        let in_sync = |nodes| plans(nodes)[0].settings[2].1.clone();
        assert_eq!(
            (plans(1)[0].replication_factor, in_sync(1)),
            (1, "1".to_owned())
        );
        assert_eq!(
            (plans(5)[0].replication_factor, in_sync(5)),
            (3, "2".to_owned())
        );
    }

    #[test]
    fn names_lead_back_to_topics() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_name(topic.name()), Some(topic));
        }
        assert_eq!(Topic::from_name("order_events"), None);
    }
}
