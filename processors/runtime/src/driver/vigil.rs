//! An owner that writes nothing would never be refused: when another build takes the live one's
//! place, or another instance its partitions, it would take what it last knew for the truth and stand
//! at "lag 0". So it looks now and then.

use std::time::{Duration, Instant};

use super::Driver;
use crate::driver::ownership::{Claim, Ownership};
use crate::projection::Projection;
use crate::record::{Decoder, TopicPartition};
use crate::store::Position;

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
        difference(&owned.claims(), &positions.ok()?)
    }
}

/// What the store says otherwise of a partition than its owner does. A store that says nothing of one
/// has nothing of it: a build may have taken the live one's place that is not so far yet.
fn difference(claims: &[(TopicPartition, Claim)], positions: &[Position]) -> Option<String> {
    claims.iter().find_map(|(name, claim)| {
        let position = positions.iter().find(|p| p.topic_partition == *name);
        let is_same = match (claim.next_offset, position) {
            (ours, None) => ours.is_none(),
            (ours, Some(position)) => {
                position.owner_epoch <= claim.owner_epoch
                    && ours.is_none_or(|next| next == position.next_offset)
            }
        };
        if is_same {
            return None;
        }
        let theirs = position.map_or_else(
            || format!("nowhere in {name}"),
            |p| {
                let (at, epoch) = (p.next_offset, p.owner_epoch);
                format!("at {at} of {name} under owner epoch {epoch}")
            },
        );
        let ours = claim.next_offset.unwrap_or_default();
        let epoch = claim.owner_epoch;
        Some(format!(
            "the store stands {theirs}, not at {ours} under {epoch}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use conveyor_record::Offset;

    use super::*;
    use crate::store::OwnerEpoch;

    fn name() -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    fn position(next_offset: i64, epoch: i64) -> Position {
        Position {
            topic_partition: name(),
            next_offset: Offset(next_offset),
            owner_epoch: OwnerEpoch(epoch),
        }
    }

    /// What an owner under epoch 2 that stands at `next_offset` finds out.
    fn look(next_offset: Option<i64>, positions: &[Position]) -> Option<String> {
        let owned = Ownership::default();
        let known = next_offset.map(|next_offset| position(next_offset, 2));
        owned.claimed(&[name()], OwnerEpoch(2), known.into_iter().collect());
        difference(&owned.claims(), positions)
    }

    #[test]
    fn what_the_store_holds_as_the_owner_left_it_is_no_difference() {
        assert_eq!(look(Some(7), &[position(7, 2)]), None);
        assert_eq!(look(None, &[]), None);
        let other = Position {
            topic_partition: TopicPartition::new("t", 1),
            ..position(9, 9)
        };
        assert_eq!(look(Some(7), &[other, position(7, 2)]), None);
    }

    #[test]
    fn another_owner_or_another_place_is_one() {
        assert_eq!(
            look(Some(7), &[position(7, 3)]).unwrap(),
            "the store stands at 7 of t-0 under owner epoch 3, not at 7 under 2"
        );
        assert!(look(Some(7), &[position(5, 2)]).is_some());
        assert!(look(None, &[position(5, 3)]).is_some());
    }

    #[test]
    fn a_store_that_has_nothing_of_a_partition_is_one() {
        assert_eq!(
            look(Some(7), &[]).unwrap(),
            "the store stands nowhere in t-0, not at 7 under 2"
        );
    }
}
