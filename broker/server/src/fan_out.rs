//! The same blocking work on many things at once: opening, creating, closing logs.
//!
//! Such work waits for the disk far more than it computes, and file systems commit the syncs of
//! several threads together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// More do not help: recovery is bound by cores, creation by the file system's journal.
const THREADS_MAX: usize = 16;
/// A thread is not worth starting for fewer items than this.
const ITEMS_PER_THREAD: usize = 4;

/// Does `work` on every item, on several threads if there are many; results in order.
pub(crate) fn fan_out<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = items.len().div_ceil(ITEMS_PER_THREAD).min(THREADS_MAX);
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let places: Vec<Mutex<(Option<T>, Option<R>)>> = items
        .into_iter()
        .map(|item| Mutex::new((Some(item), None)))
        .collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let item = place.lock().0.take();
                    let result = item.map(&work);
                    place.lock().1 = result;
                }
            });
        }
    });
    // Every place was visited: the scope ends only after all threads have run out of places.
    places
        .into_iter()
        .filter_map(|place| place.into_inner().1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::fan_out;

    #[test]
    fn results_come_in_order_whatever_the_number() {
        for count in [0usize, 1, 4, 5, 1_000] {
            let doubled = fan_out((0..count).collect(), |number| number * 2);
            let expected: Vec<usize> = (0..count).map(|number| number * 2).collect();
            assert_eq!(doubled, expected);
        }
    }
}
