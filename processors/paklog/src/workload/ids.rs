//! Ids in the shapes that `PakLog`'s services give them.

use uuid::Uuid;

use super::draw::{Draw, mix};

/// Gives out ids. Orders and events have UUIDs; everything else a prefix and eight hexadecimal
/// digits, which are a bijection of a counter: they look drawn, and none comes twice.
#[derive(Debug)]
pub(super) struct Ids {
    seed: u64,
    events: u64,
    issued: u32,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            events: 0,
            issued: 0,
        }
    }

    /// The id of the `part`-th order (from 0) that the source's order became.
    pub(super) fn order(&self, source_order: &str, part: usize) -> Uuid {
        let mut draw = Draw::of(self.seed, &format!("order id {source_order}/{part}"));
        uuid::Builder::from_random_bytes(draw.bytes()).into_uuid()
    }

    /// A new event's id, and the span id that goes with it.
    pub(super) fn event(&mut self) -> (Uuid, u64) {
        self.events += 1;
        let high = mix(mix(self.seed) ^ self.events);
        let low = mix(high ^ self.events);
        let id = (u128::from(high) << 64) | u128::from(low);
        // A span id of zero would be invalid.
        (
            uuid::Builder::from_random_bytes(id.to_be_bytes()).into_uuid(),
            low | 1,
        )
    }

    /// The next id with that prefix, `TASK-0A1B2C3D`.
    pub(super) fn next(&mut self, prefix: &str) -> String {
        assert!(
            self.issued < u32::MAX,
            "all ids of eight hexadecimal digits are used up"
        );
        self.issued += 1;
        format!(
            "{prefix}-{:08X}",
            scatter(self.issued ^ mix(self.seed) as u32)
        )
    }
}

/// A bijection of 32 bits: odd factors and shifted exclusive ors can be undone.
const fn scatter(mut bits: u32) -> u32 {
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    bits ^ (bits >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let mut ids = Ids::new(7);
        let issued: std::collections::BTreeSet<String> =
            (0..50_000).map(|_| ids.next("TASK")).collect();
        assert_eq!(issued.len(), 50_000);
        assert!(
            issued
                .iter()
                .all(|id| id.len() == 13 && id.starts_with("TASK-"))
        );
        let events: std::collections::BTreeSet<Uuid> = (0..50_000).map(|_| ids.event().0).collect();
        assert_eq!(events.len(), 50_000);
    }

    #[test]
    fn an_orders_id_depends_on_seed_order_and_part_alone() {
        let id = |seed, part| Ids::new(seed).order("31198481877", part);
        assert_eq!(id(1, 0), id(1, 0));
        assert_ne!(id(1, 0), id(1, 1));
        assert_ne!(id(1, 0), id(2, 0));
    }
}
