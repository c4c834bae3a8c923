//! Start, crash, timers, and the disk's rounds of syncs.

use std::path::Path;
use std::sync::Arc;

use conveyor_controller::brokers::registration::DiskState;
use conveyor_log::disk::{Crash, SimDisk, read_small};
use conveyor_log::{
    Clock, DataDir, DataDirConfig, GroupCommit, LogConfig, SimClock, TopicPartition,
};
use conveyor_record::{BrokerEpoch, NodeId, Offset};
use uuid::Uuid;

use super::shadow::Shadow;
use super::{BrokerNode, Copy, DIRECTORY, Running, TOPIC};
use crate::clock::NodeClock;
use crate::context::Context;
use crate::message::{Address, Event, Message, PartitionId};
use crate::oracle::Observation;
use crate::scenario::Scenario;
use crate::{MS, Micros};

/// Where a broker keeps its newest epoch.
pub(super) const EPOCH_FILE: &str = "broker-epoch";
const TICK: Micros = 50 * MS;
const HEARTBEAT_INTERVAL: Micros = 150 * MS;
const REQUEST_TIMEOUT: Micros = 500 * MS;
/// How long a round of syncs takes on a disk that is well.
pub(crate) const SYNC_TIME: Micros = 3 * MS;

impl BrokerNode {
    /// A broker with a new disk.
    pub fn new(node: NodeId, disk_seed: u64, clock: NodeClock) -> Self {
        Self {
            node,
            disk: SimDisk::new(disk_seed),
            first_start: 1,
            clock,
            paused_until: 0,
            sync_time: SYNC_TIME,
            start: 0,
            shadows: std::collections::BTreeMap::new(),
            running: None,
        }
    }

