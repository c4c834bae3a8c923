//! How fast a client has to be while others wait for the memory that its request or reply holds.
//!
//! It may not stand still, and it has to have come far enough since the beginning: a byte now and
//! then is no progress.

use std::time::Duration;

use tokio::time::Instant;

/// Every transfer is given this long, and may stand still for as long.
const GRACE: Duration = Duration::from_secs(10);
/// A large transfer must be such that all of it takes no longer than this.
const WHOLE: Duration = Duration::from_mins(1);
/// Bytes a second that are asked of smaller ones too.
const RATE_MIN: usize = 64 * 1024;

/// The pace of one transfer.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Bytes of all of it.
    size: usize,
    /// Bytes that were missing when it was looked at last.
    missing: usize,
    /// When that was found to have changed.
    moved: Instant,
}

impl Pace {
    /// Of a transfer that begins now.
    pub(super) fn begin(size: usize, now: Instant) -> Self {
        Self {
            begun: now,
            size,
            missing: size,
            moved: now,
        }
    }

    /// Whether it stands still, or more bytes are missing than should be by now. To be asked every
    /// second or so.
    pub(super) fn is_slow(&mut self, missing: usize, now: Instant) -> bool {
        if missing != self.missing {
            (self.missing, self.moved) = (missing, now);
        }
        let elapsed = now.duration_since(self.begun);
        let rate = RATE_MIN.max(self.size / WHOLE.as_secs() as usize);
        let due = elapsed.as_secs_f64() * rate as f64;
        let is_behind = ((self.size - missing) as f64) < due;
        elapsed >= GRACE && (is_behind || now.duration_since(self.moved) >= GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_byte_now_and_then_is_too_slow() {
        let begun = Instant::now();
        let mut pace = Pace::begin(64 * MIB, begun);
        assert!(!pace.is_slow(64 * MIB, begun + Duration::from_secs(9)));
        assert!(pace.is_slow(64 * MIB - 10, begun + GRACE));
    }

    #[test]
    fn a_large_transfer_has_a_minute_and_a_small_one_its_rate() {
        let begun = Instant::now();
        let mut large = Pace::begin(60 * MIB, begun);
        let halfway = begun + Duration::from_secs(30);
        assert!(!large.is_slow(29 * MIB, halfway));
        assert!(large.is_slow(31 * MIB, halfway));
        assert!(large.is_slow(1, begun + WHOLE + Duration::from_secs(1)));

        let mut small = Pace::begin(2 * MIB, begun);
        assert!(!small.is_slow(MIB, begun + Duration::from_secs(15)));
        assert!(small.is_slow(MIB, begun + Duration::from_secs(17)));
    }

    #[test]
    fn what_stands_still_is_slow_however_much_has_come() {
        let begun = Instant::now();
        let mut pace = Pace::begin(60 * MIB, begun);
        assert!(!pace.is_slow(MIB, begun + Duration::from_secs(5)));
        assert!(!pace.is_slow(MIB, begun + Duration::from_secs(14)));
        assert!(pace.is_slow(MIB, begun + Duration::from_secs(15)));
        assert!(!pace.is_slow(MIB - 1, begun + Duration::from_secs(16)));
    }
}
