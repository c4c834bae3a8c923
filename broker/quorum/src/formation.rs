//! What a node does whose folder is empty: found the cluster, join it, or wait.
//!
//! An empty folder has two meanings that look the same from inside: this cluster has never run, or it
//! has and this disk was wiped. To found the cluster again in the second case would bring back a voter
//! id whose votes and acknowledgements are forgotten. So a node asks all others that the settings name
//! as first voters, and founds the cluster only when every one of them has answered, in this life of
//! the process, that its own folder is empty too, or that it has founded the cluster and nobody has
//! campaigned since. As soon as one of them is past that, the node joins as a new member: a learner
//! under a new voter id, which takes its former self's place once it has caught up. While somebody
//! does not answer, it waits.
//!
//! Why that is safe: had this node's former self voted or acknowledged anything, then for a candidate,
//! who had made a later term durable before it asked. That candidate does not answer that nobody has
//! campaigned. Why it comes to an end: terms only move once a majority would vote (pre-vote), so when
//! one node is past the beginning, a majority is there to take the others in.
//!
//! What this cannot see: a list of this node alone is founded at once. A single voter that others have
//! joined must have the new list in its settings before its disk may be lost, or it founds the same
//! cluster once more; nodes refuse to run with a list that contradicts their quorum
//! ([`check_voters`]). A host that draws the cluster id of a list of one afresh closes this: then the
//! second founding is another cluster, whose messages the others refuse.

use std::collections::{BTreeMap, BTreeSet};

use conveyor_record::NodeId;
use uuid::Uuid;

use crate::membership::{Membership, MembershipError};
use crate::mutant::{self, Mutant};
use crate::store::Identity;

/// The answer of another node to the question what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Its folder is empty as well.
    Empty {
        /// The cluster it is to found.
        cluster_id: Uuid,
        /// The first voters by its settings.
        voters: BTreeSet<NodeId>,
    },
    /// It has founded the cluster, and nobody has campaigned that it knows of.
    Founded {
        /// Which.
        cluster_id: Uuid,
        /// The first voters.
        voters: BTreeSet<NodeId>,
    },
    /// It belongs to a cluster that is past its beginning.
    Member {
        /// Which.
        cluster_id: Uuid,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Ask these nodes again; they have not answered.
    Ask(BTreeSet<NodeId>),
    /// Make the folder that of a first voter.
    Bootstrap(Identity, Membership),
    /// Ask one of these to be taken in; they belong to the cluster.
    Join(BTreeSet<NodeId>),
}

/// Settings that do not go together with what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormationError {
    /// The list of first voters makes no sense.
    #[error("the settings' list of controllers: {0}")]
    Voters(#[from] MembershipError),
    /// Another node would found another cluster.
    #[error(
        "node {node_id} is to found cluster {theirs}, this node {ours}; give both the same cluster id"
    )]
    ClusterIdsDiffer {
        /// The other node.
        node_id: NodeId,
        /// Its cluster id.
        theirs: Uuid,
        /// Ours.
        ours: Uuid,
    },
    /// Another node would found it with others.
    #[error(
        "node {node_id} names controllers {theirs:?}, this node {ours:?}; give both the same list"
    )]
    ListsDiffer {
        /// The other node.
        node_id: NodeId,
        /// Its list.
        theirs: BTreeSet<NodeId>,
        /// Ours.
        ours: BTreeSet<NodeId>,
    },
    /// A node of the list belongs elsewhere.
    #[error(
        "node {node_id} belongs to cluster {theirs}, this node is set up for {ours}; correct the cluster id or the address"
    )]
    ForeignMember {
        /// The other node.
        node_id: NodeId,
        /// Its cluster.
        theirs: Uuid,
        /// Ours.
        ours: Uuid,
    },
    /// The list in the settings is not the quorum there is.
    #[error(
        "the settings name controllers {settings:?}, but the quorum's voters are nodes {stored:?}; the list only founds a cluster: change members by command, then let the settings follow"
    )]
    VotersDiffer {
        /// By the settings.
        settings: BTreeSet<NodeId>,
        /// In truth.
        stored: BTreeSet<NodeId>,
    },
}