    /// Starts the process: opens what the disk holds. `Err` if that is less than was promised.
    pub fn start(&mut self, ctx: &mut Context) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        self.start += 1;
        let dir = open(&self.disk, self.node, &ctx.scenario)
            .map_err(|error| format!("broker {}: {error}", self.node))?;
        let mut running = Running {
            commit: GroupCommit::new(&dir),
            dir,
            copies: std::collections::BTreeMap::new(),
            me: None,
            found: found_disk(&self.disk)?,
            image: crate::controller::Image::default(),
            metadata_asked: None,
            registration_asked: None,
            heartbeat_sent: None,
            syncing: false,
            dirty: false,
            failed: false,
        };
        let found = running.dir.list().map_err(|error| error.to_string())?;
        for location in found {
            let id = location.partition.partition as PartitionId;
            let config = log_config(&ctx.scenario);
            let (log, report) = running
                .dir
                .open_log(&location.partition, config)
                .map_err(|error| format!("broker {}: {error}", self.node))?;
            if let Some(damage) = report.damage.first() {
                return Err(format!("broker {}: {damage}", self.node));
            }
            let copy = Copy::new(log);
            let mut shadow = Shadow::read(&copy.reader)?;
            if let Some(before) = self.shadows.get(&id) {
                kept_what_was_synced(before, &shadow, copy.reader.log_start_offset())
                    .map_err(|what| format!("broker {} partition {id}: {what}", self.node))?;
                shadow.keep_deleted(before, copy.reader.log_start_offset());
            }
            self.shadows.insert(id, shadow);
            running.copies.insert(id, copy);
        }
        self.running = Some(running);
        let delay = ctx.chance(TICK);
        let (node, start) = (self.node, self.start);
        ctx.after(delay, Event::BrokerTick { node, start });
        Ok(())
    }

    /// Goes down.
    pub fn crash(&mut self, kind: Crash) {
        self.disk.crash(kind);
        self.running = None;
        self.paused_until = 0;
    }

    /// Gets a new, empty disk; it must be down.
    pub fn wipe(&mut self, disk_seed: u64) {
        assert!(self.running.is_none(), "a running broker's disk is wiped");
        self.disk = SimDisk::new(disk_seed);
        self.first_start = self.start + 1;
        self.shadows.clear();
    }

    /// Why it has to go down by itself, if it has to.
    pub fn must_stop(&self) -> bool {
        let offline = self
            .running
            .as_ref()
            .is_some_and(|running| running.failed || running.dir.offline().is_some());
        offline || self.disk.is_halted()
    }

    /// Its timer.
    pub fn tick(&mut self, start: u64, ctx: &mut Context) -> Result<(), String> {
        if start != self.start || self.running.is_none() {
            return Ok(());
        }
        let node = self.node;
        ctx.after(TICK, Event::BrokerTick { node, start });
        self.talk_to_controller(ctx);
        let now_ms = self.clock.now_ms(ctx.now);
        for partition in self.partitions() {
            self.lead_on(partition, now_ms, ctx)?;
            self.fetch_if_due(partition, ctx);
        }
        Ok(())
    }

    /// Registers, sends heartbeats, asks for metadata.
    fn talk_to_controller(&mut self, ctx: &mut Context) {
        let (address, node, start) = (self.address(), self.node, self.start);
        let Some(running) = &mut self.running else {
            return;
        };
        let due = |asked: Option<Micros>, interval| asked.is_none_or(|at| ctx.now - at >= interval);
        let Some(me) = running.me else {
            if due(running.registration_asked, REQUEST_TIMEOUT) {
                running.registration_asked = Some(ctx.now);
                let disk = running.found;
                let message = Message::Register { node, start, disk };
                ctx.send(address, Address::Controller, message);
            }
            return;
        };
        if due(running.heartbeat_sent, HEARTBEAT_INTERVAL) {
            running.heartbeat_sent = Some(ctx.now);
            let offset = running.image.offset();
            let message = Message::Heartbeat { from: me, offset };
            ctx.send(address, Address::Controller, message);
        }
        let asked = running.metadata_asked;
        if asked.is_none_or(|at| ctx.now - at >= REQUEST_TIMEOUT) {
            running.metadata_asked = Some(ctx.now);
            let from = running.image.offset();
            ctx.send(
                address,
                Address::Controller,
                Message::FetchMetadata { from },
            );
        }
    }

    /// Something was appended: a round of syncs has to follow.
    pub(super) fn wants_sync(&mut self, ctx: &mut Context) {
        let (node, start, time) = (self.node, self.start, self.sync_time);
        let Some(running) = &mut self.running else {
            return;
        };
        running.dirty = true;
        if !running.syncing {
            running.syncing = true;
            let delay = time / 4 + ctx.chance(time);
            ctx.after(delay, Event::BrokerSynced { node, start });
        }
    }

    /// The disk has finished a round of syncs.
    pub fn synced(&mut self, start: u64, ctx: &mut Context) -> Result<(), String> {
        if start != self.start {
            return Ok(());
        }
        let now_ms = self.clock.now_ms(ctx.now);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.syncing = false;
        running.dirty = false;
        for copy in running.copies.values() {
            let end = copy.reader.log_end_offset();
            running.commit.request(&copy.reader, end, Box::new(drop));
        }
        running.commit.run_round();
        // A failure has taken the directory offline: positions stay where they are.
        for partition in self.partitions() {
            self.publish_synced(partition, now_ms, ctx)?;
        }
        Ok(())
    }

    fn publish_synced(
        &mut self,
        partition: PartitionId,
        now_ms: i64,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let address = self.address();
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let synced = copy.reader.synced_offset();
        let mut out = Vec::new();
        let report = copy.replica.as_mut().and_then(|replica| {
            if let Some(leader) = replica.leader_mut() {
                leader.synced(synced, now_ms, &mut out);
            }
            let follower = replica.follower_mut()?;
            follower
                .synced(synced)
                .map(|report| (follower.leader(), report))
        });
        if let Some(shadow) = self.shadows.get_mut(&partition) {
            shadow.synced = synced.value();
        }
        if let Some((leader, report)) = report {
            let message = Message::Synced { partition, report };
            ctx.send(address, Address::Broker(leader), message);
        }
        self.carry_out(partition, out, ctx)
    }

    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.running
            .as_ref()
            .map(|running| running.copies.keys().copied().collect())
            .unwrap_or_default()
    }

    pub(super) fn copy_mut(&mut self, partition: PartitionId) -> Option<&mut Copy> {
        self.running.as_mut()?.copies.get_mut(&partition)
    }

    /// The log of a partition, created if it is not there.
    pub(super) fn ensure_copy(
        &mut self,
        partition: PartitionId,
        scenario: &Scenario,
    ) -> Result<(), String> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        if running.copies.contains_key(&partition) {
            return Ok(());
        }
        let id = Uuid::from_u128(u128::from(partition) + 7);
        let name = TopicPartition::new(TOPIC, partition as i32);
        match running.dir.create_log(&name, id, log_config(scenario)) {
            Ok(log) => {
                running.copies.insert(partition, Copy::new(log));
                self.shadows.insert(partition, Shadow::default());
                Ok(())
            }
            // A disk that stands still or fails: the process will go down for it.
            Err(_) if self.must_stop() || self.disk.is_halted() => Ok(()),
            Err(error) => Err(format!("broker {}: {error}", self.node)),
        }
    }

    /// A message has come.
    pub fn deliver(
        &mut self,
        from: Address,
        message: Message,
        ctx: &mut Context,
    ) -> Result<(), String> {
        if self.running.is_none() {
            return Ok(());
        }
        match message {
            Message::Produce {
                partition,
                batch,
                bytes,
            } => self.produce(from, partition, batch, &bytes, ctx),
            Message::Read {
                partition,
                request,
                from: offset,
            } => {
                self.read(from, partition, request, offset, ctx);
                Ok(())
            }
            Message::Fetch { partition, request } => self.fetch(from, partition, request, ctx),
            Message::Synced { partition, report } => self.sync_reported(partition, &report, ctx),
            Message::Fetched {
                partition,
                answer,
                bytes,
            } => self.fetched(partition, &answer, &bytes, ctx),
            Message::ProposalAnswered { partition, answer } => {
                self.proposal_answered(partition, &answer, ctx)
            }
            Message::Registered { start, epoch } => {
                self.registered(start, epoch);
                Ok(())
            }
            Message::Replaced { epoch } => {
                self.replaced(epoch);
                Ok(())
            }
            Message::Metadata { entries } => self.metadata(entries, ctx),
            _ => Ok(()),
        }
    }

    /// Tells the oracle where a log stands.
    pub(super) fn observe_positions(&self, partition: PartitionId, ctx: &mut Context) {
        if let Some(state) = self.log_state(partition) {
            ctx.observe(Observation::Positions {
                node: self.node,
                start: self.start,
                partition,
                state,
            });
        }
    }
}

