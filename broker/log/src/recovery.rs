//! What happens to a partition between an unclean stop and the first append.

use std::time::Duration;

use conveyor_record::Offset;

use crate::error::Damage;

/// What opening a log had to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last stop was clean (or nothing lay above the recovery point): nothing was scanned.
    pub clean: bool,
    /// Bytes of log read and checked.
    pub bytes_scanned: u64,
    /// Bytes cut behind the last whole batch, zero-filled tail not counted.
    pub bytes_truncated: u64,
    /// Where the log ends now.
    pub log_end_offset: Offset,
    /// Index files that had to be rebuilt.
    pub indexes_rebuilt: u32,
    /// What was found damaged below the recovery point; it is kept as it is and never served.
    pub damage: Vec<Damage>,
    /// How long it took.
    pub duration: Duration,
}
