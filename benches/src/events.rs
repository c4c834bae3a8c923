//! Batches of warehouse events, the same for every run.
//!
//! The events are CloudEvents in JSON of about 1 KiB, like those of the PakLog topics; a counter
//! mixed by a fixed function gives ids and numbers, so that codecs meet realistic data and every run
//! the same.

use bytes::Bytes;
use conveyor_record::{
    BatchBuilder, BatchError, BatchOptions, Codec, Compressor, NewRecord, ProduceRules,
};

/// The time of the first event, in ms since the epoch.
pub const START_MS: i64 = 1_700_000_000_000;

/// Rules under which the batches of this module pass: Kafka's defaults, at the events' time.
pub fn produce_rules() -> ProduceRules {
    ProduceRules {
        max_message_bytes: 2 << 20,
        now_ms: START_MS + 1_000_000_000,
        ..ProduceRules::default()
    }
}

/// Bytes of an event.
pub const EVENT_SIZE: usize = 1000;

/// The value of event `n`: a JSON event of `size` bytes, or a little less where that is too small
/// for its fixed parts.
pub fn event(n: u64, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size);
    let (a, b) = (mix(n), mix(n ^ 0x5555));
    text.extend([format!(
        r#"{{"specversion":"1.0","id":"{a:016x}-{b:016x}","source":"/warehouse/367/pick","#
    )]);
    text.extend([format!(r#""type":"paklog.task.completed","subject":"order-{}","time":"2026-03-{:02}T{:02}:{:02}:{:02}Z","#,
        a % 100_000,
        1 + b % 28,
        a % 24,
        b % 60,
        (a >> 8) % 60
    )]);
    text.push_str(r#""datacontenttype":"application/json","data":{"lines":["#);
    let mut line = 0;
    while text.len() + 110 < size {
        let c = mix(n.wrapping_mul(31).wrapping_add(line));
        text.extend([format!(
            r#"{{"sku":"SKU-{:06}","bin":"A-{:02}-{:02}","quantity":{},"picked":{}}},"#,
            c % 20_000,
            (c >> 20) % 40,
            (c >> 30) % 12,
            1 + (c >> 40) % 9,
            (c >> 50) % 9
        )]);
        line += 1;
    }
    text.push_str("]}}");
    text.truncate(size);
    text.into_bytes()
}

/// Bytes that header, key and lengths take beside the value of a record, at most.
const RECORD_OVERHEAD: usize = 64;

/// A batch of at most `size` bytes and little less, of events of about 1 KiB (one smaller event if
/// that is all there is room for); `n` makes it differ from others.
///
/// # Errors
/// [`BatchError::Empty`] if `size` has no room for a record.
pub fn batch(size: usize, codec: Codec, n: u64) -> Result<Bytes, BatchError> {
    let options = BatchOptions {
        codec,
        size_limit: size,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    loop {
        let count = builder.record_count() as u64;
        let left = size.saturating_sub(builder.size() + RECORD_OVERHEAD);
        if left == 0 || (left < EVENT_SIZE && count > 0) {
            return builder.build(&mut Compressor::new());
        }
        let number = n.wrapping_mul(10_000).wrapping_add(count);
        let key = format!("order-{}", mix(number) % 100_000);
        builder.append(&NewRecord {
            timestamp_ms: START_MS + number as i64 % 1_000_000,
            key: Some(key.as_bytes()),
            value: Some(&event(number, left.min(EVENT_SIZE))),
            headers: &[],
        })?;
    }
}

/// A number that looks random and is not (the finaliser of splitmix64).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use conveyor_record::{Batch, Decompressor, validate_produce};

    use super::*;

    #[test]
    fn batches_are_nearly_as_large_as_asked_and_valid() {
        for size in [1 << 10, 16 << 10, 64 << 10, 1 << 20] {
            let bytes = batch(size, Codec::None, 7).unwrap();
            assert!(
                bytes.len() <= size && bytes.len() + EVENT_SIZE + 200 > size,
                "{}",
                bytes.len()
            );
            validate_produce(&bytes, &produce_rules(), &mut Decompressor::new()).unwrap();
        }
    }

    #[test]
    fn the_same_number_gives_the_same_batch() {
        let one = batch(4096, Codec::None, 1).unwrap();
        assert!(one == batch(4096, Codec::None, 1).unwrap());
        assert!(one != batch(4096, Codec::None, 2).unwrap());
    }

    #[test]
    fn events_are_text_and_pack_like_text() {
        let packed = Batch::parse(batch(100_000, Codec::Zstd, 1).unwrap()).unwrap();
        let plain = batch(100_000, Codec::None, 1).unwrap();
        let ratio = plain.len() as f64 / packed.bytes().len() as f64;
        assert!((3.0..8.0).contains(&ratio), "{ratio}");
    }
}
