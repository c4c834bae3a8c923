//! What goes wrong, and how it is put right again.

use conveyor_log::disk::Crash;
use conveyor_record::NodeId;

use crate::message::{Address, Event};
use crate::network::Weather;
use crate::world::World;
use crate::{MS, Micros, SECOND};

/// The kinds of faults; each run has its own choice of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A process is killed: its page cache survives.
    Kill,
    /// A node loses power.
    PowerCut,
    /// Some or all nodes lose power at once.
    Blackout,
    /// A machine stops in the middle of a change of its disk.
    Halt,
    /// A sync fails.
    FailedSync,
    /// A disk is slow for a while.
    SlowDisk,
    /// A node stands still for a while.
    Pause,
    /// A node is cut off, both ways or one.
    Isolate,
    /// Two nodes do not reach each other, and both reach everybody else.
    Bridge,
    /// A broker and the controller do not reach each other.
    LoseController,
    /// Messages get lost, doubled or late.
    BadWeather,
    /// A clock jumps.
    ClockJump,
    /// A follower comes back with an empty disk.
    Wipe,
    /// The controller goes down.
    ControllerCrash,
    /// Somebody deletes records from the front of a log.
    DeleteRecords,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Kill,
        Self::PowerCut,
        Self::Blackout,
        Self::Halt,
        Self::FailedSync,
        Self::SlowDisk,
        Self::Pause,
        Self::Isolate,
        Self::Bridge,
        Self::LoseController,
        Self::BadWeather,
        Self::ClockJump,
        Self::Wipe,
        Self::ControllerCrash,
        Self::DeleteRecords,
    ];
}

/// Something that goes on until it ends.
#[derive(Debug, Clone)]
pub enum Ongoing {
    /// Links that are cut.
    Cuts(Vec<(Address, Address)>),
    /// A slow disk.
    SlowDisk(NodeId),
    /// Bad weather.
    Weather,
    /// All of it: from here on the cluster must heal.
    Chaos,
}

