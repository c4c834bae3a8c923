//! The clock of one node: runs a little fast or slow, and jumps.

use crate::Micros;

/// Shows local milliseconds for simulated time.
#[derive(Debug, Clone, Default)]
pub struct NodeClock {
    /// How much faster than simulated time, in parts per million; negative is slower.
    skew_ppm: i64,
    offset_us: Micros,
}

impl NodeClock {
    /// A clock that is `offset_us` ahead and runs `skew_ppm` too fast.
    pub const fn new(skew_ppm: i64, offset_us: Micros) -> Self {
        Self {
            skew_ppm,
            offset_us,
        }
    }

    /// What it shows at `now`.
    pub const fn now_ms(&self, now: Micros) -> i64 {
        (now + now / 1_000_000 * self.skew_ppm + self.offset_us) / 1_000
    }

    /// Moves its hands.
    pub const fn jump(&mut self, by: Micros) {
        self.offset_us += by;
    }
}
