//! States of a wave.

use super::State;

/// Where a wave stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaveState {
    /// Its orders are chosen.
    Planned,
    /// On the floor.
    Released,
    /// Picking has begun; no event says so.
    InProgress,
    /// Every order is ready to ship or cancelled.
    Completed,
    /// Given up.
    Cancelled,
}

impl State for WaveState {
    const MACHINE: &'static str = "wave";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Planned => false,
            Self::Released => self == Self::Planned,
            Self::InProgress => self == Self::Released,
            Self::Completed => self == Self::InProgress,
            Self::Cancelled => !self.is_terminal(),
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}