/// What was reported as synced is there after a restart, unless the log start has passed it.
fn kept_what_was_synced(before: &Shadow, now: &Shadow, log_start: Offset) -> Result<(), String> {
    for entry in before.between(0, before.synced) {
        if entry.next > log_start.value() && now.at(entry.base) != Some(entry) {
            return Err(format!(
                "{entry:?} was reported as synced up to {} and is gone",
                before.synced
            ));
        }
    }
    Ok(())
}

/// What the disk holds by the epoch that the last process put there.
fn found_disk(disk: &SimDisk) -> Result<DiskState, String> {
    let path = Path::new(DIRECTORY).join(EPOCH_FILE);
    let bytes = read_small(disk, &path, 32).map_err(|error| error.to_string())?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let epoch = text.and_then(|text| text.parse().ok().map(BrokerEpoch));
    Ok(epoch.map_or(DiskState::Empty, |epoch| DiskState::Unclean { epoch }))
}

fn open(
    disk: &SimDisk,
    node: NodeId,
    scenario: &Scenario,
) -> Result<DataDir, conveyor_log::OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::at(1_700_000_000_000));
    let config = DataDirConfig {
        node_id: node.value(),
        cluster_id: Some("simulated".to_owned()),
        pool_files: 0,
        recovery_bytes_max: scenario.recovery_bytes,
        ..DataDirConfig::default()
    };
    DataDir::open(disk.shared(), clock, Path::new(DIRECTORY), config)
}

fn log_config(scenario: &Scenario) -> LogConfig {
    LogConfig {
        segment_bytes: scenario.segment_bytes,
        retention_ms: None,
        index_interval_bytes: 300,
        ..LogConfig::default()
    }
}
