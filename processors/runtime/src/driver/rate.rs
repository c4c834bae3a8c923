//! Keeps to the rate that a person gave the filling of a build.

use std::time::{Duration, Instant};

use super::membership::End;
use super::{Driver, Stop};
use crate::projection::Projection;
use crate::rebuild::Filling;
use crate::record::Decoder;

/// How much was taken in since when.
pub(super) struct Rate {
    since: Instant,
    records: u64,
}

impl Rate {
    pub(super) fn start() -> Self {
        Self {
            since: Instant::now(),
            records: 0,
        }
    }

    /// How long to wait after some more records.
    fn after(&mut self, filling: &Filling, records: u64) -> Duration {
        self.records += records;
        let wait = filling.wait(self.records, self.since.elapsed());
        if wait.is_zero() {
            // What was not used of the rate is not made up for.
            *self = Self::start();
        }
        wait
    }
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// Waits as long as the rate asks for.
    pub(super) async fn slow_down(
        &self,
        rate: &mut Rate,
        records: u64,
        stop: Stop<'_>,
    ) -> Result<(), End> {
        let Some(filling) = &self.config.filling else {
            return Ok(());
        };
        let wait = rate.after(filling, records);
        if wait.is_zero() || tokio::time::timeout(wait, stop).await.is_err() {
            return Ok(());
        }
        Err(End::Stopped)
    }
}
