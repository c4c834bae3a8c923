//! Chance that can be repeated: numbers drawn from a seed and a name.
//!
//! Every order, wave and sku draws from its own stream, so what happens to one does not depend on
//! how many others there are. The generator is `SplitMix64` written out, so that a run made today can
//! be repeated with any later version of any library.

/// A stream of drawn numbers.
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

/// Mixes all bits of a number: the finalizer of `SplitMix64`, a bijection.
pub(super) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// FNV-1a over the name, begun with the seed.
fn hash(seed: u64, name: &str) -> u64 {
    name.bytes()
        .fold(mix(seed) ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

impl Draw {
    /// The stream of the thing that `name` names, in the run of `seed`.
    pub(super) fn of(seed: u64, name: &str) -> Self {
        Self(mix(hash(seed, name)))
    }

    /// Any number.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 128 bits, for ids.
    pub(super) fn bytes(&mut self) -> [u8; 16] {
        let (high, low) = (u128::from(self.bits()), u128::from(self.bits()));
        ((high << 64) | low).to_be_bytes()
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "nothing lies between {low} and {high}");
        let width = u128::from(high.abs_diff(low)) + 1;
        low + ((u128::from(self.bits()) * width) >> 64) as i64
    }

    /// True with the probability of `per_million` in a million.
    pub(super) fn chance(&mut self, per_million: i64) -> bool {
        self.between(1, 1_000_000) <= per_million
    }

    /// One of the choices, each with its weight.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(T, i64)]) -> T {
        let total: i64 = choices.iter().map(|(_, weight)| weight).sum();
        let mut at = self.between(1, total);
        for (choice, weight) in choices {
            at -= weight;
            if at <= 0 {
                return *choice;
            }
        }
        unreachable!("the weights add up to {total}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_seed_give_one_stream() {
        let stream = |seed, name| {
            let mut draw = Draw::of(seed, name);
            [draw.bits(), draw.bits(), draw.bits()]
        };
        assert_eq!(stream(1, "order 7"), stream(1, "order 7"));
        assert_ne!(stream(1, "order 7"), stream(2, "order 7"));
        assert_ne!(stream(1, "order 7"), stream(1, "order 8"));
    }

    #[test]
    fn draws_stay_in_range_and_reach_its_ends() {
        let mut draw = Draw::of(1, "range");
        let drawn: std::collections::BTreeSet<i64> =
            (0..1000).map(|_| draw.between(-2, 3)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2, 3]);
    }

    #[test]
    fn chances_come_true_about_as_often_as_they_should() {
        let mut draw = Draw::of(1, "chance");
        let hits = (0..100_000).filter(|_| draw.chance(20_000)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
    }
}
