//! Who wants to know that a partition has more to read.
//!
//! A long poll or a fetch stream watches many partitions at once. Each of its watches has a key; when
//! the partition moves, the key is put into the watcher's [`WakeSet`] and its task is woken, once for
//! all partitions that moved meanwhile. Nothing is polled and nothing waits on a timer; an idle
//! watcher costs a few words.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The partitions of one watcher that have moved since it last looked.
#[derive(Debug, Default)]
pub(crate) struct WakeSet {
    moved: Mutex<HashSet<u64>>,
    notify: Notify,
}

impl WakeSet {
    /// Waits until at least one key has moved and takes all of them, in no particular order and
    /// each at most once. Cancel-safe: keys stay until they are returned.
    pub(crate) async fn moved(&self) -> Vec<u64> {
        loop {
            let notified = self.notify.notified();
            let moved = self.take();
            if !moved.is_empty() {
                return moved;
            }
            notified.await;
        }
    }

    /// Takes the keys that have moved, if any.
    pub(crate) fn take(&self) -> Vec<u64> {
        let moved = std::mem::take(&mut *self.moved.lock());
        moved.into_iter().collect()
    }

    /// Marks a key as moved, as a partition does.
    pub(crate) fn mark(&self, key: u64) {
        let is_news = self.moved.lock().insert(key);
        if is_news {
            self.notify.notify_one();
        }
    }
}

/// The watchers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    list: Mutex<Vec<Entry>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    key: u64,
    wake: Arc<WakeSet>,
}

impl Watchers {
    /// Wakes all.
    pub(super) fn wake(&self) {
        for entry in self.list.lock().iter() {
            entry.wake.mark(entry.key);
        }
    }

    /// Adds a watcher; the number takes it out again.
    pub(super) fn add(&self, wake: Arc<WakeSet>, key: u64) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.list.lock().push(Entry { id, key, wake });
        id
    }

    pub(super) fn remove(&self, id: u64) {
        self.list.lock().retain(|entry| entry.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_learns_each_partition_once() {
        let watchers = [Watchers::default(), Watchers::default()];
        let wake = Arc::new(WakeSet::default());
        for (key, partition) in watchers.iter().enumerate() {
            partition.add(Arc::clone(&wake), key as u64);
        }
        watchers[1].wake();
        watchers[1].wake();
        watchers[0].wake();
        let mut moved = wake.moved().await;
        moved.sort_unstable();
        assert_eq!(moved, [0, 1]);
        assert!(wake.take().is_empty());
    }

    #[tokio::test]
    async fn a_move_between_look_and_wait_is_not_lost() {
        let watchers = Arc::new(Watchers::default());
        let wake = Arc::new(WakeSet::default());
        watchers.add(Arc::clone(&wake), 7);
        let mover = Arc::clone(&watchers);
        let task = tokio::spawn(async move { wake.moved().await });
        tokio::task::yield_now().await;
        mover.wake();
        assert_eq!(task.await.unwrap(), [7]);
    }

    #[test]
    fn a_watcher_that_left_is_not_woken() {
        let watchers = Watchers::default();
        let wake = Arc::new(WakeSet::default());
        let id = watchers.add(Arc::clone(&wake), 1);
        watchers.remove(id);
        watchers.wake();
        assert!(wake.take().is_empty());
    }
}
