//! One simulated file: cache, platter, and the dirty pages between them.

use std::collections::BTreeSet;

use super::rng::SimRng;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A file. Invariant: where a page is not dirty and no sync of it has failed, both sides agree.
#[derive(Debug, Default)]
pub(super) struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The length differs from the platter's and was not synced.
    length_dirty: bool,
}

impl Inode {
    pub(super) fn cache(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn platter(&self) -> &[u8] {
        &self.platter
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let start = position as usize;
        let end = start + bytes.len();
        if end > self.cache.len() {
            // A hole up to the write is dirty too: it has to become zeros on the platter.
            self.mark(self.cache.len(), end);
            self.cache.resize(end, 0);
            self.length_dirty = true;
        }
        self.cache[start..end].copy_from_slice(bytes);
        self.mark(start, end);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len != self.cache.len() {
            let old = self.cache.len();
            self.cache.resize(len, 0);
            self.mark(old.min(len), old.max(len).min(len + PAGE));
            self.length_dirty = true;
        }
    }

    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.cache = bytes.to_vec();
        self.platter = bytes.to_vec();
        self.dirty.clear();
        self.length_dirty = false;
    }

    pub(super) fn flip_bit(&mut self, position: u64, bit: u8) -> bool {
        let position = position as usize;
        if position >= self.cache.len() {
            return false;
        }
        let mask = 1 << (bit % 8);
        self.cache[position] ^= mask;
        if let Some(byte) = self.platter.get_mut(position) {
            *byte ^= mask;
        }
        true
    }

    /// Everything dirty reaches the platter.
    pub(super) fn sync(&mut self) {
        self.platter.resize(self.cache.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.keep(page, 0, PAGE);
        }
        self.length_dirty = false;
    }

    /// The sync fails: some pages reach the platter, all are called clean.
    pub(super) fn fail_sync(&mut self, rng: &mut SimRng) {
        let keep_in = rng.below(4) + 1;
        if self.platter.len() < self.cache.len() || rng.one_in(2) {
            self.platter.resize(self.cache.len(), 0);
        }
        for page in std::mem::take(&mut self.dirty) {
            if rng.one_in(keep_in) {
                self.keep(page, 0, PAGE);
            }
        }
        self.length_dirty = false;
    }

    /// The power goes: the cache becomes what the platter holds after some of the dirty pages made it.
    pub(super) fn crash(&mut self, rng: &mut SimRng) {
        if self.length_dirty && rng.one_in(2) {
            self.platter.resize(self.cache.len(), 0);
        } else if self.length_dirty && self.cache.len() > self.platter.len() {
            // The file had grown in several steps, of which some are known to the journal.
            let grown = rng.below((self.cache.len() - self.platter.len()) as u64 + 1) as usize;
            let len = self.platter.len() + grown;
            self.platter.resize(len, 0);
        }
        let mode = rng.below(4);
        for page in std::mem::take(&mut self.dirty) {
            match mode {
                0 => {}
                1 => self.keep(page, 0, PAGE),
                _ => match rng.below(3) {
                    0 => {}
                    1 => self.keep(page, 0, PAGE),
                    _ => {
                        for sector in 0..PAGE / SECTOR {
                            if rng.one_in(2) {
                                self.keep(page, sector * SECTOR, (sector + 1) * SECTOR);
                            }
                        }
                    }
                },
            }
        }
        self.cache = self.platter.clone();
        self.length_dirty = false;
    }

    /// Copies a part of a page from the cache to the platter, within both lengths.
    fn keep(&mut self, page: usize, from: usize, to: usize) {
        let limit = self.cache.len().min(self.platter.len());
        let start = (page * PAGE + from).min(limit);
        let end = (page * PAGE + to).min(limit);
        self.platter[start..end].copy_from_slice(&self.cache[start..end]);
    }

    fn mark(&mut self, start: usize, end: usize) {
        if start < end {
            self.dirty.extend(start / PAGE..=(end - 1) / PAGE);
        }
    }
}
