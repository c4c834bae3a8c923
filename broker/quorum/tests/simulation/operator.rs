//! What an operator does: grow and shrink the quorum, replace disks, clear up.

use std::collections::BTreeSet;

use conveyor_quorum::{MembershipRequest, QuorumNode, Refused, VoterId};
use conveyor_record::NodeId;

use super::machine::{Life, Machine};
use super::world::{Event, NODES, Work, World, endpoint};

impl World {
    pub(crate) fn operate(&mut self) -> Result<(), String> {
        let pause = 50 + self.rng.below(300) as i64;
        self.plan(pause, Event::Operator);
        for id in 1..=NODES {
            if matches!(self.machine(id).life, Life::Refused) {
                self.machine(id).life = Life::Down;
                self.wipe(id);
            }
        }
        self.finish_work();
        if let Some(ghost) = self.ghost() {
            return self.command(&MembershipRequest::Remove(ghost));
        }
        match self.work {
            Work::Nothing if !self.healing && self.rng.one_in(6) => self.begin_work(),
            Work::Grow(id) => return self.grow(id),
            Work::Shrink(_, voter_id) => {
                return self.command(&MembershipRequest::Remove(voter_id));
            }
            Work::Nothing | Work::Replace => {}
        }
        Ok(())
    }

    /// A learner that nobody is: its node asked to be taken in, and before it heard the answer it lost
    /// power, or founded the cluster with the others after all.
    pub(crate) fn ghost(&self) -> Option<VoterId> {
        let (_, members) = &self.oracle.members;
        let mut learners = members.learners().iter().copied();
        learners.find(|id| {
            let Some(member) = members.member(*id) else {
                return false;
            };
            let machine = &self.machines[member.node_id.0 as usize - 1];
            machine.voter_id().is_some_and(|other| other != *id)
        })
    }

    /// Whether all voters run with their disks and know that they are the voters: they change when a
    /// change is applied, so a voter lost before the others have heard of it still counts for them.
    pub(crate) fn is_whole(&self, members: &conveyor_quorum::Membership) -> bool {
        let nodes = self.machines.iter().filter(|machine| !machine.tampered);
        let aware = nodes
            .filter(|machine| machine.applied >= self.oracle.members.0)
            .filter_map(Machine::voter_id);
        let aware: BTreeSet<VoterId> = aware.collect();
        members.voters().is_subset(&aware) && !members.is_joint() && members.learners().is_empty()
    }

    pub(crate) fn finish_work(&mut self) {
        let (_, members) = self.oracle.members.clone();
        let done = match self.work {
            Work::Nothing => false,
            Work::Grow(id) => members.voter_of(NodeId(id)).is_some() && self.is_whole(&members),
            Work::Shrink(id, voter_id) => {
                let gone = members.member(voter_id).is_none();
                if gone {
                    self.leave(id);
                }
                gone
            }
            Work::Replace => self.is_whole(&members),
        };
        if done {
            self.work = Work::Nothing;
            // The settings follow what was done by command.
            let voting = members.voting_nodes().into_iter();
            self.founders = voting.map(|id| (id, endpoint(id.0))).collect();
        }
    }

    /// A node that was removed is switched off, and its folder is emptied.
    pub(crate) fn leave(&mut self, id: i32) {
        self.wipe(id);
        self.machine(id).life = Life::Away;
    }

    pub(crate) fn begin_work(&mut self) {
        let (_, members) = self.oracle.members.clone();
        if members.voters().is_empty() || !self.is_whole(&members) {
            return;
        }
        let voting = members.voting_nodes();
        let away = (1..=NODES).find(|id| !voting.contains(&NodeId(*id)));
        let grows = voting.len() < 3 || self.rng.one_in(2);
        if let (true, Some(id)) = (grows, away) {
            self.machine(id).life = Life::Down;
            self.plan(0, Event::Start(id));
            self.work = Work::Grow(id);
        } else if voting.len() > 3 {
            let index = self.rng.below(voting.len() as u64) as usize;
            let node = voting.iter().nth(index).copied();
            if let Some((node, id)) = node.and_then(|n| Some((n, members.voter_of(n)?))) {
                self.work = Work::Shrink(node.0, id);
            }
        }
    }

    pub(crate) fn grow(&mut self, id: i32) -> Result<(), String> {
        let (_, members) = self.oracle.members.clone();
        let learner = members.learners().iter().copied().find(|learner| {
            members
                .member(*learner)
                .is_some_and(|member| member.node_id == NodeId(id))
        });
        learner.map_or(Ok(()), |learner| {
            self.command(&MembershipRequest::Promote(learner))
        })
    }

    /// Gives a command to whoever may take it.
    pub(crate) fn command(&mut self, request: &MembershipRequest) -> Result<(), String> {
        for id in 1..=NODES {
            let machine = self.machine(id);
            if machine.frozen {
                continue;
            }
            let refused = machine
                .node()
                .and_then(|node| node.change_members(request).err());
            if let Some(Refused::LeaderLeaves { .. }) = refused {
                drop(machine.node().map(QuorumNode::hand_over));
            }
            self.pump_soon(id)?;
        }
        Ok(())
    }
}
