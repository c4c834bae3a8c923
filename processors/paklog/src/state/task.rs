//! States of a work task.

use super::State;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Made, not yet in a queue.
    Pending,
    /// In its zone's queue.
    Queued,
    /// A worker has it.
    Assigned,
    /// The worker took it on.
    Accepted,
    /// The worker is at it.
    InProgress,
    /// Done.
    Completed,
    /// It could not be done.
    Failed,
    /// It need not be done.
    Cancelled,
}

impl State for TaskState {
    const MACHINE: &'static str = "task";

    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Pending => false,
            Self::Queued => matches!(self, Self::Pending | Self::Assigned),
            Self::Assigned => self == Self::Queued,
            Self::Accepted => self == Self::Assigned,
            Self::InProgress => self == Self::Accepted,
            Self::Completed | Self::Failed => self == Self::InProgress,
            Self::Cancelled => !self.is_terminal(),
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
