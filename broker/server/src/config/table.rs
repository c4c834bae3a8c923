//! Every setting of a node: name, type, default, documentation, and the field it fills.
//!
//! Names are Kafka's wherever Kafka has the setting; the rest are ours. The macro keeps the three
//! things that must agree (table row, struct field, conversion) in one place.

use std::path::PathBuf;

use conveyor_controller::SettingKind::{Boolean, Bytes, Integer, List, Millis, Text};
use conveyor_controller::{Setting, SettingKind, topic_setting};

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

/// A type that a field of [`super::BrokerConfig`] can have.
pub(super) trait FieldValue: Sized {
    /// From the normal form of a value that the setting's kind has accepted.
    fn from_normal(value: &str) -> Option<Self>;
}

macro_rules! parsed_field {
    ($($type:ty),+) => {
        $(impl FieldValue for $type {
            fn from_normal(value: &str) -> Option<Self> {
                value.parse().ok()
            }
        })+
    };
}
parsed_field!(i32, i64, u32, u64, usize, bool, String);

impl FieldValue for Vec<PathBuf> {
    fn from_normal(value: &str) -> Option<Self> {
        Some(
            value
                .split(',')
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .collect(),
        )
    }
}

macro_rules! node_settings {
    ($($name:literal, $field:ident: $type:ty, $kind:expr, $default:literal, $doc:literal;)+) => {
        /// The settings of a node, typed; see [`super::BrokerConfig`].
        #[derive(Debug, Clone)]
        pub struct NodeSettings {
            $(#[doc = concat!("`", $name, "`: ", $doc)] pub $field: $type,)+
        }

        /// The rows, by name.
        pub(super) static NODE_TABLE: &[Setting] = &[
            $(Setting { name: $name, kind: $kind, default: $default, documentation: $doc },)+
        ];

        impl NodeSettings {
            /// Fills every field from normal forms; the name of the setting on failure.
            pub(super) fn from_values<'a>(
                value_of: impl Fn(&'static str) -> &'a str,
            ) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: FieldValue::from_normal(value_of($name)).ok_or($name)?,)+
                })
            }
        }
    };
}

const fn bytes(min: i64, max: i64) -> SettingKind {
    Bytes { min, max }
}

const fn millis(min: i64, max: i64) -> SettingKind {
    Millis { min, max }
}

const fn integer(min: i64, max: i64) -> SettingKind {
    Integer { min, max }
}

const GIB: i64 = 1 << 30;

