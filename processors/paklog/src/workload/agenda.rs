//! What is going to happen, in the order of event time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things to do, the earliest first; of two at one time, the one that was put down first.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    put_down: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at_ms: i64,
    sequence: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: BinaryHeap::new(),
            put_down: 0,
        }
    }

    /// Puts down what is to happen at `at_ms`.
    pub(super) fn at(&mut self, at_ms: i64, what: T) {
        self.put_down += 1;
        self.entries.push(Reverse(Entry {
            at_ms,
            sequence: self.put_down,
            what,
        }));
    }

    /// When the next thing happens.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.entries.peek().map(|Reverse(entry)| entry.at_ms)
    }

    /// Takes the next thing, with its time.
    pub(super) fn take(&mut self) -> Option<(i64, T)> {
        self.entries
            .pop()
            .map(|Reverse(entry)| (entry.at_ms, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_decides_and_then_the_order_of_putting_down() {
        let mut agenda = Agenda::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            agenda.at(at, what);
        }
        let taken: String = std::iter::from_fn(|| agenda.take())
            .map(|(_, what)| what)
            .collect();
        assert_eq!(taken, "abcd");
    }
}
