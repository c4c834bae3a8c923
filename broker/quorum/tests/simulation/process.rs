//! Processes that come and go: start, forming, joining, death.

use conveyor_log::disk::Crash;
use conveyor_quorum::{
    Expected, Formation, Identity, MembershipError, MembershipRequest, NextStep, NodeError,
    OpenError, Opened, QuorumNode, Refused, store,
};
use conveyor_record::NodeId;
use uuid::Uuid;

use super::machine::{Life, config, dir};
use super::network::Packet;
use super::oracle::read_state;
use super::world::{CLUSTER, Event, NODES, World, endpoint};

impl World {
    pub(crate) fn start(&mut self, id: i32) -> Result<(), String> {
        let now_ms = self.now_ms;
        let directory_id = Uuid::from_u128(u128::from(self.rng.next_u64()));
        let founders = self.founders.clone();
        let seed = self.rng.next_u64();
        let machine = self.machine(id);
        if !matches!(machine.life, Life::Down) {
            return Ok(());
        }
        machine.lives += 1;
        let expected = Expected {
            node_id: NodeId(id),
            cluster_id: Some(CLUSTER),
        };
        match store::open(machine.disk.shared(), dir(), expected) {
            Ok(Opened::New(empty)) => {
                let formation = Formation::new(NodeId(id), CLUSTER, founders);
                let formation = formation.map_err(|error| error.to_string())?;
                machine.directory_id = directory_id;
                machine.life = Life::Forming(Box::new((empty, formation)));
                self.form(id)
            }
            Ok(Opened::Existing(store, recovered)) => {
                machine.tampered = false;
                let snapshot = recovered.snapshot.as_ref();
                machine.applied = snapshot.map_or(0, |snapshot| snapshot.last.index);
                machine.state = snapshot.map_or(0, |snapshot| read_state(&snapshot.data));
                let node = QuorumNode::new(*store, *recovered, config(seed), machine.clock(now_ms));
                let node = node.map_err(|error| error.to_string())?;
                machine.life = Life::Running(Box::new(node));
                self.pump_soon(id)
            }
            Err(OpenError::Damaged { .. }) if machine.tampered => {
                self.report.refused_damage += 1;
                self.machine(id).life = Life::Refused;
                let delay = 200 + self.rng.below(2_000) as i64;
                self.plan(delay, Event::Operator);
                Ok(())
            }
            Err(OpenError::Io { .. } | OpenError::Store(_)) => {
                self.stop(id, Crash::Process);
                Ok(())
            }
            Err(error) => Err(format!("node {id} does not start: {error}")),
        }
    }

    /// A node with an empty folder goes on as far as it can.
    pub(crate) fn form(&mut self, id: i32) -> Result<(), String> {
        let machine = self.machine(id);
        let Life::Forming(forming) = &machine.life else {
            return Ok(());
        };
        let NextStep::Bootstrap(identity, membership) = forming.1.next() else {
            return Ok(());
        };
        self.become_member(id, identity, Some(membership))
    }

    pub(crate) fn become_member(
        &mut self,
        id: i32,
        identity: Identity,
        founded: Option<conveyor_quorum::Membership>,
    ) -> Result<(), String> {
        let now_ms = self.now_ms;
        let seed = self.rng.next_u64();
        let machine = self.machine(id);
        let clock = machine.clock(now_ms);
        let Life::Forming(forming) = std::mem::replace(&mut machine.life, Life::Down) else {
            return Err("only who forms becomes a member".to_owned());
        };
        let (empty, _) = *forming;
        let first = founded.clone();
        let created = match founded {
            Some(membership) => empty.bootstrap(identity, membership),
            None => empty.join(identity),
        };
        let Ok((store, recovered)) = created else {
            self.stop(id, Crash::Process);
            return Ok(());
        };
        machine.applied = recovered.snapshot.as_ref().map_or(0, |s| s.last.index);
        machine.state = 0;
        let node = QuorumNode::new(store, recovered, config(seed), clock);
        machine.life = Life::Running(Box::new(node.map_err(|error| error.to_string())?));
        if let Some(membership) = first.filter(|_| self.oracle.members.0 == 0) {
            self.oracle.members = (1, membership);
        }
        Ok(())
    }

    pub(crate) fn ask_around(&mut self, id: i32) {
        let machine = self.machine(id);
        let Life::Forming(forming) = &machine.life else {
            return;
        };
        let directory_id = machine.directory_id;
        let (nodes, packet) = match forming.1.next() {
            NextStep::Ask(nodes) => (nodes, Packet::Ask),
            // Whoever leads must hear of it, so everybody is told.
            NextStep::Join(_) => (
                (1..=NODES).map(NodeId).collect(),
                Packet::Join { directory_id },
            ),
            NextStep::Bootstrap(..) => return,
        };
        for node in nodes.into_iter().filter(|node| node.0 != id) {
            self.send(id, node.0, &packet);
        }
    }

    /// A member is asked to take a node in.
    pub(crate) fn take_in(&mut self, from: i32, to: i32, directory_id: Uuid) -> Result<(), String> {
        let machine = self.machine(to);
        let Some(node) = machine.node() else {
            return Ok(());
        };
        let request = MembershipRequest::Join {
            node_id: NodeId(from),
            directory_id,
            endpoint: endpoint(from),
        };
        match node.change_members(&request) {
            Ok(position) => {
                machine.joining.insert(position, (from, directory_id));
                self.pump_soon(to)
            }
            Err(Refused::Membership(MembershipError::AlreadyMember(voter_id))) => {
                let identity = Identity {
                    cluster_id: CLUSTER,
                    node_id: NodeId(from),
                    voter_id,
                };
                let packet = Packet::Joined {
                    directory_id,
                    identity,
                };
                self.send(to, from, &packet);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn joined(
        &mut self,
        id: i32,
        directory_id: Uuid,
        identity: Identity,
    ) -> Result<(), String> {
        let machine = self.machine(id);
        if machine.directory_id != directory_id || !matches!(machine.life, Life::Forming(_)) {
            return Ok(());
        }
        self.become_member(id, identity, None)
    }

    /// The node has met an error that it must not survive.
    pub(crate) fn died(&mut self, id: i32, error: &NodeError) -> Result<(), String> {
        if let NodeError::Consensus(error) = error {
            return Err(format!("node {id}: {error}"));
        }
        let machine = self.machine(id);
        let crash = if machine.disk.is_halted() && self.rng.one_in(2) {
            Crash::Power
        } else {
            Crash::Process
        };
        self.stop(id, crash);
        Ok(())
    }

    /// The process ends, and is started again some time later.
    pub(crate) fn stop(&mut self, id: i32, crash: Crash) {
        let machine = self.machine(id);
        if matches!(machine.life, Life::Away | Life::Refused) {
            return;
        }
        machine.forget();
        machine.disk.crash(crash);
        let most = if self.healing { 100 } else { 1_500 };
        let delay = 10 + self.rng.below(most) as i64;
        self.plan(delay, Event::Start(id));
    }

    pub(crate) fn thaw(&mut self, id: i32) -> Result<(), String> {
        let machine = self.machine(id);
        machine.frozen = false;
        for (from, packet) in std::mem::take(&mut machine.inbox) {
            self.arrives(from, id, packet)?;
        }
        self.pump_soon(id)
    }
}
