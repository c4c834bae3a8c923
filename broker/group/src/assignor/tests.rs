//! What an assignment must be, whoever the members are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::{Assignor, MemberSpec, assign};
use crate::Assignment;

fn topic(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}

/// A group: topics with their partitions, members with the topics they want.
#[derive(Clone, Debug)]
struct Case {
    topics: Vec<i32>,
    members: Vec<BTreeSet<usize>>,
}

impl Case {
    fn homogeneous(topics: &[i32], members: usize) -> Self {
        let all = (0..topics.len()).collect();
        Self {
            topics: topics.to_vec(),
            members: vec![all; members],
        }
    }

    fn counts(&self) -> BTreeMap<Uuid, i32> {
        self.topics
            .iter()
            .enumerate()
            .map(|(number, count)| (topic(number), *count))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        (0..self.members.len())
            .map(|member| format!("m{member:03}"))
            .collect()
    }

    fn assign(&self, assignor: Assignor, previous: &[Assignment]) -> Vec<Assignment> {
        let (names, nothing) = (self.names(), Assignment::new());
        let specs: BTreeMap<&str, MemberSpec<'_>> = names
            .iter()
            .enumerate()
            .map(|(member, name)| {
                let spec = MemberSpec {
                    instance_id: None,
                    topics: self.members[member]
                        .iter()
                        .map(|number| topic(*number))
                        .collect(),
                    previous: previous.get(member).unwrap_or(&nothing),
                };
                (name.as_str(), spec)
            })
            .collect();
        assign(assignor, &specs, &self.counts())
            .into_values()
            .collect()
    }
}

fn total(case: &Case) -> usize {
    let wanted: BTreeSet<usize> = case.members.iter().flatten().copied().collect();
    wanted
        .into_iter()
        .map(|number| case.topics[number] as usize)
        .sum()
}

/// Each wanted partition has one owner, who wants it.
fn check_valid(case: &Case, assigned: &[Assignment]) {
    let mut owners = BTreeSet::new();
    for (member, assignment) in assigned.iter().enumerate() {
        for (id, partition) in assignment.iter() {
            assert!(
                owners.insert((id, partition)),
                "two owners of {id}-{partition}"
            );
            let number = id.as_u128() as usize - 1;
            assert!(case.members[member].contains(&number), "not subscribed");
            assert!(
                (0..case.topics[number]).contains(&partition),
                "no such partition"
            );
        }
    }
    assert_eq!(owners.len(), total(case), "partitions without owner");
}

/// Whether handing partitions along a chain of members could make the counts more even. Looks for
/// it by brute force: the members that a member can hand to, directly or through others.
fn could_be_more_even(case: &Case, assigned: &[Assignment]) -> bool {
    let members = case.members.len();
    let hands_to = |from: usize, to: usize| {
        assigned[from]
            .topics()
            .any(|(id, _)| case.members[to].contains(&(id.as_u128() as usize - 1)))
    };
    (0..members).any(|start| {
        let mut reached = BTreeSet::from([start]);
        let mut todo = vec![start];
        while let Some(from) = todo.pop() {
            for to in 0..members {
                if hands_to(from, to) && reached.insert(to) {
                    todo.push(to);
                }
            }
        }
        reached
            .iter()
            .any(|end| assigned[*end].count() + 2 <= assigned[start].count())
    })
}

fn case() -> impl Strategy<Value = Case> {
    (1_usize..6, 1_usize..9).prop_flat_map(|(topics, members)| {
        let wanted = proptest::collection::btree_set(0..topics, 0..=topics);
        (
            proptest::collection::vec(0_i32..12, topics),
            proptest::collection::vec(wanted, members),
        )
            .prop_map(|(topics, members)| Case { topics, members })
    })
}

fn moved(before: &[Assignment], after: &[Assignment]) -> usize {
    before
        .iter()
        .zip(after)
        .map(|(before, after)| {
            before
                .iter()
                .filter(|(t, p)| !after.contains(*t, *p))
                .count()
        })
        .sum()
}

#[test]
fn uniform_gives_everybody_as_much_within_one() {
    let case = Case::homogeneous(&[7, 6], 4);
    let assigned = case.assign(Assignor::Uniform, &[]);
    let mut counts: Vec<usize> = assigned.iter().map(Assignment::count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [3, 3, 3, 4]);
}

#[test]
fn uniform_moves_only_what_a_new_member_needs() {
    let four = Case::homogeneous(&[16], 4);
    let before = four.assign(Assignor::Uniform, &[]);
    let five = Case::homogeneous(&[16], 5);
    let after = five.assign(Assignor::Uniform, &before);
    check_valid(&five, &after);
    assert_eq!(moved(&before, &after), 3, "the newcomer's share, no more");
}

