//! When the clock of a partition goes on by itself.

/// Moves the clocks of partitions on in which nothing comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleRule {
    /// A partition is idle when all of it has been applied and nothing new has come for this long.
    pub after_ms: i64,
    /// How far the clock of an idle partition stays behind wall time: the longest that a record may be
    /// on its way from its time stamp to the log.
    pub behind_ms: i64,
}

impl Default for IdleRule {
    /// Idle after 10 s; two minutes behind, as a producer gives a record up after so long.
    fn default() -> Self {
        Self {
            after_ms: 10_000,
            behind_ms: 120_000,
        }
    }
}

impl IdleRule {
    /// Where the clock of a partition may stand now, that has brought nothing for `quiet_ms`; `None`
    /// while it is not idle.
    pub const fn clock_ms(&self, quiet_ms: i64, wall_ms: i64) -> Option<i64> {
        if quiet_ms < self.after_ms {
            return None;
        }
        Some(wall_ms.saturating_sub(self.behind_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_idle_partition_follows_wall_time_and_stays_behind_it() {
        let rule = IdleRule {
            after_ms: 10,
            behind_ms: 100,
        };
        assert_eq!(rule.clock_ms(9, 5_000), None);
        assert_eq!(rule.clock_ms(10, 5_000), Some(4_900));
    }
}
