//! An owner that writes nothing would never be refused: when another build takes the live one's
//! place, or another instance its partitions, it would take what it last knew for the truth and stand
//! at "lag 0". So it looks now and then.

use std::time::{Duration, Instant};

use super::Driver;
use crate::driver::ownership::Ownership;
use crate::projection::Projection;
use crate::record::Decoder;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// When to look.
#[derive(Debug)]
pub(super) struct Vigil {
    last: Instant,
}

impl Vigil {
    pub(super) fn start() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    /// Whether it is time to look; counts as looked.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= LOOK_EVERY;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

impl<P: Projection, D: Decoder<Event = P::Event>> Driver<P, D> {
    /// What shows that the store no longer takes this instance for the owner of what it owns, or no
    /// longer stands where this instance left it. A store that is away shows nothing.
    pub(super) async fn superseded(&self, owned: &Ownership) -> Option<String> {
        let declaration = self.applier.declaration();
        let doing = |what: &str| self.status.update(|s| what.clone_into(&mut s.doing));
        doing("asking the store where it stands");
        let positions = self.store.positions(declaration).await;
        doing("waiting for records");
        positions.ok()?.into_iter().find_map(|position| {
            let claim = owned.get(&position.topic_partition)?;
            let same = position.owner_epoch <= claim.owner_epoch
                && claim
                    .next_offset
                    .is_none_or(|next| next == position.next_offset);
            (!same).then(|| {
                format!(
                    "the store stands at {} of {} under owner epoch {}, not at {} under {}",
                    position.next_offset,
                    position.topic_partition,
                    position.owner_epoch,
                    claim.next_offset.unwrap_or_default(),
                    claim.owner_epoch
                )
            })
        })
    }
}