#[test]
fn uniform_moves_nothing_when_a_member_leaves_but_its_own() {
    let three = Case::homogeneous(&[9], 3);
    let before = three.assign(Assignor::Uniform, &[]);
    let two = Case::homogeneous(&[9], 2);
    let after = two.assign(Assignor::Uniform, &before[..2]);
    check_valid(&two, &after);
    assert_eq!(moved(&before[..2], &after), 0);
}

#[test]
fn uniform_hands_on_through_members_that_gain_nothing() {
    // a: t0; b: t0, t1; c: t1. All of t0 lies with a, all of t1 with b: b must pass t1 to c.
    let case = Case {
        topics: vec![4, 2],
        members: vec![
            BTreeSet::from([0]),
            BTreeSet::from([0, 1]),
            BTreeSet::from([1]),
        ],
    };
    let all = |number, count| {
        (0..count)
            .map(|p| (topic(number), p))
            .collect::<Assignment>()
    };
    let after = case.assign(
        Assignor::Uniform,
        &[all(0, 4), all(1, 2), Assignment::new()],
    );
    check_valid(&case, &after);
    assert!(
        after.iter().all(|assignment| assignment.count() == 2),
        "{after:?}"
    );
}

#[test]
fn range_deals_topics_out_alike() {
    let case = Case::homogeneous(&[5, 5], 2);
    let assigned = case.assign(Assignor::Range, &[]);
    let partitions = |number: usize, member: usize| {
        assigned[member]
            .iter()
            .filter(|(id, _)| *id == topic(number))
            .map(|(_, p)| p)
            .collect()
    };
    for number in 0..2 {
        let (first, second): (Vec<i32>, Vec<i32>) = (partitions(number, 0), partitions(number, 1));
        assert_eq!((first, second), (vec![0, 1, 2], vec![3, 4]));
    }
}

#[test]
fn range_keeps_the_place_of_static_members_under_new_ids() {
    let (nothing, counts) = (Assignment::new(), BTreeMap::from([(topic(0), 4)]));
    let spec = |instance_id| MemberSpec {
        instance_id,
        topics: BTreeSet::from([topic(0)]),
        previous: &nothing,
    };
    let before = BTreeMap::from([("x", spec(Some("i-1"))), ("y", spec(Some("i-2")))]);
    let after = BTreeMap::from([("z", spec(Some("i-1"))), ("y", spec(Some("i-2")))]);
    let before = assign(Assignor::Range, &before, &counts);
    let after = assign(Assignor::Range, &after, &counts);
    assert_eq!((&before["x"], &before["y"]), (&after["z"], &after["y"]));
}

#[test]
fn a_thousand_partitions_and_a_hundred_members_are_dealt_out_evenly() {
    let before = Case::homogeneous(&[100; 10], 99);
    let first = before.assign(Assignor::Uniform, &[]);
    let case = Case::homogeneous(&[100; 10], 100);
    let after = case.assign(Assignor::Uniform, &first);
    check_valid(&case, &after);
    assert!(after.iter().all(|assignment| assignment.count() == 10));
    assert_eq!(moved(&first, &after), 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_assignment_is_whole_and_wanted(case in case()) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            check_valid(&case, &case.assign(assignor, &[]));
        }
    }

    #[test]
    fn uniform_is_as_even_as_subscriptions_allow_whatever_was_before(
        case in case(),
        before in case(),
    ) {
        let previous = before.assign(Assignor::Range, &[]);
        let assigned = case.assign(Assignor::Uniform, &previous);
        check_valid(&case, &assigned);
        prop_assert!(!could_be_more_even(&case, &assigned), "{:?}", assigned);
    }

    #[test]
    fn uniform_leaves_what_is_even_as_it_is(case in case()) {
        let first = case.assign(Assignor::Uniform, &[]);
        prop_assert_eq!(&case.assign(Assignor::Uniform, &first), &first);
    }

    #[test]
    fn uniform_moves_no_more_than_the_newcomers_share(
        partitions in 1_i32..40,
        members in 1_usize..8,
    ) {
        let before = Case::homogeneous(&[partitions], members);
        let first = before.assign(Assignor::Uniform, &[]);
        let case = Case::homogeneous(&[partitions], members + 1);
        let after = case.assign(Assignor::Uniform, &first);
        prop_assert_eq!(moved(&first, &after), after[members].count());
    }
}
