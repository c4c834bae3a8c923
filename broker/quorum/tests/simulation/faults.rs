//! What goes wrong.

use conveyor_log::disk::{Crash, SimDisk};
use conveyor_record::NodeId;

use super::machine::{Life, dir};
use super::world::{Event, NODES, Work, World};

impl World {
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        if self.healing {
            return Ok(());
        }
        let pause = 20 + self.rng.below(self.fault_pause_ms) as i64;
        self.plan(pause, Event::Fault);
        let id = 1 + self.rng.below(NODES as u64) as i32;
        match self.rng.below(100) {
            0..12 => self.kill(id),
            12..26 => self.cut_power(id),
            26..29 => self.cut_power_of_many(),
            29..37 => {
                self.machine(id).disk.fail_next_syncs(1);
                self.report.failed_syncs += 1;
            }
            37..49 => {
                let changes = 1 + self.rng.below(25);
                self.machine(id).disk.halt_after(changes);
                self.report.halts += 1;
            }
            49..62 => {
                let nodes: Vec<i32> = (1..=NODES).collect();
                self.network.split(&mut self.rng, &nodes);
                self.report.splits += 1;
            }
            62..72 => self.network.join(),
            72..80 => self.freeze(id),
            80..84 => {
                let jump = self.rng.below(4_000) as i64 - 2_000;
                self.machine(id).offset_ms += jump;
            }
            84..89 => self.hand_over(id)?,
            89..96 => self.lose_disk(id),
            _ => self.rot(id),
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self, id: i32) {
        if !matches!(self.machine(id).life, Life::Down | Life::Away) {
            self.report.kills += 1;
            self.stop(id, Crash::Process);
        }
    }

    pub(crate) fn cut_power(&mut self, id: i32) {
        let machine = self.machine(id);
        if matches!(machine.life, Life::Down) {
            // It was killed; now what is in its page cache goes too.
            machine.disk.crash(Crash::Power);
        }
        if matches!(machine.life, Life::Running(_) | Life::Forming(_)) {
            self.report.power_cuts += 1;
            self.stop(id, Crash::Power);
        }
    }

    pub(crate) fn cut_power_of_many(&mut self) {
        let all = self.rng.one_in(2);
        self.report.power_cuts_of_all += u64::from(all);
        for id in 1..=NODES {
            if all || self.rng.one_in(2) {
                self.cut_power(id);
            }
        }
    }

    pub(crate) fn freeze(&mut self, id: i32) {
        let machine = self.machine(id);
        if !matches!(machine.life, Life::Running(_)) || machine.frozen {
            return;
        }
        machine.frozen = true;
        self.report.freezes += 1;
        let delay = 50 + self.rng.below(1_200) as i64;
        self.plan(delay, Event::Thaw(id));
    }

    pub(crate) fn hand_over(&mut self, id: i32) -> Result<(), String> {
        let machine = self.machine(id);
        if machine.frozen {
            return Ok(());
        }
        if machine.node().is_some_and(|node| node.hand_over().is_ok()) {
            self.report.transfers += 1;
        }
        self.pump_soon(id)
    }

    /// Whether one more voter may lose what it has without more being lost than a quorum bears.
    pub(crate) fn may_lose(&mut self, id: i32) -> bool {
        if self.work != Work::Nothing || matches!(self.machine(id).life, Life::Away | Life::Refused)
        {
            return false;
        }
        let (_, members) = self.oracle.members.clone();
        let voters = members.voters().len();
        voters >= 3 && self.is_whole(&members) && members.voter_of(NodeId(id)).is_some()
    }

    pub(crate) fn lose_disk(&mut self, id: i32) {
        if !self.may_lose(id) {
            return;
        }
        self.report.wiped += 1;
        self.wipe(id);
        self.work = Work::Replace;
    }

    pub(crate) fn wipe(&mut self, id: i32) {
        self.stop(id, Crash::Power);
        let seed = self.rng.next_u64();
        let machine = self.machine(id);
        machine.disk = SimDisk::new(seed);
        machine.tampered = false;
    }

    /// Flips a bit of a disk whose process is down.
    pub(crate) fn rot(&mut self, id: i32) {
        if !self.may_lose(id) {
            return;
        }
        let crash = if self.rng.one_in(2) {
            Crash::Power
        } else {
            Crash::Process
        };
        self.stop(id, crash);
        let files = self.machine(id).disk.files();
        let files: Vec<_> = files
            .into_iter()
            .filter(|path| path.starts_with(dir()))
            .collect();
        if files.is_empty() {
            return;
        }
        let path = &files[self.rng.below(files.len() as u64) as usize];
        // Where there is something: most of a superblock is padding.
        let content = self.machine(id).disk.content(path).unwrap_or_default();
        let places = content.iter().enumerate().filter(|(_, byte)| **byte != 0);
        let places: Vec<u64> = places.map(|(place, _)| place as u64).collect();
        if places.is_empty() {
            return;
        }
        let place = places[self.rng.below(places.len() as u64) as usize];
        let bit = self.rng.below(8) as u8;
        let machine = self.machine(id);
        if machine.disk.flip_bit(path, place, bit) {
            machine.tampered = true;
            self.report.rotten += 1;
            self.work = Work::Replace;
        }
    }
}
