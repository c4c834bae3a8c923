//! Who may move a position on, and from where: the same rule for every store.

use conveyor_processors::record::TopicPartition;
use conveyor_processors::store::{Advance, OwnerEpoch, Position, StoreError};
use conveyor_record::Offset;

/// What a store holds of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) topic_partition: TopicPartition,
    /// `None`: claimed, and nothing of it in the rows yet.
    pub(crate) next_offset: Option<Offset>,
    pub(crate) owner_epoch: OwnerEpoch,
}

impl Held {
    /// As the contract shows it; `None` where nothing is in the rows yet.
    pub(crate) fn position(&self) -> Option<Position> {
        Some(Position {
            topic_partition: self.topic_partition.clone(),
            next_offset: self.next_offset?,
            owner_epoch: self.owner_epoch,
        })
    }
}

/// Whether a batch follows on, and whether whoever brings it is still the owner.
pub(crate) fn check(
    projection: &str,
    held: &[Held],
    advances: &[Advance],
) -> Result<(), StoreError> {
    for advance in advances {
        let held = find(held, &advance.topic_partition);
        if let Some(held) = held
            && held.owner_epoch != advance.owner_epoch
        {
            return Err(fenced(projection, held, advance.owner_epoch));
        }
        let found = held.and_then(|held| held.next_offset);
        if found != advance.from {
            return Err(StoreError::NotAtPosition {
                projection: projection.to_owned(),
                topic_partition: advance.topic_partition.clone(),
                found,
                expected: advance.from,
            });
        }
    }
    Ok(())
}

/// Whether an owner of that epoch may claim the partitions.
pub(crate) fn check_claim(
    projection: &str,
    held: &[Held],
    owner_epoch: OwnerEpoch,
    take_over: bool,
) -> Result<(), StoreError> {
    let newer = held.iter().find(|held| held.owner_epoch > owner_epoch);
    match newer {
        Some(held) if !take_over => Err(fenced(projection, held, owner_epoch)),
        _ => Ok(()),
    }
}

/// Whether the positions stand where the advances lead, under the same owners: the transaction whose
/// answer was lost has been written. One that moves no position (parked records that are redriven)
/// leaves no such trace: it is done again, and finds in the rows what it has done.
pub(crate) fn is_done(held: &[Held], advances: &[Advance]) -> bool {
    let moves = |advance: &Advance| advance.from != Some(advance.to);
    advances.iter().any(moves)
        && advances.iter().all(|advance| {
            find(held, &advance.topic_partition).is_some_and(|held| {
                held.owner_epoch == advance.owner_epoch && held.next_offset == Some(advance.to)
            })
        })
}

pub(crate) fn find<'h>(held: &'h [Held], topic_partition: &TopicPartition) -> Option<&'h Held> {
    held.iter()
        .find(|held| held.topic_partition == *topic_partition)
}

fn fenced(projection: &str, held: &Held, offered: OwnerEpoch) -> StoreError {
    StoreError::Fenced {
        projection: projection.to_owned(),
        topic_partition: held.topic_partition.clone(),
        stored: held.owner_epoch,
        offered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(next_offset: Option<i64>, epoch: i64) -> Held {
        Held {
            topic_partition: TopicPartition::new("t", 0),
            next_offset: next_offset.map(Offset),
            owner_epoch: OwnerEpoch(epoch),
        }
    }

    fn advance(from: Option<i64>, to: i64, epoch: i64) -> Advance {
        Advance {
            topic_partition: TopicPartition::new("t", 0),
            from: from.map(Offset),
            to: Offset(to),
            owner_epoch: OwnerEpoch(epoch),
        }
    }

    #[test]
    fn only_the_owner_goes_on_and_only_from_where_the_store_stands() {
        let check = |held: &[Held], advance: Advance| check("p", held, &[advance]);
        assert!(check(&[], advance(None, 3, 1)).is_ok());
        assert!(check(&[held(None, 1)], advance(None, 3, 1)).is_ok());
        assert!(check(&[held(Some(3), 1)], advance(Some(3), 5, 1)).is_ok());
        for epoch in [1, 3] {
            let refused = check(&[held(Some(3), 2)], advance(Some(3), 5, epoch));
            assert!(
                matches!(refused, Err(StoreError::Fenced { .. })),
                "{refused:?}"
            );
        }
        for from in [None, Some(2), Some(4)] {
            let refused = check(&[held(Some(3), 1)], advance(from, 5, 1));
            assert!(
                matches!(refused, Err(StoreError::NotAtPosition { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_claim_needs_an_epoch_that_is_not_older() {
        let claim =
            |epoch, take_over| check_claim("p", &[held(None, 2)], OwnerEpoch(epoch), take_over);
        assert!(claim(2, false).is_ok() && claim(3, false).is_ok() && claim(1, true).is_ok());
        assert!(claim(1, false).is_err());
    }

    #[test]
    fn what_was_written_is_told_from_what_was_not() {
        let advances = [advance(Some(3), 5, 1)];
        assert!(is_done(&[held(Some(5), 1)], &advances));
        assert!(!is_done(&[held(Some(3), 1)], &advances));
        assert!(
            !is_done(&[held(Some(5), 2)], &advances),
            "somebody else has got there"
        );
        assert!(!is_done(&[], &advances));
        let unmoved = [advance(Some(5), 5, 1)];
        assert!(!is_done(&[held(Some(5), 1)], &unmoved), "nobody can tell");
    }
}
