//! Groups that go from one protocol to the other while their members work (KIP-848, "migration").
//!
//! A classic group of consumers becomes a group of the consumer protocol when a member joins it by a
//! heartbeat of that protocol (`upgrade`). Its classic members stay: they go on joining, syncing and
//! sending heartbeats as before, and the coordinator answers them out of the same target assignment
//! (`classic_members`). When the last member by the consumer protocol has gone and classic ones are
//! left, the group becomes a classic group again (`downgrade`).
//!
//! Invariants: a group with members is of one kind at any time, by its records and live; a partition
//! that a member was assigned stays in its hands over both changes until it gives it up; epochs and
//! generations are one line of numbers, which does not go back.

mod classic_members;
mod downgrade;
mod upgrade;

#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod shard;
#[cfg(test)]
mod simulation;

pub(crate) use upgrade::{upgrade_records, upgraded};

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::Assignment;
use crate::group::Group;

/// An assignment by the names that a group's topics have. What has no name any more is left out.
fn named(group: &Group, partitions: &Assignment) -> BTreeMap<String, BTreeSet<i32>> {
    let names: BTreeMap<Uuid, &String> = group
        .topics
        .iter()
        .map(|(name, topic)| (topic.id, name))
        .collect();
    partitions
        .topics()
        .filter_map(|(id, partitions)| Some(((*names.get(&id)?).clone(), partitions.clone())))
        .collect()
}
