//! Notices a projection that has something to do and does not get on. Pure: the caller brings the
//! time.

use std::time::Duration;

/// What is seen of a projection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// It says of itself that it is at work.
    pub running: bool,
    /// There are records to apply.
    pub lags: bool,
    /// Grows with everything that it does.
    pub progress: u64,
}

/// What the watchdog thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, or it says itself what is not.
    Fine,
    /// No progress for so long while there is lag.
    Stalled(Duration),
}

/// Watches one projection.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    patience: Duration,
    seen: u64,
    /// When it last did something, or had nothing to do.
    since: Duration,
}

impl Watchdog {
    /// Waits that long for progress. `now` is the time since some fixed moment.
    pub const fn new(patience: Duration, now: Duration) -> Self {
        Self {
            patience,
            seen: 0,
            since: now,
        }
    }

    /// Looks at it.
    pub fn look(&mut self, now: Duration, seen: Observation) -> Verdict {
        if !seen.running || !seen.lags || seen.progress != self.seen {
            self.seen = seen.progress;
            self.since = now;
        }
        let waited = now.saturating_sub(self.since);
        if waited >= self.patience {
            Verdict::Stalled(waited)
        } else {
            Verdict::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn seen(progress: u64) -> Observation {
        Observation {
            running: true,
            lags: true,
            progress,
        }
    }

    #[test]
    fn it_barks_when_nothing_moves_and_stops_when_it_does() {
        let mut dog = Watchdog::new(at(30), at(0));
        assert_eq!(dog.look(at(10), seen(1)), Verdict::Fine);
        assert_eq!(dog.look(at(39), seen(1)), Verdict::Fine);
        assert_eq!(dog.look(at(40), seen(1)), Verdict::Stalled(at(30)));
        assert_eq!(dog.look(at(50), seen(1)), Verdict::Stalled(at(40)));
        assert_eq!(dog.look(at(51), seen(2)), Verdict::Fine);
    }

    #[test]
    fn who_has_nothing_to_do_or_pauses_is_left_alone() {
        let mut dog = Watchdog::new(at(30), at(0));
        let idle = Observation {
            lags: false,
            ..seen(1)
        };
        let paused = Observation {
            running: false,
            ..seen(1)
        };
        assert_eq!(dog.look(at(100), idle), Verdict::Fine);
        assert_eq!(dog.look(at(200), paused), Verdict::Fine);
        assert_eq!(dog.look(at(229), seen(1)), Verdict::Fine);
        assert_eq!(dog.look(at(230), seen(1)), Verdict::Stalled(at(30)));
    }
}
