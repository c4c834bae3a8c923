//! How many records one transaction takes: as many as the store writes in a few seconds. Fewer would
//! waste what a large batch saves: many events of one row become one write.
//!
//! A store's call has a bound in time. A batch that a slow store cannot write within it would be
//! brought again and again, and fail each time; and an owner that is busy for long neither hears
//! that its partitions are wanted elsewhere nor shows progress. So the size follows the store: down
//! at once to what would have fitted, up by doubling while full batches are quick.

use std::time::Duration;

/// How long a batch should take.
const TARGET: Duration = Duration::from_secs(4);
/// The first batch's records: a store may turn out slow.
const FIRST: usize = 256;
/// Fewer records are not worth a transaction, however slow the store is.
const LEAST: usize = 16;

/// The size of the next batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize {
    records: usize,
    records_max: usize,
}

impl BatchSize {
    /// A size that never exceeds `records_max`; 1 or more.
    pub(super) fn up_to(records_max: usize) -> Self {
        let records_max = records_max.max(1);
        Self {
            records: FIRST.min(records_max),
            records_max,
        }
    }

    /// Records of the next batch, at most.
    pub(super) const fn records(self) -> usize {
        self.records
    }

    /// A batch of so many records took so long, whether it was written or gave up.
    pub(super) fn took(&mut self, records: usize, elapsed: Duration) {
        let in_target = records as u128 * TARGET.as_micros() / elapsed.as_micros().max(1);
        let fitting = usize::try_from(in_target).unwrap_or(usize::MAX);
        let wanted = if elapsed > TARGET {
            fitting.max(LEAST).min(self.records)
        } else if records >= self.records {
            fitting.clamp(self.records, self.records.saturating_mul(2))
        } else {
            // It says nothing about a full one.
            self.records
        };
        self.records = wanted.min(self.records_max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Batches of a store that takes `each` for a record and `always` for a transaction.
    fn settle(size: &mut BatchSize, each: Duration, always: Duration) -> Vec<Duration> {
        let mut took = Vec::new();
        for _ in 0..20 {
            let records = size.records();
            let elapsed = always + each * u32::try_from(records).unwrap();
            size.took(records, elapsed);
            took.push(elapsed);
        }
        took
    }

    #[test]
    fn a_quick_store_gets_the_largest_batches_soon() {
        let mut size = BatchSize::up_to(2_048);
        settle(
            &mut size,
            Duration::from_micros(50),
            Duration::from_millis(5),
        );
        assert_eq!(size.records(), 2_048);
    }

    #[test]
    fn a_slow_store_gets_what_it_can_write_in_time() {
        let mut size = BatchSize::up_to(2_048);
        let took = settle(&mut size, Duration::from_millis(20), Duration::ZERO);
        assert_eq!(size.records(), 200);
        assert!(took[1..].iter().all(|took| *took <= TARGET), "{took:?}");
    }

    #[test]
    fn a_store_that_recovers_gets_large_batches_again() {
        let mut size = BatchSize::up_to(2_048);
        size.took(2_048, Duration::from_secs(40));
        assert_eq!(size.records(), 204);
        settle(&mut size, Duration::from_micros(50), Duration::ZERO);
        assert_eq!(size.records(), 2_048);
    }

    #[test]
    fn small_batches_change_nothing_unless_they_are_slow() {
        let mut size = BatchSize::up_to(1_000);
        size.took(3, Duration::from_millis(1));
        assert_eq!(size.records(), FIRST);
        size.took(3, Duration::from_secs(5));
        assert_eq!(size.records(), LEAST);
    }

    proptest! {
        #[test]
        fn the_size_stays_within_its_bounds(
            records_max in 0usize..5_000,
            steps in proptest::collection::vec((0usize..5_000, 0u64..50_000_000), 0..50),
        ) {
            let mut size = BatchSize::up_to(records_max);
            for (records, micros) in steps {
                size.took(records, Duration::from_micros(micros));
                prop_assert!((1..=records_max.max(1)).contains(&size.records()));
            }
        }
    }
}