node_settings! {
    "advertised.listeners", advertised_listeners: String, Text, "",
        "Where clients find each Kafka listener, as NAME://host:port,...; without an entry it is the address that it is bound to, and for one bound to all interfaces the one that the client has reached.";
    "advertised.listeners.grpc", advertised_grpc: String, Text, "",
        "Host and port of the gRPC listener told to clients; empty for the address it is bound to.";
    "auto.create.topics.enable", auto_create_topics: bool, Boolean, "false",
        "Create a missing topic when a client asks for its metadata and allows it.";
    "broker.rack", rack: String, Text, "",
        "Where this node stands, told to clients.";
    "cluster.id", cluster_id: String, Text, "",
        "The cluster's id; empty to take the one on disk, or to make one up at the first start.";
    "connections.max.idle.ms", connections_max_idle_ms: i64, millis(1_000, LONG_MAX), "600000",
        "A connection that answers no keep-alive ping for this long is closed.";
    "controlled.shutdown.timeout.ms", shutdown_timeout_ms: i64, millis(0, LONG_MAX), "10000",
        "How long a stopping node waits for calls under way before it closes their connections.";
    "conveyor.fetch.memory.bytes", fetch_memory_bytes: usize, bytes(1 << 20, 4 * GIB - 1), "268435456",
        "Bytes of fetched records held for all consumers of the node until their connections have taken them; further fetches wait.";
    "conveyor.grpc.connection.window.bytes", grpc_connection_window: u32, bytes(65_535, INT_MAX), "16777216",
        "HTTP/2 flow-control window of one connection.";
    "conveyor.grpc.frame.bytes", grpc_frame_bytes: u32, bytes(16_384, 16_777_215), "1048576",
        "Largest HTTP/2 frame taken.";
    "conveyor.grpc.streams.max", grpc_streams_max: u32, integer(1, 1 << 20), "1024",
        "Calls under way at a time on one connection.";
    "conveyor.grpc.stream.window.bytes", grpc_stream_window: u32, bytes(65_535, INT_MAX), "8388608",
        "HTTP/2 flow-control window of one stream.";
    "conveyor.own.volume", own_volume: bool, Boolean, "false",
        "Each data directory has a volume of its own, so that one syncfs may replace many fdatasync.";
    "conveyor.produce.window.bytes", produce_window_bytes: usize, bytes(1 << 16, GIB), "8388608",
        "Bytes of batches that may be unacknowledged on one produce stream.";
    "conveyor.segment.pool.bytes", segment_pool_bytes: u64, bytes(0, GIB), "16777216",
        "Size of each zero-filled file kept ready for the next segment; a sync over written blocks costs half.";
    "conveyor.segment.pool.files", segment_pool_files: usize, integer(0, 64), "2",
        "Zero-filled files kept ready for each data directory; 0 for none.";
    "default.replication.factor", default_replication_factor: i32, integer(1, 32_767), "1",
        "Replicas of a new topic that does not say how many.";
    "delete.topic.enable", delete_topics: bool, Boolean, "true",
        "Whether clients may delete topics.";
    "fetch.max.bytes", fetch_max_bytes: usize, bytes(1_024, GIB), "16777216",
        "The most bytes of records in one fetch response; the first batch always comes whole.";
    "group.consumer.heartbeat.interval.ms", group_heartbeat_interval_ms: i64, millis(1, INT_MAX), "5000",
        "How often members of a group tell that they are alive.";
    "group.consumer.max.size", group_max_size: usize, integer(1, INT_MAX), "10000",
        "Members that a group by the consumer protocol may have.";
    "group.consumer.session.timeout.ms", group_session_timeout_ms: i64, millis(1, INT_MAX), "45000",
        "A member that is silent this long is taken out of its group.";
    "group.initial.rebalance.delay.ms", group_initial_rebalance_delay_ms: i64, millis(0, INT_MAX), "3000",
        "How long the first members of a classic group wait for others.";
    "group.max.session.timeout.ms", group_max_session_timeout_ms: i32, millis(1, INT_MAX), "1800000",
        "The longest session that a member of a classic group may ask for.";
    "group.max.size", group_classic_max_size: usize, integer(1, INT_MAX), "10000",
        "Members that a classic group may have.";
    "group.min.session.timeout.ms", group_min_session_timeout_ms: i32, millis(1, INT_MAX), "6000",
        "The shortest session that a member of a classic group may ask for.";
    "listener.security.protocol.map", listener_security_protocol_map: String, Text,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "How connections of each Kafka listener are secured, as NAME:PROTOCOL,...; a name that is a protocol stands for it. Only PLAINTEXT is served.";
    "listeners", listeners: String, Text, "PLAINTEXT://127.0.0.1:9092",
        "Kafka listeners for clients, as NAME://host:port,...; an empty host for all interfaces, port 0 for any free one, empty for no Kafka listener.";
    "listeners.admin", admin_listener: String, Text, "127.0.0.1:9644",
        "Address of the admin HTTP listener: health and metrics; port 0 for any free one, empty for none.";
    "listeners.grpc", grpc_listener: String, Text, "127.0.0.1:9192",
        "Address of the gRPC listener for clients; port 0 for any free one.";
    "log.cleaner.backoff.ms", cleaner_backoff_ms: i64, millis(1, LONG_MAX), "15000",
        "How long the log cleaner waits when no log needs compaction.";
    "log.cleaner.dedupe.buffer.size", cleaner_buffer_bytes: usize, bytes(1 << 16, 16 * GIB), "16777216",
        "Memory for the key map of the log cleaner; a log with more keys is cleaned in several passes.";
    "log.cleaner.enable", cleaner_enable: bool, Boolean, "true",
        "Whether compacted topics are compacted.";
    "log.cleaner.io.max.bytes.per.second", cleaner_bytes_per_second: u64, bytes(1, LONG_MAX), "67108864",
        "The log cleaner reads and writes no more than this, so that producers do not feel it.";
    "log.dirs", log_dirs: Vec<PathBuf>, List, "data",
        "Data directories, one a disk; partitions are spread over them.";
    "log.flush.offset.checkpoint.interval.ms", checkpoint_interval_ms: i64, millis(10, LONG_MAX), "1000",
        "How often recovery points are written, so that a crash is recovered by reading little.";
    "log.retention.check.interval.ms", retention_check_interval_ms: i64, millis(1, LONG_MAX), "300000",
        "How often old segments are looked for.";
    "log.retention.hours", retention_hours: i64, integer(-1, INT_MAX), "168",
        "log.retention.ms in hours, when that is not given; -1 for no limit.";
    "log.roll.hours", roll_hours: i64, integer(1, INT_MAX), "168",
        "log.roll.ms in hours, when that is not given.";
    "log.roll.jitter.hours", roll_jitter_hours: i64, integer(0, INT_MAX), "0",
        "log.roll.jitter.ms in hours, when that is not given.";
    "max.connections", connections_max: usize, integer(1, INT_MAX), "4096",
        "Connections taken at a time; more are closed at once.";
    "max.connections.per.ip", connections_max_per_ip: usize, integer(1, INT_MAX), "2147483647",
        "Connections to the Kafka listeners taken at a time from one address; more are closed at once.";
    "max.incremental.fetch.session.cache.slots", fetch_sessions_max: usize, integer(0, 1 << 20), "1000",
        "Fetch sessions kept for Kafka consumers; beyond it a session idle for two minutes gives way, or the consumer works without one.";
    "node.id", node_id: i32, integer(0, INT_MAX), "1",
        "The number of this node in its cluster.";
    "num.partitions", num_partitions: i32, integer(1, 10_000), "1",
        "Partitions of a new topic that does not say how many.";
    "offset.metadata.max.bytes", offset_metadata_max_bytes: usize, bytes(0, INT_MAX), "4096",
        "Longest text that a committed offset may carry.";
    "offsets.retention.minutes", offsets_retention_minutes: i64, integer(1, INT_MAX), "10080",
        "How long the offsets of a group without members are kept.";
    "offsets.topic.num.partitions", offsets_topic_partitions: i32, integer(1, 1_000), "16",
        "Partitions of the topic that holds committed offsets; fixed once it is there.";
    "offsets.topic.replication.factor", offsets_topic_replication_factor: i32, integer(1, 32_767), "1",
        "Replicas of the topic that holds committed offsets.";
    "producer.id.expiration.ms", producer_id_expiration_ms: i64, millis(1, INT_MAX), "86400000",
        "A producer that has been silent this long is forgotten.";
    "queued.max.request.bytes", queued_max_request_bytes: usize, bytes(1 << 20, 4 * GIB - 1), "67108864",
        "Bytes of produced batches held for one data directory until they are answered; producers wait beyond it.";
    "quota.consumer.default", quota_consumer: i64, bytes(0, LONG_MAX), "0",
        "Bytes a second that one principal may fetch; 0 for no limit.";
    "quota.producer.default", quota_producer: i64, bytes(0, LONG_MAX), "0",
        "Bytes a second that one principal may produce; 0 for no limit.";
    "socket.request.max.bytes", socket_request_max_bytes: usize, bytes(1, INT_MAX), "104857600",
        "Largest request of a Kafka client; the connection of a larger one is closed.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", transaction_abort_interval_ms: i64, millis(1, INT_MAX), "10000",
        "How often transactions are looked for that have been open for longer than their time-out.";
    "transaction.max.timeout.ms", transaction_max_timeout_ms: i32, millis(1, INT_MAX), "900000",
        "The longest time-out that a transactional producer may ask for.";
    "transaction.remove.expired.transaction.cleanup.interval.ms", transaction_expiry_interval_ms: i64, millis(1, INT_MAX), "3600000",
        "How often transactional ids are looked for that may be forgotten.";
    "transaction.state.log.num.partitions", transaction_topic_partitions: i32, integer(1, 1_000), "16",
        "Partitions of the topic that holds the state of transactions; fixed once it is there.";
    "transaction.state.log.replication.factor", transaction_topic_replication_factor: i32, integer(1, 32_767), "1",
        "Replicas of the topic that holds the state of transactions.";
    "transactional.id.expiration.ms", transactional_id_expiration_ms: i64, millis(1, INT_MAX), "604800000",
        "A transactional id without a transaction is forgotten after this time.";
}

