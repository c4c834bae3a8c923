//! Newest offset of each key, in a fixed amount of memory.
//!
//! Holds no keys, only 128 bits of hash: with a billion keys the chance that any two share one is
//! about 10^-21. The hash is keyed at random, so that nobody can make keys that do. Open addressing
//! with linear probing in one flat table; full at three quarters.

use std::hash::{BuildHasher, Hasher, RandomState};

use conveyor_record::Offset;

const SLOT_BYTES: usize = 24;
const SLOTS_MIN: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// -1: empty.
    offset: i64,
}

const EMPTY: Slot = Slot {
    hash: [0; 2],
    offset: -1,
};

/// The table. Memory is taken when it is filled, not when it is made.
#[derive(Debug)]
pub(super) struct KeyMap {
    hashers: [RandomState; 2],
    slots_max: usize,
    slots: Vec<Slot>,
    used: usize,
}

impl KeyMap {
    /// A map that uses at most `bytes`, but has room for a few keys in any case.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            slots_max: (bytes / SLOT_BYTES).max(SLOTS_MIN),
            slots: Vec::new(),
            used: 0,
        }
    }

    /// Forgets all keys and gives the memory back: a cleaner idles most of the time.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
        self.used = 0;
    }

    /// Notes that `key` has a record at `offset`, which must not lie below what is known. `false` if
    /// there is no room for a new key.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        if self.used * 4 >= self.slots.len() * 3 && !self.grow() && self.get(key).is_none() {
            return false;
        }
        let hash = self.hash(key);
        let index = self.find(hash);
        let slot = &mut self.slots[index];
        if slot.offset < 0 {
            self.used += 1;
            slot.hash = hash;
        }
        slot.offset = slot.offset.max(offset.value());
        true
    }

    /// Newest known offset of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    /// Room for a batch of `count` new keys?
    pub(super) fn has_room_for(&self, count: usize) -> bool {
        (self.used + count) * 4 <= self.slots_max * 3
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The slot of a hash, or the empty one where it would go.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut index = (hash[0] % self.slots.len() as u64) as usize;
        while self.slots[index].offset >= 0 && self.slots[index].hash != hash {
            index = (index + 1) % self.slots.len();
        }
        index
    }

    /// Doubles the table up to its limit; `false` if it cannot grow.
    fn grow(&mut self) -> bool {
        let wanted = (self.slots.len() * 2).clamp(SLOTS_MIN, self.slots_max);
        if wanted <= self.slots.len() {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; wanted]);
        for slot in old.into_iter().filter(|slot| slot.offset >= 0) {
            let index = self.find(slot.hash);
            self.slots[index] = slot;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_is_kept() {
        let mut map = KeyMap::new(1 << 20);
        for offset in 0..10_000_i64 {
            assert!(map.put(format!("key-{}", offset % 3000).as_bytes(), Offset(offset)));
        }
        for key in 0..3000_i64 {
            let newest = (9_999 - key) / 3000 * 3000 + key;
            assert_eq!(
                map.get(format!("key-{key}").as_bytes()),
                Some(Offset(newest))
            );
        }
        assert_eq!(map.get(b"other"), None);
        map.clear();
        assert_eq!(map.get(b"key-1"), None);
        assert_eq!(map.slots.capacity(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut map = KeyMap::new(100 * SLOT_BYTES);
        let taken = (0..1000_i64)
            .take_while(|n| map.put(&n.to_be_bytes(), Offset(*n)))
            .count();
        assert_eq!(taken, 75);
        assert!(map.slots.len() <= 100);
        assert!(
            map.put(&3_i64.to_be_bytes(), Offset(5000)),
            "a known key needs no room"
        );
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(Offset(5000)));
        assert!(!map.has_room_for(1));
    }
}
