//! States of a pick session and of its instructions.

use super::State;

/// Where a pick session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PickState {
    /// Made, not begun.
    Created,
    /// The picker is walking.
    InProgress,
    /// The picker takes a break.
    Paused,
    /// No instruction is pending any more.
    Completed,
    /// Given up.
    Cancelled,
}

impl State for PickState {
    const MACHINE: &'static str = "pick session";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Created => false,
            Self::InProgress => matches!(self, Self::Created | Self::Paused),
            Self::Paused | Self::Completed => self == Self::InProgress,
            Self::Cancelled => !self.is_terminal(),
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Where one instruction, a line to pick, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionState {
    /// Not yet reached.
    Pending,
    /// The picker is there.
    InProgress,
    /// Picked in full.
    Picked,
    /// Fewer pieces than asked for.
    ShortPicked,
    /// Left out.
    Skipped,
    /// Need not be picked.
    Cancelled,
}

impl State for InstructionState {
    const MACHINE: &'static str = "pick instruction";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Pending => false,
            Self::InProgress => self == Self::Pending,
            Self::Picked | Self::ShortPicked => self == Self::InProgress,
            Self::Skipped | Self::Cancelled => !self.is_terminal(),
        }
    }

    fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Picked | Self::ShortPicked | Self::Skipped | Self::Cancelled
        )
    }
}
