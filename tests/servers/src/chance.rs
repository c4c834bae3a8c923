//! Choices of a test that hurts things at random: a seed, told so that a run's choices can be
//! repeated, and numbers that follow from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Repeats a run's choices.
const SEED: &str = "CONVEYOR_TEST_SEED";

/// Numbers that look random: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// By the seed that `CONVEYOR_TEST_SEED` gives, else by one of its own; tells it on standard error.
    #[allow(clippy::print_stderr, reason = "a failing run tells its seed")]
    #[allow(clippy::new_without_default, reason = "it differs each time")]
    pub fn new() -> Self {
        let given = std::env::var(SEED).ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        eprintln!("{SEED}={seed}");
        Self(seed)
    }

    /// The same numbers each time.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A time below so many ms.
    pub fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_again_and_they_spread() {
        let draw = |seed| {
            let mut chance = Chance::of(seed);
            std::array::from_fn::<u64, 64, _>(|_| chance.below(6))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((0..6).all(|face| draw(7).contains(&face)), "{:?}", draw(7));
    }
}
