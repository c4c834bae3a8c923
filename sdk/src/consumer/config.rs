//! Settings of a consumer.

use std::time::Duration;

use conveyor_grpc::v1;

use crate::error::{Error, Result};

/// Where to begin, or go on, in a partition without a usable position: nothing committed, or the
/// position lies outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// The first record there is.
    Earliest,
    /// Only records that come from now on.
    #[default]
    Latest,
    /// Refuse: the poll fails and the caller decides, by a seek.
    None,
    /// Records not older than this.
    ByDuration(Duration),
}

/// Which records of transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Everything below the high watermark, records of aborted transactions included.
    #[default]
    ReadUncommitted,
    /// Only what no open transaction can take back, without the records of aborted ones.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) fn to_wire(self) -> v1::IsolationLevel {
        match self {
            Self::ReadUncommitted => v1::IsolationLevel::ReadUncommitted,
            Self::ReadCommitted => v1::IsolationLevel::ReadCommitted,
        }
    }
}

/// How a consumer reads. Names are Kafka's where Kafka has the setting.
///
/// ```
/// use conveyor_sdk::{ConsumerConfig, OffsetReset};
///
/// let mut config = ConsumerConfig::for_group("wave-progress");
/// config.auto_offset_reset = OffsetReset::Earliest;
/// config.enable_auto_commit = false;
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// The consumer group; needed to subscribe and to commit.
    pub group_id: Option<String>,
    /// Makes this a static member: within the session time-out its partitions wait for a process
    /// with the same id to come back.
    pub group_instance_id: Option<String>,
    /// `uniform` or `range`; none for the group's own.
    pub group_remote_assignor: Option<String>,
    /// Where this client stands.
    pub client_rack: Option<String>,
    /// How long the group waits for this member to give up partitions, ms: the longest time between
    /// two polls that costs no partitions. Default 300 000, Kafka's `max.poll.interval.ms`.
    pub rebalance_timeout_ms: u32,
    /// Default [`IsolationLevel::ReadUncommitted`].
    pub isolation_level: IsolationLevel,
    /// Default [`OffsetReset::Latest`].
    pub auto_offset_reset: OffsetReset,
    /// Commit what has been returned by earlier polls, from time to time, before partitions are
    /// given up and at close. Default yes; nothing is committed without a group.
    pub enable_auto_commit: bool,
    /// Default 5 000.
    pub auto_commit_interval_ms: u64,
    /// Records of one poll at most. Default 4 096.
    pub max_poll_records: usize,
    /// Bytes fetched ahead, as they come from the nodes, over all partitions of one node: the credit
    /// that a node gets. Default 32 MiB.
    pub fetch_memory_bytes: usize,
    /// The node waits for this many bytes, at most `fetch_max_wait_ms`, before it sends. Default 0:
    /// it sends at once.
    pub fetch_min_bytes: u32,
    /// Default 500.
    pub fetch_max_wait_ms: u32,
    /// Bytes of one message of a node, whole batches, at least one. Default 1 MiB.
    pub fetch_response_bytes_max: u32,
    /// Bytes that one batch may decompress to. Default 128 MiB.
    pub batch_decompressed_bytes_max: usize,
    /// Check the CRC of each batch. Default yes.
    pub check_crcs: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            group_remote_assignor: None,
            client_rack: None,
            rebalance_timeout_ms: 300_000,
            isolation_level: IsolationLevel::default(),
            auto_offset_reset: OffsetReset::default(),
            enable_auto_commit: true,
            auto_commit_interval_ms: 5_000,
            max_poll_records: 4_096,
            fetch_memory_bytes: 32 << 20,
            fetch_min_bytes: 0,
            fetch_max_wait_ms: 500,
            fetch_response_bytes_max: 1 << 20,
            batch_decompressed_bytes_max: 128 << 20,
            check_crcs: true,
        }
    }
}

impl ConsumerConfig {
    /// Defaults without a group: for assigned partitions.
    pub fn standalone() -> Self {
        Self::default()
    }

    /// Defaults for a member of this group.
    pub fn for_group(group_id: impl Into<String>) -> Self {
        Self {
            group_id: Some(group_id.into()),
            ..Self::default()
        }
    }

    /// The group, or an error that says what needs one.
    pub(crate) fn group_for(&self, what: &str) -> Result<&str> {
        self.group_id.as_deref().ok_or_else(|| Error::Config {
            setting: "group_id",
            reason: format!("is not set, but needed to {what}"),
        })
    }

    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |setting, reason: &str| {
            Err(Error::Config {
                setting,
                reason: reason.to_owned(),
            })
        };
        if self.group_id.as_deref() == Some("") {
            return refuse("group_id", "is empty");
        }
        if self.group_instance_id.is_some() && self.group_id.is_none() {
            return refuse("group_instance_id", "makes sense with a group_id only");
        }
        if self.max_poll_records == 0 {
            return refuse("max_poll_records", "must be more than 0");
        }
        if self.rebalance_timeout_ms == 0 || i32::try_from(self.rebalance_timeout_ms).is_err() {
            return refuse("rebalance_timeout_ms", "must be from 1 to 2147483647");
        }
        for (setting, value) in [
            ("fetch_min_bytes", self.fetch_min_bytes),
            ("fetch_max_wait_ms", self.fetch_max_wait_ms),
            ("fetch_response_bytes_max", self.fetch_response_bytes_max),
        ] {
            if i32::try_from(value).is_err() {
                return refuse(setting, "must not be more than 2147483647");
            }
        }
        if self.fetch_memory_bytes == 0 || i64::try_from(self.fetch_memory_bytes).is_err() {
            return refuse("fetch_memory_bytes", "must be more than 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let refused = |change: fn(&mut ConsumerConfig)| {
            let mut config = ConsumerConfig::for_group("g");
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.max_poll_records = 0).starts_with("setting max_poll_records: "));
        assert!(refused(|c| c.fetch_memory_bytes = 0).starts_with("setting fetch_memory_bytes: "));
        assert!(refused(|c| c.fetch_min_bytes = u32::MAX).starts_with("setting fetch_min_bytes: "));
        assert!(refused(|c| c.group_id = Some(String::new())).starts_with("setting group_id: "));
        let instance = ConsumerConfig {
            group_instance_id: Some("i".to_owned()),
            ..ConsumerConfig::standalone()
        };
        assert!(instance.validate().is_err());
        assert!(ConsumerConfig::standalone().validate().is_ok());
    }
}
