//! Moves one member a step towards its target assignment.
//!
//! The order is what keeps a partition from having two owners: a member first gives up what the
//! target takes from it and says so, only then goes to the target's epoch, and only gets what
//! nobody else holds. Members do this each at their own pace; none waits for all.

use uuid::Uuid;

use crate::{Assignment, CurrentAssignment, HeldPartitions, MemberState};

/// What the step depends on.
pub(crate) struct Step<'a, F> {
    /// Epoch of the target assignment.
    pub(crate) target_epoch: i32,
    /// The member's part of it.
    pub(crate) target: &'a Assignment,
    /// What the member says it owns; `None` when it says nothing.
    pub(crate) owned: Option<&'a Assignment>,
    /// Whether another member holds a partition.
    pub(crate) is_held_by_other: F,
}

impl<F: Fn(Uuid, i32) -> bool> Step<'_, F> {
    /// The member's next state; the same when it cannot go on yet.
    pub(crate) fn from(&self, current: &CurrentAssignment) -> CurrentAssignment {
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch => current.clone(),
            MemberState::Stable => self.next(current, current.epoch),
            MemberState::UnrevokedPartitions if self.still_owns(&current.pending_revocation) => {
                current.clone()
            }
            MemberState::UnrevokedPartitions => self.next(current, current.epoch + 1),
            MemberState::UnreleasedPartitions => self.next(current, current.epoch),
            // The caller fences such a member, which comes back with a fresh state.
            MemberState::Unknown(_) => current.clone(),
        }
    }

    /// Whether the member still has any of `partitions`, as far as it has told.
    fn still_owns(&self, partitions: &HeldPartitions) -> bool {
        self.owned
            .is_none_or(|owned| owned.iter().any(|(t, p)| partitions.contains(t, p)))
    }

    fn next(&self, current: &CurrentAssignment, epoch: i32) -> CurrentAssignment {
        let mut next = CurrentAssignment::clone(current);
        next.assigned = HeldPartitions::new();
        next.pending_revocation = HeldPartitions::new();
        for (topic, partition, since) in current.assigned.iter() {
            if self.target.contains(topic, partition) {
                next.assigned.insert(topic, partition, since);
            } else {
                next.pending_revocation.insert(topic, partition, since);
            }
        }
        if !next.pending_revocation.is_empty() && self.still_owns(&next.pending_revocation) {
            next.state = MemberState::UnrevokedPartitions;
            next.set_epoch(epoch);
            return next;
        }

        next.pending_revocation = HeldPartitions::new();
        next.state = MemberState::Stable;
        for (topic, partition) in self.target.iter() {
            if next.assigned.contains(topic, partition) {
                continue;
            }
            if (self.is_held_by_other)(topic, partition) {
                next.state = MemberState::UnreleasedPartitions;
            } else {
                next.assigned.insert(topic, partition, self.target_epoch);
            }
        }
        next.set_epoch(self.target_epoch);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Uuid = Uuid::from_u128(1);

    fn parts(partitions: impl IntoIterator<Item = i32>) -> Assignment {
        partitions.into_iter().map(|p| (T, p)).collect()
    }

    /// Partitions, each with the epoch since which it is held.
    fn held<const N: usize>(partitions: [(i32, i32); N]) -> HeldPartitions {
        partitions.into_iter().map(|(p, e)| (T, p, e)).collect()
    }

    fn stable(epoch: i32, assigned: &[i32]) -> CurrentAssignment {
        CurrentAssignment {
            epoch,
            previous_epoch: epoch - 1,
            assigned: HeldPartitions::all_since(epoch, &parts(assigned.iter().copied())),
            ..CurrentAssignment::default()
        }
    }

    fn step(
        current: &CurrentAssignment,
        target_epoch: i32,
        target: &[i32],
        owned: Option<&[i32]>,
        held: &[i32],
    ) -> CurrentAssignment {
        let owned = owned.map(|owned| parts(owned.iter().copied()));
        let step = Step {
            target_epoch,
            target: &parts(target.iter().copied()),
            owned: owned.as_ref(),
            is_held_by_other: |_, partition| held.contains(&partition),
        };
        step.from(current)
    }

    #[test]
    fn a_member_without_losses_goes_straight_to_the_target() {
        let next = step(&stable(4, &[0]), 6, &[0, 1], None, &[]);
        assert_eq!((next.epoch, next.previous_epoch), (6, 4));
        assert_eq!(
            (next.state, next.assigned),
            (MemberState::Stable, held([(0, 4), (1, 6)]))
        );
    }

    #[test]
    fn losses_come_first_and_keep_the_epoch() {
        let next = step(&stable(4, &[0, 1]), 6, &[1, 2], None, &[]);
        assert_eq!(
            (next.epoch, next.state),
            (4, MemberState::UnrevokedPartitions)
        );
        assert_eq!(
            (next.assigned, next.pending_revocation),
            (held([(1, 4)]), held([(0, 4)]))
        );
    }

    #[test]
    fn silence_is_not_a_revocation() {
        let waiting = step(&stable(4, &[0, 1]), 6, &[1, 2], None, &[]);
        assert_eq!(step(&waiting, 6, &[1, 2], None, &[]), waiting);
        assert_eq!(step(&waiting, 6, &[1, 2], Some(&[0, 1]), &[]), waiting);
    }

    #[test]
    fn a_revocation_told_takes_the_member_on() {
        let waiting = step(&stable(4, &[0, 1]), 6, &[1, 2], None, &[]);
        let next = step(&waiting, 6, &[1, 2], Some(&[1]), &[]);
        assert_eq!((next.epoch, next.state), (6, MemberState::Stable));
        assert_eq!(
            (next.assigned, next.pending_revocation),
            (held([(1, 4), (2, 6)]), held([]))
        );
    }

    #[test]
    fn a_target_that_moved_meanwhile_may_take_more() {
        let waiting = step(&stable(4, &[0, 1]), 6, &[1], None, &[]);
        let next = step(&waiting, 9, &[2], Some(&[1]), &[]);
        assert_eq!(
            (next.epoch, next.previous_epoch),
            (5, 4),
            "one step, not the target's epoch"
        );
        assert_eq!(next.state, MemberState::UnrevokedPartitions);
        assert_eq!(
            (next.assigned, next.pending_revocation),
            (held([]), held([(1, 4)]))
        );
    }

    #[test]
    fn a_partition_that_comes_back_is_held_anew() {
        let waiting = step(&stable(4, &[0, 1]), 6, &[1], None, &[]);
        let without = step(&waiting, 6, &[1], Some(&[1]), &[]);
        let again = step(&without, 7, &[0, 1], Some(&[1]), &[]);
        assert_eq!(again.assigned, held([(0, 7), (1, 4)]));
    }

    #[test]
    fn what_others_hold_is_waited_for() {
        let next = step(&stable(4, &[0]), 6, &[0, 1, 2], None, &[2]);
        assert_eq!(
            (next.epoch, next.state),
            (6, MemberState::UnreleasedPartitions)
        );
        assert_eq!(next.assigned, held([(0, 4), (1, 6)]));
        let later = step(&next, 6, &[0, 1, 2], None, &[]);
        assert_eq!(
            (later.epoch, later.previous_epoch),
            (6, 4),
            "a missed answer is still known"
        );
        assert_eq!(
            (later.state, later.assigned),
            (MemberState::Stable, held([(0, 4), (1, 6), (2, 6)]))
        );
    }
}