/// Settings of a node that are the defaults of a topic's setting: their name, the topic's.
pub(super) static TOPIC_DEFAULTS: &[(&str, &str)] = &[
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("conveyor.durability", "conveyor.durability"),
    ("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    ("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    (
        "log.cleaner.min.cleanable.ratio",
        "min.cleanable.dirty.ratio",
    ),
    ("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    ("log.cleanup.policy", "cleanup.policy"),
    ("log.flush.interval.messages", "flush.messages"),
    ("log.flush.interval.ms", "flush.ms"),
    ("log.index.interval.bytes", "index.interval.bytes"),
    ("log.index.size.max.bytes", "segment.index.bytes"),
    ("log.local.retention.bytes", "local.retention.bytes"),
    ("log.local.retention.ms", "local.retention.ms"),
    (
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
    ),
    (
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
    ),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.preallocate", "preallocate"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.roll.jitter.ms", "segment.jitter.ms"),
    ("log.roll.ms", "segment.ms"),
    ("log.segment.bytes", "segment.bytes"),
    ("log.segment.delete.delay.ms", "file.delete.delay.ms"),
    ("message.max.bytes", "max.message.bytes"),
    ("min.insync.replicas", "min.insync.replicas"),
    (
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
    ),
];

/// Settings that may also be given in hours: in milliseconds, in hours. Milliseconds win.
pub(super) static IN_HOURS: &[(&str, &str)] = &[
    ("log.retention.ms", "log.retention.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.roll.ms", "log.roll.hours"),
];

/// Settings that count as not given when nobody gives them; their effect is then that of the default,
/// of the same setting in hours, or of what else their documentation says.
pub(super) static WITHOUT_DEFAULT: &[&str] = &[
    "advertised.listeners",
    "advertised.listeners.grpc",
    "broker.rack",
    "cluster.id",
    "log.flush.interval.ms",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
];

/// What is true of every node and cannot be set, for tools that read it under Kafka's names.
pub(super) static FACTS: &[Setting] = &[
    Setting {
        name: "authorizer.class.name",
        kind: Text,
        default: "",
        documentation: "Class of the authorizer: none can be loaded.",
    },
    Setting {
        name: "process.roles",
        kind: List,
        default: "broker,controller",
        documentation: "A node serves clients and keeps the metadata.",
    },
    Setting {
        name: "remote.log.storage.system.enable",
        kind: Boolean,
        default: "false",
        documentation: "Whether there is tiered storage.",
    },
];

/// Every setting by name, those that are defaults of topics included.
pub(super) fn all() -> Vec<Setting> {
    let defaults = TOPIC_DEFAULTS.iter().filter_map(|(name, topic)| {
        topic_setting(topic).map(|setting| Setting { name, ..*setting })
    });
    let mut rows: Vec<Setting> = NODE_TABLE.iter().copied().chain(defaults).collect();
    rows.sort_by_key(|row| row.name);
    rows
}
