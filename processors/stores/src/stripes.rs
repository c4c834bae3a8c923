//! Which rows are locked together.
//!
//! Instances that touch the same row must go one after the other, also when the row is not there
//! yet and a server has nothing to lock. So rows are locked by a hash of their key, in a fixed
//! number of stripes: few enough to lock them all for a big batch, many enough that small batches
//! seldom meet.

use std::collections::BTreeSet;

use conveyor_processors::{KeyPart, RowKey};

/// Locks of one projection.
pub(crate) const STRIPES: u32 = 256;

/// The stripes of some rows, in the order in which everybody locks them.
pub(crate) fn of(keys: &[RowKey]) -> BTreeSet<u32> {
    keys.iter().map(stripe).collect()
}

fn stripe(key: &RowKey) -> u32 {
    let mut hash = Fnv::new();
    hash.add(key.table.as_bytes());
    for part in &key.parts {
        hash.add(&[0]);
        match part {
            KeyPart::Text(text) => hash.add(text.as_bytes()),
            KeyPart::Integer(number) => hash.add(&number.to_be_bytes()),
        }
    }
    hash.0 % STRIPES
}

/// A number for a name; the same in every process and version.
pub(crate) fn number_of(name: &str) -> u32 {
    let mut hash = Fnv::new();
    hash.add(name.as_bytes());
    hash.0
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Fnv {
    const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(number_of(""), 0x811c_9dc5);
        assert_eq!(number_of("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn rows_are_spread_over_the_stripes() {
        let keys: Vec<_> = (0..2_000i64).map(|n| RowKey::new("t", n)).collect();
        assert!(of(&keys).len() > 240, "{}", of(&keys).len());
        assert_eq!(of(&keys[..1]).len(), 1);
    }
}
