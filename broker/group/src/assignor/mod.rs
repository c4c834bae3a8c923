//! Server-side assignors: who of a group's members shall have which partitions.
//!
//! Both are deterministic functions of the members, what they had before, and the topics.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::Assignment;

/// How partitions are dealt out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Every member has as many partitions as the others as far as subscriptions allow, and keeps
    /// as many as possible of those it has. The default.
    #[default]
    Uniform,
    /// Every member has a run of each topic's partitions, so that topics with as many partitions
    /// are dealt out alike and can be joined by key.
    Range,
}

impl Assignor {
    /// The assignor of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Its name, as Kafka's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// A member, as assignors see it.
#[derive(Clone, Debug)]
pub struct MemberSpec<'a> {
    /// Set for static members, which keep their place in the order when they come back.
    pub instance_id: Option<&'a str>,
    /// The topics it subscribes to.
    pub topics: BTreeSet<Uuid>,
    /// What the last target gave it.
    pub previous: &'a Assignment,
}

/// Deals out all partitions of `topics` (id to count) that any member subscribes to. Every member is
/// in the answer.
pub fn assign<'m>(
    assignor: Assignor,
    members: &BTreeMap<&'m str, MemberSpec<'_>>,
    topics: &BTreeMap<Uuid, i32>,
) -> BTreeMap<&'m str, Assignment> {
    match assignor {
        Assignor::Uniform => uniform::assign(members, topics),
        Assignor::Range => range::assign(members, topics),
    }
}

#[cfg(test)]
mod tests;
