//! What a transaction of firings does to the rows. Pure: it may run several times.

use super::{Timer, TimerRules};
use crate::projection::{ApplyError, Projection};
use crate::rows::Rows;
use crate::table::RowKey;

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    /// Rows that must be loaded first; then nothing of this run counts.
    pub(crate) asked: Vec<RowKey>,
    /// Names of timers that are no longer the store's, and did not fire.
    pub(crate) gone: Vec<String>,
    /// Timers that the projection refused, and why; they are removed and do nothing.
    pub(crate) refused: Vec<(Timer, ApplyError)>,
}

/// Fires timers, each once: those that are still set as they were.
pub(crate) fn fire_all<P: Projection>(
    projection: &P,
    rules: &TimerRules,
    timers: &[Timer],
    rows: &mut Rows,
) -> Fired {
    let mut fired = Fired::default();
    for timer in timers {
        let key = rules.timer_key(&timer.name);
        match rows.get(&key).map(|row| row.and_then(Timer::of)) {
            Ok(stored) if stored.as_ref() == Some(timer) => {}
            Ok(_) => {
                fired.gone.push(timer.name.clone());
                continue;
            }
            Err(error) => {
                ask(&mut fired, error, timer);
                continue;
            }
        }
        // First gone, then fired: what fires may set it anew.
        let done = rows
            .delete(&key)
            .and_then(|()| projection.fire(timer, rows));
        match done {
            Ok(()) => rows.accept(),
            Err(error) => {
                rows.roll_back();
                if ask(&mut fired, error, timer) {
                    continue;
                }
                if rows.delete(&key).is_ok() {
                    rows.accept();
                }
            }
        }
    }
    fired
}

/// Notes why a timer did not fire; whether it only waits for rows.
fn ask(fired: &mut Fired, error: ApplyError, timer: &Timer) -> bool {
    match error {
        ApplyError::NotNamed { keys } => {
            fired.asked.extend(keys);
            true
        }
        refused @ ApplyError::Record { .. } => {
            fired.refused.push((timer.clone(), refused));
            false
        }
    }
}
