//! Deadlines as data: what is due when.
//!
//! Timers are no durable state. They start anew when a coordinator has been loaded, which gives
//! every member a whole session to find it.

use std::collections::{BTreeMap, BTreeSet};

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The member has been silent too long.
    Session { group_id: String, member_id: String },
    /// The member took too long to give up partitions.
    Rebalance { group_id: String, member_id: String },
    /// A classic member in a group of the consumer protocol took too long to join again.
    MemberJoin { group_id: String, member_id: String },
    /// Such a member took too long to ask for its assignment after it had joined.
    MemberSync { group_id: String, member_id: String },
    /// A classic member, or one that has only been given an id, has been silent too long.
    ClassicSession { group_id: String, member_id: String },
    /// The time to join a classic group's next generation is over.
    ClassicJoin { group_id: String },
    /// The time to ask for one's assignment in a classic group is over.
    ClassicSync { group_id: String },
    /// Time to look for offsets that nobody needs any more.
    OffsetExpiry,
}

/// Deadlines in milliseconds, one for each timer at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeSet<(i64, Timer)>,
    deadlines: BTreeMap<Timer, i64>,
}

impl Timers {
    /// Sets a timer, or sets it anew.
    pub(crate) fn schedule(&mut self, timer: Timer, deadline_ms: i64) {
        self.cancel(&timer);
        self.by_deadline.insert((deadline_ms, timer.clone()));
        self.deadlines.insert(timer, deadline_ms);
    }

    /// Sets a timer that is not set.
    pub(crate) fn schedule_if_absent(&mut self, timer: Timer, deadline_ms: i64) {
        if !self.deadlines.contains_key(&timer) {
            self.schedule(timer, deadline_ms);
        }
    }

    /// Forgets a timer.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.by_deadline.remove(&(deadline, timer));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now_ms: i64) -> Option<Timer> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        let (_, timer) = self.by_deadline.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(member_id: &str) -> Timer {
        Timer::Session {
            group_id: "g".into(),
            member_id: member_id.into(),
        }
    }

    #[test]
    fn timers_fire_once_and_in_order_and_the_last_setting_counts() {
        let mut timers = Timers::default();
        timers.schedule(session("a"), 10);
        timers.schedule(session("b"), 20);
        timers.schedule(session("a"), 30);
        assert_eq!(timers.next_deadline(), Some(20));
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(99), Some(session("b")));
        timers.cancel(&session("a"));
        assert_eq!((timers.pop_due(99), timers.next_deadline()), (None, None));
    }
}
