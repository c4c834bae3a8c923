//! The network: every message may be late, lost, doubled or overtaken; links may be cut one way.

use std::collections::BTreeMap;

use conveyor_log::disk::SimRng;

use crate::message::Address;
use crate::{MS, Micros};

/// How the network behaves between cuts.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Messages lost, of a million.
    pub loss_ppm: u64,
    /// Messages that come twice, of a million.
    pub repeat_ppm: u64,
    /// Messages that take long, of a million.
    pub late_ppm: u64,
    /// How long at most.
    pub late_max: Micros,
}

impl Weather {
    /// Nothing is lost, doubled or very late.
    pub const FAIR: Self = Self {
        loss_ppm: 0,
        repeat_ppm: 0,
        late_ppm: 0,
        late_max: 0,
    };
}

/// The links and the weather.
#[derive(Debug)]
pub struct Network {
    /// What it is like now.
    pub weather: Weather,
    /// How many cuts lie on a link, from sender to receiver.
    cuts: BTreeMap<(Address, Address), u32>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            weather: Weather::FAIR,
            cuts: BTreeMap::new(),
        }
    }
}

impl Network {
    /// Cuts the way from `from` to `to`.
    pub fn cut(&mut self, from: Address, to: Address) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: Address, to: Address) {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Takes all cuts back.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
        self.weather = Weather::FAIR;
    }

    /// After how long a message arrives: never, once or twice.
    pub fn delays(&self, from: Address, to: Address, rng: &mut SimRng) -> [Option<Micros>; 2] {
        let weather = self.weather;
        if self.cuts.contains_key(&(from, to)) || rng.below(1_000_000) < weather.loss_ppm {
            return [None, None];
        }
        let delay = |rng: &mut SimRng| {
            let late = rng.below(1_000_000) < weather.late_ppm;
            let more = if late {
                rng.below(weather.late_max as u64) as Micros
            } else {
                0
            };
            MS / 5 + rng.below(MS as u64) as Micros + more
        };
        let first = delay(rng);
        let again = rng.below(1_000_000) < weather.repeat_ppm;
        // The repetition is a late one more often than not: those are the ones that matter.
        let second =
            again.then(|| delay(rng) + rng.below(weather.late_max.max(1) as u64) as Micros);
        [Some(first), second]
    }
}
