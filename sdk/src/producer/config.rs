//! Settings of a producer.

use std::sync::Arc;

use conveyor_grpc::v1;
use conveyor_record::Codec;

use super::Partitioner;
use super::sequencer::WINDOW;
use crate::error::{Error, Result};

/// When a record counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Durable as the topic's `conveyor.durability` says, on every in-sync replica.
    #[default]
    All,
    /// In the leader's page cache: may be lost with the leader.
    Leader,
    /// Taken by the leader: may be lost at any time.
    None,
}

impl From<Acks> for v1::Acks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::All => Self::All,
            Acks::Leader => Self::Leader,
            Acks::None => Self::None,
        }
    }
}

/// How a [`Producer`](super::Producer) batches, compresses and retries.
///
/// ```
/// use conveyor_sdk::{Codec, ProducerConfig};
///
/// let config = ProducerConfig { linger_ms: 20, compression: Codec::Lz4, ..ProducerConfig::default() };
/// ```
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Default [`Acks::All`].
    pub acks: Acks,
    /// How long a batch that is not full waits for more records, ms. With 0 a batch goes as soon as
    /// the connection takes it, and still fills up while others are on their way. Default 0.
    pub linger_ms: u64,
    /// Size at which a batch is full, in bytes before compression. Default 128 KiB.
    pub batch_size: usize,
    /// Memory for records that are not acknowledged yet, in bytes. When it is used up, `send` waits.
    /// Default 32 MiB.
    pub buffer_memory: usize,
    /// Largest record taken, in bytes before compression. Default 1 MiB.
    pub max_request_size: usize,
    /// Default [`Codec::Zstd`].
    pub compression: Codec,
    /// Level on the codec's own scale; its default (zstd: 1) if none.
    pub compression_level: Option<i32>,
    /// Batches on their way per partition, 1 to 5. Order is kept with any number. Default 5.
    pub max_in_flight: usize,
    /// A record that is not acknowledged this long after `send` took it is reported as failed, ms.
    /// Default 120 000.
    pub delivery_timeout_ms: u64,
    /// How long `send` may wait for memory or for the topic's metadata, ms. Default 60 000.
    pub max_block_ms: u64,
    /// Makes the producer a transactional one: whatever it sends belongs to a transaction. One
    /// producer has an id at a time; the next that starts with it fences the one before. Default none.
    pub transactional_id: Option<String>,
    /// How long a transaction may be open before the coordinator aborts it, ms; at most the node's
    /// `transaction.max.timeout.ms`. Default 60 000.
    pub transaction_timeout_ms: u64,
    /// Chooses partitions instead of key hash and sticky partition. Default none.
    pub partitioner: Option<Arc<dyn Partitioner>>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            linger_ms: 0,
            batch_size: 128 << 10,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            compression: Codec::Zstd,
            compression_level: None,
            max_in_flight: WINDOW,
            delivery_timeout_ms: 120_000,
            max_block_ms: 60_000,
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            partitioner: None,
        }
    }
}

impl ProducerConfig {
    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let limit = i32::MAX as usize;
        within("batch_size", self.batch_size, 1, limit)?;
        within("max_request_size", self.max_request_size, 1, limit)?;
        within(
            "buffer_memory",
            self.buffer_memory,
            self.max_request_size,
            usize::MAX >> 4,
        )?;
        within("max_in_flight", self.max_in_flight, 1, WINDOW)?;
        if self.delivery_timeout_ms <= self.linger_ms {
            return Err(Error::Config {
                setting: "delivery_timeout_ms",
                reason: format!(
                    "{} must be more than linger_ms = {}",
                    self.delivery_timeout_ms, self.linger_ms
                ),
            });
        }
        self.validate_transactions()
    }

    fn validate_transactions(&self) -> Result<()> {
        let Some(id) = &self.transactional_id else {
            return Ok(());
        };
        let refuse = |setting, reason: &str| {
            let reason = reason.to_owned();
            Err(Error::Config { setting, reason })
        };
        if id.is_empty() || id.len() > i16::MAX as usize {
            return refuse("transactional_id", "must have 1 to 32767 bytes");
        }
        if self.acks != Acks::All {
            return refuse("acks", "must be All with a transactional_id");
        }
        if !(1..=i32::MAX as u64).contains(&self.transaction_timeout_ms) {
            return refuse("transaction_timeout_ms", "must be at least 1");
        }
        Ok(())
    }
}

fn within(setting: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is not between {min} and {max}");
    Err(Error::Config { setting, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        ProducerConfig::default().validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let base = ProducerConfig::default;
        for (config, setting) in [
            (
                ProducerConfig {
                    batch_size: 0,
                    ..base()
                },
                "batch_size",
            ),
            (
                ProducerConfig {
                    max_in_flight: 6,
                    ..base()
                },
                "max_in_flight",
            ),
            (
                ProducerConfig {
                    buffer_memory: 10,
                    ..base()
                },
                "buffer_memory",
            ),
            (
                ProducerConfig {
                    linger_ms: 120_000,
                    ..base()
                },
                "delivery_timeout_ms",
            ),
            (
                ProducerConfig {
                    transactional_id: Some(String::new()),
                    ..base()
                },
                "transactional_id",
            ),
            (
                ProducerConfig {
                    transactional_id: Some("loader-1".to_owned()),
                    acks: Acks::Leader,
                    ..base()
                },
                "acks",
            ),
            (
                ProducerConfig {
                    transactional_id: Some("loader-1".to_owned()),
                    transaction_timeout_ms: 0,
                    ..base()
                },
                "transaction_timeout_ms",
            ),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("setting {setting}: ")),
                "{error}"
            );
        }
    }
}