/// The questions of one node with an empty folder, and the answers so far.
#[derive(Debug, Clone)]
pub struct Formation {
    node_id: NodeId,
    cluster_id: Uuid,
    voters: BTreeMap<NodeId, String>,
    membership: Membership,
    answers: BTreeMap<NodeId, Probe>,
}

impl Formation {
    /// Begins anew. `voters` are the first voters by the settings, with their endpoints.
    pub fn new(
        node_id: NodeId,
        cluster_id: Uuid,
        voters: BTreeMap<NodeId, String>,
    ) -> Result<Self, FormationError> {
        Ok(Self {
            node_id,
            cluster_id,
            membership: Membership::bootstrap(&voters)?,
            voters,
            answers: BTreeMap::new(),
        })
    }

    fn names(&self) -> BTreeSet<NodeId> {
        self.voters.keys().copied().collect()
    }

    /// What this node answers to the others' question while its folder is empty.
    pub fn answer(&self) -> Probe {
        Probe::Empty {
            cluster_id: self.cluster_id,
            voters: self.names(),
        }
    }

    /// Takes an answer to a question of this process. A later answer replaces an earlier one.
    pub fn answered(&mut self, node_id: NodeId, probe: Probe) -> Result<(), FormationError> {
        let ours = self.cluster_id;
        match &probe {
            Probe::Member { cluster_id } if *cluster_id != ours => {
                return Err(FormationError::ForeignMember {
                    node_id,
                    theirs: *cluster_id,
                    ours,
                });
            }
            Probe::Empty { cluster_id, .. } | Probe::Founded { cluster_id, .. }
                if *cluster_id != ours =>
            {
                return Err(FormationError::ClusterIdsDiffer {
                    node_id,
                    theirs: *cluster_id,
                    ours,
                });
            }
            Probe::Empty { voters, .. } | Probe::Founded { voters, .. }
                if *voters != self.names() =>
            {
                return Err(FormationError::ListsDiffer {
                    node_id,
                    theirs: voters.clone(),
                    ours: self.names(),
                });
            }
            Probe::Member { .. } | Probe::Founded { .. } | Probe::Empty { .. } => {}
        }
        self.answers.insert(node_id, probe);
        Ok(())
    }

    /// What to do by what is known.
    pub fn next(&self) -> NextStep {
        let answers = self.answers.iter();
        let members: BTreeSet<NodeId> = answers
            .filter(|(_, probe)| matches!(probe, Probe::Member { .. }))
            .map(|(node_id, _)| *node_id)
            .collect();
        let founder = self.membership.voter_of(self.node_id);
        let keeps_id = founder.is_some() && mutant::active(Mutant::WipedVoterKeepsId);
        if !members.is_empty() && !keeps_id {
            return NextStep::Join(members);
        }
        let others = self.voters.keys().copied();
        let silent: BTreeSet<NodeId> = others
            .filter(|id| *id != self.node_id && !self.answers.contains_key(id))
            .collect();
        match founder {
            Some(voter_id) if silent.is_empty() || mutant::active(Mutant::WipedVoterKeepsId) => {
                let identity = Identity {
                    cluster_id: self.cluster_id,
                    node_id: self.node_id,
                    voter_id,
                };
                NextStep::Bootstrap(identity, self.membership.clone())
            }
            // Not a first voter: it waits until there is a cluster to join.
            None if silent.is_empty() => NextStep::Ask(self.names()),
            _ => NextStep::Ask(silent),
        }
    }
}

