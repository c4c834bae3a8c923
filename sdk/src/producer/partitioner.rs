//! Which partition a record goes to.
//!
//! Keyed records go where a Java producer sends them, so that both kinds of producers keep the order
//! of a key together. Records without a key stick to one partition until a batch of it is complete:
//! batches are fuller than when each record goes elsewhere.

use std::fmt::Debug;

use super::ProducerRecord;

/// Chooses partitions instead of the built-in rules.
///
/// ```
/// use conveyor_sdk::producer::{Partitioner, ProducerRecord};
///
/// /// Everything of a warehouse zone into one partition.
/// #[derive(Debug)]
/// struct ByZone;
///
/// impl Partitioner for ByZone {
///     fn partition(&self, record: &ProducerRecord, partition_count: i32) -> Option<i32> {
///         let zone = record.key.as_ref()?.first()?;
///         Some(i32::from(*zone) % partition_count)
///     }
/// }
/// ```
pub trait Partitioner: Debug + Send + Sync {
    /// The partition, from 0 to `partition_count - 1`, or `None` for the built-in rules. Called only
    /// for records that do not name a partition themselves. Must be quick: it runs under the lock of
    /// the accumulator.
    fn partition(&self, record: &ProducerRecord, partition_count: i32) -> Option<i32>;
}

/// The partition of a key by Kafka's default rule: `toPositive(murmur2(key)) % partition_count`.
///
/// # Panics
/// If `partition_count` is not positive.
pub fn partition_for_key(key: &[u8], partition_count: i32) -> i32 {
    assert!(partition_count > 0, "a topic has at least one partition");
    (murmur2(key) & i32::MAX) % partition_count
}

/// The 32-bit `MurmurHash2` variant of Kafka's Java client (`Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn partitions_are_in_range_for_any_key() {
        for length in 0..64u8 {
            let key: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37) ^ 0xa5).collect();
            for count in [1, 3, 12, 1_000] {
                assert!((0..count).contains(&partition_for_key(&key, count)));
            }
        }
        // toPositive clears the sign bit; it does not negate.
        assert_eq!(partition_for_key(b"21", 1_000), 1_173_551_340 % 1_000);
    }
}
