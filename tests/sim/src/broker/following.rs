//! The follower's side: fetches, and what the answers make of the log.

use bytes::Bytes;
use conveyor_log::LogError;
use conveyor_record::{LeaderEpoch, Offset, validate_stored};
use conveyor_replication::{FetchAnswer, Follower, FollowerStep};

use super::leading::entry_of;
use super::{BrokerNode, Epochs};
use crate::context::Context;
use crate::message::{Address, Message, PartitionId};
use crate::oracle::Observation;

impl BrokerNode {
    /// Sends the next fetch, if one is due.
    pub(super) fn fetch_if_due(&mut self, partition: PartitionId, ctx: &mut Context) {
        let now_ms = self.clock.now_ms(ctx.now);
        let address = self.address();
        let due = self.copy_mut(partition).and_then(|copy| {
            let follower = copy.replica.as_mut()?.follower_mut()?;
            let request = follower.next_fetch(now_ms)?;
            Some((follower.leader(), request))
        });
        if let Some((leader, request)) = due {
            let message = Message::Fetch { partition, request };
            ctx.send(address, Address::Broker(leader), message);
        }
    }

    /// An answer to a fetch.
    pub(super) fn fetched(
        &mut self,
        partition: PartitionId,
        answer: &FetchAnswer,
        bytes: &Bytes,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let node = self.node;
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let Some(follower) = copy
            .replica
            .as_mut()
            .and_then(|replica| replica.follower_mut())
        else {
            return Ok(());
        };
        let step = follower.answered(answer, &Epochs(&copy.reader), now_ms);
        match step {
            FollowerStep::Ignore => return Ok(()),
            FollowerStep::Append(_) => self.append_fetched(partition, bytes, ctx)?,
            FollowerStep::TruncateTo(to) => self.truncate(partition, to, ctx)?,
            FollowerStep::StartAt(at) => self.start_at(partition, at, ctx)?,
            FollowerStep::Halt(inconsistent) => {
                return Err(format!("broker {node}: {inconsistent}"));
            }
            FollowerStep::UpToDate | FollowerStep::Wait => {}
        }
        self.follow_positions(partition, ctx)?;
        self.fetch_if_due(partition, ctx);
        Ok(())
    }

    fn append_fetched(
        &mut self,
        partition: PartitionId,
        bytes: &Bytes,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let node = self.node;
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let mut batches = Vec::new();
        let mut position = 0;
        while position < bytes.len() {
            let entry = entry_of(&bytes[position..])?;
            let batch = bytes.slice(position..position + entry.size as usize);
            position += batch.len();
            let meta = validate_stored(&batch, Offset::ZERO).map_err(|error| error.to_string())?;
            batches.push((batch, meta));
        }
        let before = copy.reader.log_end_offset();
        let appended = copy.log.append_as_follower(&batches);
        match appended {
            Ok(()) | Err(conveyor_log::AppendError::Offline(_)) => {}
            Err(error) => return Err(format!("broker {node} as follower: {error}")),
        }
        let state = copy.state();
        if let Some(follower) = copy.replica.as_mut().and_then(|r| r.follower_mut()) {
            follower.appended(state.end, state.last_epoch);
        }
        self.note_appended(partition, before.min(state.end))?;
        self.wants_sync(ctx);
        Ok(())
    }

    fn truncate(
        &mut self,
        partition: PartitionId,
        to: Offset,
        ctx: &mut Context,
    ) -> Result<(), String> {
        ctx.coverage.truncations += 1;
        self.forget(partition, to, ctx);
        self.change_log(partition, |copy| copy.log.truncate_to(to))
    }

    fn start_at(
        &mut self,
        partition: PartitionId,
        at: Offset,
        ctx: &mut Context,
    ) -> Result<(), String> {
        ctx.coverage.restarts_of_logs += 1;
        if let Some(shadow) = self.shadows.get_mut(&partition) {
            shadow.synced = 0;
        }
        self.change_log(partition, |copy| copy.log.truncate_fully_and_start_at(at))?;
        if !self.must_stop()
            && let Some(shadow) = self.shadows.get_mut(&partition)
        {
            shadow.entries.clear();
        }
        Ok(())
    }

    /// The oracle learns of a cut before it is made: a crash may leave it done or not.
    fn forget(&mut self, partition: PartitionId, to: Offset, ctx: &mut Context) {
        let Some(shadow) = self.shadows.get_mut(&partition) else {
            return;
        };
        let cut = shadow.cut(to);
        let replica = self.running.as_ref().and_then(|running| {
            let copy = running.copies.get(&partition)?;
            copy.replica.as_ref()?.follower()
        });
        let epoch = replica.map_or(LeaderEpoch::NONE, Follower::leader_epoch);
        ctx.coverage.batches_cut += cut.len() as u64;
        ctx.observe(Observation::Truncated {
            node: self.node,
            partition,
            epoch,
            cut,
        });
    }

    fn change_log(
        &mut self,
        partition: PartitionId,
        change: impl FnOnce(&mut super::Copy) -> Result<(), LogError>,
    ) -> Result<(), String> {
        let node = self.node;
        let halted = self.disk.is_halted();
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        match change(copy) {
            Ok(()) => {}
            Err(LogError::Offline(_)) => return Ok(()),
            Err(_) if halted => return Ok(()),
            Err(error) => return Err(format!("broker {node} as follower: {error}")),
        }
        let state = copy.state();
        if let Some(follower) = copy.replica.as_mut().and_then(|r| r.follower_mut()) {
            follower.log_changed(&state);
        }
        Ok(())
    }

    /// High watermark and log start follow what the leader has told.
    fn follow_positions(
        &mut self,
        partition: PartitionId,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let Some(follower) = copy.replica.as_mut().and_then(|r| r.follower_mut()) else {
            return Ok(());
        };
        copy.reader
            .advance_high_watermark(follower.high_watermark());
        let start = follower.log_start_wanted();
        if start > copy.reader.log_start_offset() && start <= copy.reader.high_watermark() {
            match copy.log.delete_records_before(start) {
                Ok(start) => follower.log_start_moved(start),
                Err(LogError::Offline(_)) => {}
                Err(error) => return Err(format!("broker {}: {error}", self.node)),
            }
        }
        self.observe_positions(partition, ctx);
        Ok(())
    }
}
