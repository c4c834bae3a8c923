//! As even as subscriptions allow, and as sticky as that allows.
//!
//! First everybody keeps what it has and may have. Then what nobody has goes, one partition at a
//! time, to the subscriber with the least. At last, while some chain of hand-overs leads from a
//! member to another with at least two partitions less (each member on the way gives one and gets
//! one), partitions are handed along the shortest such chain. Without such a chain no assignment is
//! more even; with equal subscriptions all counts are then within one of each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;

use super::MemberSpec;
use crate::Assignment;

pub(super) fn assign<'m>(
    members: &BTreeMap<&'m str, MemberSpec<'_>>,
    topics: &BTreeMap<Uuid, i32>,
) -> BTreeMap<&'m str, Assignment> {
    let mut table = Table::new(members, topics);
    table.keep_previous();
    table.deal_out_the_rest();
    table.even_out();
    members
        .keys()
        .zip(table.assigned)
        .map(|(id, assignment)| (*id, assignment))
        .collect()
}

/// Members are numbered by their place in the order of ids.
struct Table<'a> {
    topics: &'a BTreeMap<Uuid, i32>,
    specs: Vec<&'a MemberSpec<'a>>,
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    assigned: Vec<Assignment>,
    loads: Vec<usize>,
}

/// How a member was reached: who would give it a partition of which topic.
type Step = (usize, Uuid);

impl<'a> Table<'a> {
    fn new(members: &'a BTreeMap<&str, MemberSpec<'a>>, topics: &'a BTreeMap<Uuid, i32>) -> Self {
        let specs: Vec<&MemberSpec<'a>> = members.values().collect();
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (member, spec) in specs.iter().enumerate() {
            for topic in spec
                .topics
                .iter()
                .filter(|topic| topics.contains_key(topic))
            {
                subscribers.entry(*topic).or_default().push(member);
            }
        }
        let count = specs.len();
        Self {
            topics,
            specs,
            subscribers,
            assigned: vec![Assignment::new(); count],
            loads: vec![0; count],
        }
    }

    fn give(&mut self, member: usize, topic: Uuid, partition: i32) {
        self.assigned[member].insert(topic, partition);
        self.loads[member] += 1;
    }

    fn keep_previous(&mut self) {
        let mut taken = Assignment::new();
        for member in 0..self.specs.len() {
            let spec = self.specs[member];
            for (topic, partition) in spec.previous.iter() {
                let exists = self
                    .topics
                    .get(&topic)
                    .is_some_and(|count| partition < *count);
                // The last target gave each partition to one member; an odd one is not trusted.
                if exists && spec.topics.contains(&topic) && taken.insert(topic, partition) {
                    self.give(member, topic, partition);
                }
            }
        }
    }

    fn deal_out_the_rest(&mut self) {
        let taken: Assignment = self.assigned.iter().flat_map(Assignment::iter).collect();
        // Topics with few subscribers first: the others' can still even it out.
        let mut in_order: Vec<(usize, Uuid)> = self
            .subscribers
            .iter()
            .map(|(topic, members)| (members.len(), *topic))
            .collect();
        in_order.sort_unstable();
        for (_, topic) in in_order {
            let mut by_load: BTreeSet<(usize, usize)> = self.subscribers[&topic]
                .iter()
                .map(|&m| (self.loads[m], m))
                .collect();
            for partition in 0..self.topics[&topic] {
                if taken.contains(topic, partition) {
                    continue;
                }
                if let Some((load, member)) = by_load.pop_first() {
                    self.give(member, topic, partition);
                    by_load.insert((load + 1, member));
                }
            }
        }
    }

    fn even_out(&mut self) {
        // Members from which no chain leads down to somebody with less need not be asked again:
        // whoever they could reach cannot reach anybody with less either.
        let mut settled = vec![false; self.specs.len()];
        loop {
            let most = (0..self.specs.len())
                .filter(|&member| !settled[member])
                .max_by_key(|&member| (self.loads[member], std::cmp::Reverse(member)));
            let Some(start) = most else { return };
            match self.chain_from(start) {
                Some(chain) => self.hand_along(&chain),
                None => settled[start] = true,
            }
        }
    }

    /// The shortest chain of hand-overs from a member to one with at least two partitions less,
    /// from its end to its start.
    fn chain_from(&self, start: usize) -> Option<Vec<(Step, usize)>> {
        let mut reached: Vec<Option<Step>> = vec![None; self.specs.len()];
        let mut seen_topics = BTreeSet::new();
        let mut queue = VecDeque::from([start]);
        while let Some(giver) = queue.pop_front() {
            for (topic, _) in self.assigned[giver].topics() {
                if !seen_topics.insert(topic) {
                    continue; // whoever can take of it has been reached
                }
                let mut takers = self.subscribers[&topic].clone();
                takers.sort_by_key(|&taker| (self.loads[taker], taker));
                for taker in takers {
                    if taker == start || reached[taker].is_some() {
                        continue;
                    }
                    reached[taker] = Some((giver, topic));
                    if self.loads[taker] + 2 <= self.loads[start] {
                        return Some(chain_to(&reached, start, taker));
                    }
                    queue.push_back(taker);
                }
            }
        }
        None
    }

    fn hand_along(&mut self, chain: &[(Step, usize)]) {
        for ((giver, topic), taker) in chain {
            let partition = self.partition_to_give(*giver, *taker, *topic);
            if let Some(partition) = partition {
                self.assigned[*giver].remove(*topic, partition);
                self.loads[*giver] -= 1;
                self.give(*taker, *topic, partition);
            }
        }
    }

    /// The last partition of the topic that the taker had before, else that is new to the giver,
    /// else the last.
    fn partition_to_give(&self, giver: usize, taker: usize, topic: Uuid) -> Option<i32> {
        let of_topic = || {
            self.assigned[giver]
                .iter()
                .filter(|(t, _)| *t == topic)
                .map(|(_, p)| p)
        };
        let had = |member: usize, partition| self.specs[member].previous.contains(topic, partition);
        of_topic()
            .filter(|p| had(taker, *p))
            .last()
            .or_else(|| of_topic().filter(|p| !had(giver, *p)).last())
            .or_else(|| of_topic().last())
    }
}

fn chain_to(reached: &[Option<Step>], start: usize, end: usize) -> Vec<(Step, usize)> {
    let mut chain = Vec::new();
    let mut taker = end;
    while taker != start {
        let Some(step) = reached[taker] else { break };
        chain.push((step, taker));
        taker = step.0;
    }
    chain
}
