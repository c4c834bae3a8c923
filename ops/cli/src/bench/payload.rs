//! Values that compress about as well as asked, made before the clock starts.

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Memory for distinct values: more than any batch, so that no codec finds a value twice in one.
const POOL_BYTES: usize = 16 << 20;
/// What the compressible part is made of.
const TEXT: &[u8] = br#"{"specversion":"1.0","type":"com.paklog.order","status":"released"}"#;

/// Values of one size, handed out in turn without copying.
#[derive(Debug)]
pub(super) struct Payloads {
    values: Vec<Bytes>,
    next: usize,
}

impl Payloads {
    /// Values of `size` bytes, of which the share `compressibility` repeats.
    pub(super) fn new(size: usize, compressibility: f64, seed: u64) -> Self {
        let count = (POOL_BYTES / size.max(1)).clamp(16, 65_536);
        let random_bytes = (size as f64 * (1.0 - compressibility)).round() as usize;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pool = Vec::with_capacity(count * size);
        for _ in 0..count {
            let start = pool.len();
            pool.resize(start + random_bytes, 0);
            rng.fill_bytes(&mut pool[start..]);
            pool.extend(TEXT.iter().copied().cycle().take(size - random_bytes));
        }
        let pool = Bytes::from(pool);
        let values = (0..count)
            .map(|n| pool.slice(n * size..(n + 1) * size))
            .collect();
        Self { values, next: 0 }
    }

    /// The next value.
    pub(super) fn next(&mut self) -> Bytes {
        let value = self.values[self.next].clone();
        self.next = (self.next + 1) % self.values.len();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_their_share_of_chance() {
        for (size, compressibility, random_bytes) in
            [(1_000, 0.75, 250), (100, 0.0, 100), (7, 1.0, 0)]
        {
            let mut payloads = Payloads::new(size, compressibility, 1);
            let (first, second) = (payloads.next(), payloads.next());
            assert_eq!((first.len(), second.len()), (size, size));
            assert_eq!(first[random_bytes..], second[random_bytes..]);
            assert!(random_bytes < 16 || first[..random_bytes] != second[..random_bytes]);
        }
    }

    #[test]
    fn a_seed_gives_the_same_values() {
        let values = |seed| Payloads::new(64, 0.5, seed).next();
        assert_eq!(values(3), values(3));
        assert_ne!(values(3), values(4));
    }
}