/// Whether the settings' list of controllers is the quorum there is; to be asked once a node has
/// caught up, since before that it may not know of the latest members. An empty list says nothing.
pub fn check_voters(
    membership: &Membership,
    settings: &BTreeMap<NodeId, String>,
) -> Result<(), FormationError> {
    let settings: BTreeSet<NodeId> = settings.keys().copied().collect();
    let stored = membership.voting_nodes();
    if settings.is_empty() || settings == stored {
        return Ok(());
    }
    Err(FormationError::VotersDiffer { settings, stored })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::VoterId;

    const CLUSTER: Uuid = Uuid::from_u128(1);

    fn list(ids: &[i32]) -> BTreeMap<NodeId, String> {
        let named = ids
            .iter()
            .map(|id| (NodeId(*id), format!("host-{id}:9193")));
        named.collect()
    }

    fn names(ids: &[i32]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn forming(node_id: i32, voters: &[i32]) -> Formation {
        Formation::new(NodeId(node_id), CLUSTER, list(voters)).unwrap()
    }

    const MEMBER: Probe = Probe::Member {
        cluster_id: CLUSTER,
    };

    #[test]
    fn one_voter_founds_its_cluster_at_once() {
        let NextStep::Bootstrap(identity, membership) = forming(1, &[1]).next() else {
            panic!("it must found the cluster");
        };
        assert_eq!(identity.voter_id, VoterId(1));
        assert_eq!(membership.voting_nodes(), names(&[1]));
    }

    #[test]
    fn three_found_it_when_all_are_empty() {
        let mut second = forming(2, &[1, 2, 3]);
        assert_eq!(second.next(), NextStep::Ask(names(&[1, 3])));
        let first = forming(1, &[1, 2, 3]).answer();
        second.answered(NodeId(1), first.clone()).unwrap();
        assert_eq!(second.next(), NextStep::Ask(names(&[3])));
        second.answered(NodeId(3), first).unwrap();
        assert!(
            matches!(second.next(), NextStep::Bootstrap(identity, _) if identity.voter_id == VoterId(2))
        );
    }

    #[test]
    fn who_comes_late_founds_it_too_while_nobody_has_campaigned() {
        let founded = Probe::Founded {
            cluster_id: CLUSTER,
            voters: names(&[1, 2, 3]),
        };
        let mut third = forming(3, &[1, 2, 3]);
        third.answered(NodeId(1), founded).unwrap();
        assert_eq!(third.next(), NextStep::Ask(names(&[2])));
        third
            .answered(NodeId(2), forming(2, &[1, 2, 3]).answer())
            .unwrap();
        assert!(matches!(third.next(), NextStep::Bootstrap(..)));
        third.answered(NodeId(1), MEMBER).unwrap();
        assert_eq!(third.next(), NextStep::Join(names(&[1])));
    }

    #[test]
    fn a_wiped_node_joins_what_there_is_even_if_another_is_empty_too() {
        let mut wiped = forming(3, &[1, 2, 3]);
        wiped
            .answered(NodeId(1), forming(1, &[1, 2, 3]).answer())
            .unwrap();
        wiped.answered(NodeId(2), MEMBER).unwrap();
        assert_eq!(wiped.next(), NextStep::Join(names(&[2])));
    }

    #[test]
    fn a_wiped_node_waits_for_those_that_are_silent() {
        let mut wiped = forming(3, &[1, 2, 3]);
        wiped
            .answered(NodeId(1), forming(1, &[1, 2, 3]).answer())
            .unwrap();
        assert_eq!(wiped.next(), NextStep::Ask(names(&[2])));
    }

    #[test]
    fn a_node_that_is_not_in_the_list_never_founds() {
        let mut fourth = forming(4, &[1]);
        fourth
            .answered(NodeId(1), forming(1, &[1]).answer())
            .unwrap();
        assert_eq!(fourth.next(), NextStep::Ask(names(&[1])));
        fourth.answered(NodeId(1), MEMBER).unwrap();
        assert_eq!(fourth.next(), NextStep::Join(names(&[1])));
    }

    #[test]
    fn settings_that_differ_are_refused() {
        let mut node = forming(1, &[1, 2]);
        assert!(matches!(
            node.answered(NodeId(2), forming(2, &[1, 2, 3]).answer()),
            Err(FormationError::ListsDiffer { .. })
        ));
        let other = Uuid::from_u128(2);
        assert!(matches!(
            node.answered(NodeId(2), Probe::Member { cluster_id: other }),
            Err(FormationError::ForeignMember { .. })
        ));
        let founding = Formation::new(NodeId(2), other, list(&[1, 2])).unwrap();
        assert!(matches!(
            node.answered(NodeId(2), founding.answer()),
            Err(FormationError::ClusterIdsDiffer { .. })
        ));
        let quorum = Membership::bootstrap(&list(&[1, 2])).unwrap();
        assert!(check_voters(&quorum, &list(&[1, 2])).is_ok());
        assert!(check_voters(&quorum, &list(&[])).is_ok());
        assert!(matches!(
            check_voters(&quorum, &list(&[1, 2, 3])),
            Err(FormationError::VotersDiffer { .. })
        ));
    }
}
