//! States of a pack session.

use super::State;

/// Where a pack session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackState {
    /// Made, not begun.
    Created,
    /// Lines are scanned.
    Scanning,
    /// Every line is scanned.
    ReadyForCarton,
    /// The cartons are chosen.
    ReadyToPack,
    /// Pieces go into cartons.
    Packing,
    /// Cartons are closed.
    ReadyToWeigh,
    /// The check was passed.
    QcPassed,
    /// The check was failed: packed again.
    QcFailed,
    /// Labels may be printed.
    ReadyToShip,
    /// Done.
    Completed,
    /// Given up.
    Cancelled,
}

impl State for PackState {
    const MACHINE: &'static str = "pack session";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Created => false,
            Self::Scanning => self == Self::Created,
            Self::ReadyForCarton => self == Self::Scanning,
            Self::ReadyToPack => self == Self::ReadyForCarton,
            Self::Packing => matches!(self, Self::ReadyToPack | Self::QcFailed),
            Self::ReadyToWeigh => self == Self::Packing,
            Self::QcPassed | Self::QcFailed => self == Self::ReadyToWeigh,
            Self::ReadyToShip => self == Self::QcPassed,
            Self::Completed => self == Self::ReadyToShip,
            Self::Cancelled => !self.is_terminal(),
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}