impl World {
    /// One fault of a kind that this run has; the next one follows.
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        let mean = self.ctx.scenario.fault_interval;
        let delay = self.ctx.chance(2 * mean);
        self.ctx.after(delay, Event::Fault);
        let kinds = self.ctx.scenario.faults.len() as u64;
        let kind = self.ctx.scenario.faults[self.ctx.rng.below(kinds) as usize];
        let node = self.any_node();
        match kind {
            FaultKind::Kill => {
                self.ctx.coverage.kills += 1;
                self.crash(node, Crash::Process);
            }
            FaultKind::PowerCut => self.cut_power(node),
            FaultKind::Blackout => self.black_out(),
            FaultKind::Halt => {
                let changes = 1 + self.ctx.rng.below(12);
                self.brokers[&node].disk.halt_after(changes);
            }
            FaultKind::FailedSync => {
                self.ctx.coverage.failed_syncs += 1;
                self.brokers[&node].disk.fail_next_syncs(1);
            }
            FaultKind::SlowDisk => self.slow_disk(node),
            FaultKind::Pause => {
                self.ctx.coverage.pauses += 1;
                let time = 50 * MS + self.ctx.chance(3 * SECOND);
                self.pause(node, time);
            }
            FaultKind::Isolate => self.isolate(node),
            FaultKind::Bridge => {
                let other = self.any_node();
                if other != node {
                    self.cut_between(Address::Broker(node), Address::Broker(other));
                }
            }
            FaultKind::LoseController => {
                self.cut_between(Address::Broker(node), Address::Controller);
            }
            FaultKind::BadWeather => self.bad_weather(),
            FaultKind::ClockJump => self.jump(node),
            FaultKind::Wipe => self.wipe(node),
            FaultKind::ControllerCrash => self.crash_controller(),
            FaultKind::DeleteRecords => return self.delete_records(),
        }
        Ok(())
    }

    /// Something is over.
    pub(crate) fn fault_ends(&mut self, ongoing: Ongoing) {
        match ongoing {
            Ongoing::Cuts(links) => {
                for (from, to) in links {
                    self.ctx.network.mend(from, to);
                }
            }
            Ongoing::SlowDisk(node) => self.restore_disk(node),
            Ongoing::Weather => self.ctx.network.weather = Weather::FAIR,
            Ongoing::Chaos => self.heal(),
        }
    }

    /// A broker; half of the time one that leads, since more depends on it.
    fn any_node(&mut self) -> NodeId {
        if self.ctx.rng.one_in(2) {
            let partitions = u64::from(self.ctx.scenario.partitions);
            let partition = self.ctx.rng.below(partitions) as u32;
            if let Some(leader) = self.leader(partition) {
                return leader;
            }
        }
        NodeId(1 + self.ctx.rng.below(self.ctx.scenario.brokers as u64) as i32)
    }

    fn cut_power(&mut self, node: NodeId) {
        self.ctx.coverage.power_cuts += 1;
        self.crash(node, Crash::Power);
    }

    fn black_out(&mut self) {
        let all = self.ctx.rng.one_in(2);
        self.ctx.coverage.blackouts += u64::from(all);
        let nodes: Vec<NodeId> = self.ctx.scenario.nodes().collect();
        for node in nodes {
            if all || self.ctx.rng.one_in(2) {
                self.cut_power(node);
            }
        }
        if all && self.ctx.rng.one_in(2) {
            self.crash_controller();
        }
    }

    fn slow_disk(&mut self, node: NodeId) {
        self.ctx.coverage.slow_disks += 1;
        let time = 100 * MS + self.ctx.chance(3 * SECOND);
        self.set_sync_time(node, time);
        let lasts = 300 * MS + self.ctx.chance(4 * SECOND);
        self.ctx
            .after(lasts, Event::FaultEnds(Ongoing::SlowDisk(node)));
    }

    fn isolate(&mut self, node: NodeId) {
        let me = Address::Broker(node);
        let others: Vec<Address> = self
            .ctx
            .scenario
            .nodes()
            .filter(|other| *other != node)
            .map(Address::Broker)
            .chain([Address::Controller])
            .collect();
        // Both ways, or nothing gets out, or nothing gets in.
        let way = self.ctx.rng.below(4);
        let mut links = Vec::new();
        for other in others {
            if way != 1 {
                links.push((me, other));
            }
            if way != 2 {
                links.push((other, me));
            }
        }
        self.cut(links);
    }

    fn cut_between(&mut self, a: Address, b: Address) {
        let links = match self.ctx.rng.below(4) {
            0 => vec![(a, b)],
            1 => vec![(b, a)],
            _ => vec![(a, b), (b, a)],
        };
        self.cut(links);
    }

    fn cut(&mut self, links: Vec<(Address, Address)>) {
        self.ctx.coverage.cuts += 1;
        for (from, to) in &links {
            self.ctx.network.cut(*from, *to);
        }
        let lasts = 100 * MS + self.ctx.chance(4 * SECOND);
        self.ctx
            .after(lasts, Event::FaultEnds(Ongoing::Cuts(links)));
    }

    fn bad_weather(&mut self) {
        let rng = &mut self.ctx.rng;
        self.ctx.network.weather = Weather {
            loss_ppm: rng.below(150_000),
            repeat_ppm: rng.below(150_000),
            late_ppm: rng.below(200_000),
            late_max: 10 * MS + rng.below(2_000_000) as Micros,
        };
        let lasts = 200 * MS + self.ctx.chance(3 * SECOND);
        self.ctx.after(lasts, Event::FaultEnds(Ongoing::Weather));
    }

    fn jump(&mut self, node: NodeId) {
        self.ctx.coverage.jumps += 1;
        let by = self.ctx.chance(20 * SECOND) - 10 * SECOND;
        self.jump_clock(node, by);
    }

    /// A follower's disk is lost for good. Of all disks at most `min.insync.replicas` less one may be
    /// at any time, that is what is promised.
    fn wipe(&mut self, node: NodeId) {
        let budget = self.ctx.scenario.replication.min_insync_replicas - 1;
        let leads = self.leads_anything(node);
        if self.wiped_and_not_back().len() >= budget || leads {
            return;
        }
        self.ctx.coverage.wipes += 1;
        self.crash(node, Crash::Power);
        self.wipe_disk(node);
    }
}
