//! The leader's side: appends, fetches of followers and consumers, acknowledgements, proposals.

use std::collections::BTreeMap;

use bytes::Bytes;
use conveyor_log::{AppendBatch, AppendError};
use conveyor_record::{BatchHeader, Decompressor, NodeId, Offset, ProduceRules, validate_produce};
use conveyor_replication::{
    Acknowledgement, FetchAnswer, FetchRequest, FetchVerdict, LeaderCommand, ProposalAnswer,
    RecordSpan, SyncReport,
};

use super::shadow::{Entry, Shadow};
use super::{BrokerNode, Copy, Epochs, Parked, Waiting};
use crate::context::Context;
use crate::controller::view;
use crate::message::{Address, Message, PartitionId, Produced};
use crate::oracle::Observation;
use crate::{MS, Micros};

/// How long a fetch waits for records.
const FETCH_WAIT: Micros = 200 * MS;

impl BrokerNode {
    /// A producer's batch.
    pub(super) fn produce(
        &mut self,
        from: Address,
        partition: PartitionId,
        batch: u64,
        bytes: &Bytes,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let (address, node) = (self.address(), self.node);
        let now_ms = self.clock.now_ms(ctx.now);
        let hint = self.leader_hint(partition);
        let refuse = |ctx: &mut Context, hint| {
            let result = Produced::Retry(hint);
            ctx.send(address, from, Message::Produced { batch, result });
            Ok(())
        };
        let Some(copy) = self.copy_mut(partition) else {
            return refuse(ctx, hint);
        };
        let Some(leader) = copy.replica.as_ref().and_then(|replica| replica.leader()) else {
            return refuse(ctx, hint);
        };
        if leader.may_append().is_err() {
            return refuse(ctx, None);
        }
        let epoch = leader.leader_epoch();
        let validated = validate_produce(bytes, &ProduceRules::default(), &mut Decompressor::new())
            .map_err(|error| format!("a producer sent a bad batch: {error}"))?;
        let append = AppendBatch {
            bytes: bytes.clone(),
            validated,
        };
        let before = copy.reader.log_end_offset();
        let mut results = copy.log.append_as_leader(&[append], epoch);
        let info = match results.remove(0) {
            Ok(info) => info,
            // The process goes down for it, and the batch may be there or not.
            Err(AppendError::Offline(_)) => return Ok(()),
            Err(
                AppendError::OutOfOrderSequence { .. } | AppendError::InvalidProducerEpoch { .. },
            ) => return refuse(ctx, None),
            Err(error) => return Err(format!("broker {node}: {error}")),
        };
        let end = info.last_offset.next();
        let mut out = Vec::new();
        if info.duplicate {
            ctx.coverage.duplicates += 1;
        } else {
            if let Some(leader) = copy
                .replica
                .as_mut()
                .and_then(|replica| replica.leader_mut())
            {
                leader.appended(end, now_ms, &mut out);
            }
            ctx.observe(Observation::Appended {
                node,
                partition,
                epoch,
            });
        }
        copy.waiting.push(Waiting {
            from,
            batch,
            base: info.base_offset,
            end,
        });
        if !info.duplicate {
            self.note_appended(partition, before)?;
            self.wants_sync(ctx);
            self.serve_parked(partition, ctx)?;
        }
        self.carry_out(partition, out, ctx)
    }

    /// Takes what was appended from `from` on into the shadow.
    pub(super) fn note_appended(
        &mut self,
        partition: PartitionId,
        from: Offset,
    ) -> Result<(), String> {
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let mut from = from;
        let end = copy.reader.log_end_offset();
        let mut entries = Vec::new();
        while from < end {
            let chunk = match copy.reader.read(from, end, 1 << 20, true) {
                Ok(chunk) => chunk,
                Err(_) if self.disk.is_halted() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            entries.extend(super::shadow::entries_of(&chunk.bytes)?);
            from = chunk.next_offset;
        }
        let shadow: &mut Shadow = self.shadows.entry(partition).or_default();
        shadow.entries.extend(entries);
        Ok(())
    }

    /// A follower's fetch.
    pub(super) fn fetch(
        &mut self,
        from: Address,
        partition: PartitionId,
        request: FetchRequest,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let address = self.address();
        let mut out = Vec::new();
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let leader = copy
            .replica
            .as_mut()
            .and_then(|replica| replica.leader_mut());
        let verdict = leader.map_or(FetchVerdict::NotLeader, |leader| {
            leader.fetch(&request, &Epochs(&copy.reader), now_ms, &mut out)
        });
        match verdict {
            FetchVerdict::Serve { high_watermark, .. } => {
                copy.parked.retain(|parked| parked.from != from);
                copy.parked.push(Parked {
                    from,
                    request,
                    since: ctx.now,
                    high_watermark,
                });
            }
            verdict => {
                let answer = FetchAnswer {
                    sequence: request.sequence,
                    leader_epoch: request.leader_epoch,
                    verdict,
                    records: None,
                };
                let message = Message::Fetched {
                    partition,
                    answer,
                    bytes: Bytes::new(),
                };
                ctx.send(address, from, message);
            }
        }
        self.carry_out(partition, out, ctx)?;
        self.serve_parked(partition, ctx)
    }

    /// Answers the fetches that wait, if there is something for them or they have waited for long.
    pub(super) fn serve_parked(
        &mut self,
        partition: PartitionId,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let address = self.address();
        let halted = self.disk.is_halted();
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        let Some(leader) = copy.replica.as_ref().and_then(|replica| replica.leader()) else {
            copy.parked.clear();
            return Ok(());
        };
        let end = copy.reader.log_end_offset();
        let (epoch, high_watermark) = (leader.leader_epoch(), leader.high_watermark());
        let verdict = FetchVerdict::Serve {
            high_watermark,
            log_start: copy.reader.log_start_offset(),
        };
        let due = |parked: &Parked| {
            parked.request.fetch_offset < end
                || parked.high_watermark < high_watermark
                || ctx.now - parked.since > FETCH_WAIT
        };
        let (now, waiting): (Vec<Parked>, Vec<Parked>) = copy.parked.iter().partition(|p| due(p));
        copy.parked = waiting;
        for parked in now {
            let from = parked.request.fetch_offset;
            let chunk = match copy.reader.read(from, end, ctx.scenario.fetch_bytes, true) {
                Ok(chunk) => chunk,
                // It was deleted meanwhile, or the machine stands still: the follower asks again.
                Err(conveyor_log::ReadError::OutOfRange { .. }) => continue,
                Err(_) if halted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let answer = FetchAnswer {
                sequence: parked.request.sequence,
                leader_epoch: epoch,
                verdict,
                records: (chunk.batch_count > 0).then_some(RecordSpan {
                    first_offset: chunk.first_offset,
                    next_offset: chunk.next_offset,
                }),
            };
            let message = Message::Fetched {
                partition,
                answer,
                bytes: chunk.bytes,
            };
            ctx.send(address, parked.from, message);
        }
        Ok(())
    }

    /// A follower's disk has caught up.
    pub(super) fn sync_reported(
        &mut self,
        partition: PartitionId,
        report: &SyncReport,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let mut out = Vec::new();
        if let Some(leader) = self.leader_mut(partition) {
            leader.sync_reported(report, now_ms, &mut out);
        }
        self.carry_out(partition, out, ctx)
    }

    /// The controller has answered a proposal.
    pub(super) fn proposal_answered(
        &mut self,
        partition: PartitionId,
        answer: &ProposalAnswer,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let now_ms = self.clock.now_ms(ctx.now);
        let mut out = Vec::new();
        if let Some(leader) = self.leader_mut(partition) {
            leader.proposal_answered(answer, now_ms, &mut out);
        }
        self.carry_out(partition, out, ctx)
    }

    /// The leader's timer.
    pub(super) fn lead_on(
        &mut self,
        partition: PartitionId,
        now_ms: i64,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        if let Some(leader) = self.leader_mut(partition) {
            leader.tick(now_ms, &mut out);
        }
        self.carry_out(partition, out, ctx)?;
        self.serve_parked(partition, ctx)
    }

    fn leader_mut(&mut self, partition: PartitionId) -> Option<&mut conveyor_replication::Leader> {
        self.copy_mut(partition)?.replica.as_mut()?.leader_mut()
    }

    /// Carries out what the rules command, and answers producers.
    pub(super) fn carry_out(
        &mut self,
        partition: PartitionId,
        commands: Vec<LeaderCommand>,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let (address, node) = (self.address(), self.node);
        let me = self.running.as_ref().and_then(|running| running.me);
        let mut advanced = false;
        for command in commands {
            match (command, me) {
                (LeaderCommand::AdvanceHighWatermark { to }, _) => {
                    let Some(copy) = self.copy_mut(partition) else {
                        return Ok(());
                    };
                    let from = copy.reader.high_watermark();
                    copy.reader.advance_high_watermark(to);
                    advanced = true;
                    if let Some(leader) = copy.replica.as_ref().and_then(|r| r.leader()) {
                        ctx.observe(Observation::Committed {
                            node,
                            partition,
                            epoch: leader.leader_epoch(),
                            from,
                            to,
                            in_sync: leader.in_sync(),
                        });
                    }
                }
                (LeaderCommand::Propose(proposal), Some(from)) => {
                    let message = Message::Propose {
                        from,
                        partition,
                        proposal,
                    };
                    ctx.send(address, Address::Controller, message);
                }
                (LeaderCommand::GiveUpLeadership { .. }, Some(from)) => {
                    if let Some(leader_epoch) = self.leader_mut(partition).map(|l| l.leader_epoch())
                    {
                        let message = Message::GiveUp {
                            from,
                            partition,
                            leader_epoch,
                        };
                        ctx.send(address, Address::Controller, message);
                    }
                }
                (_, None) => {}
            }
        }
        self.acknowledge(partition, ctx);
        self.observe_positions(partition, ctx);
        if advanced {
            self.serve_parked(partition, ctx)?;
        }
        Ok(())
    }

    /// Answers the producers whose records are committed, or will not be for a while.
    fn acknowledge(&mut self, partition: PartitionId, ctx: &mut Context) {
        let (address, node) = (self.address(), self.node);
        let Some(copy) = self.copy_mut(partition) else {
            return;
        };
        let Copy {
            replica, waiting, ..
        } = copy;
        let Some(leader) = replica.as_ref().and_then(|replica| replica.leader()) else {
            return;
        };
        let epoch = leader.leader_epoch();
        waiting.retain(|waiting| {
            let result = match leader.acknowledgement(waiting.end) {
                Acknowledgement::Wait => return true,
                Acknowledgement::Done => {
                    ctx.coverage.acknowledged += 1;
                    ctx.observe(Observation::Acknowledged {
                        node,
                        partition,
                        epoch,
                        base: waiting.base,
                        end: waiting.end,
                        in_sync: leader.in_sync(),
                    });
                    Produced::Done(waiting.base)
                }
                Acknowledgement::NotEnoughReplicasAfterAppend(_) => Produced::Retry(None),
            };
            let batch = waiting.batch;
            ctx.send(address, waiting.from, Message::Produced { batch, result });
            false
        });
    }

    /// A consumer's fetch: committed records only.
    pub(super) fn read(
        &mut self,
        from: Address,
        partition: PartitionId,
        request: u64,
        offset: Offset,
        ctx: &mut Context,
    ) {
        let address = self.address();
        let hint = self.leader_hint(partition);
        let fetch_bytes = ctx.scenario.fetch_bytes;
        let found = self.copy_mut(partition).and_then(|copy| {
            copy.replica.as_ref()?.leader()?;
            let start = copy.reader.log_start_offset();
            let high_watermark = copy.reader.high_watermark();
            let chunk = copy
                .reader
                .read(offset.max(start), high_watermark, fetch_bytes, true);
            Some((chunk.map_or(Bytes::new(), |chunk| chunk.bytes), start))
        });
        let (result, log_start) = match found {
            Some((bytes, start)) => (Ok(bytes), start),
            None => (Err(hint), Offset::ZERO),
        };
        let message = Message::ReadAnswer {
            request,
            result,
            log_start,
        };
        ctx.send(address, from, message);
    }

    /// Deletes records from the front, as an operator would; only what is committed.
    pub fn delete_records(
        &mut self,
        partition: PartitionId,
        ctx: &mut Context,
    ) -> Result<(), String> {
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        if copy
            .replica
            .as_ref()
            .and_then(|replica| replica.leader())
            .is_none()
        {
            return Ok(());
        }
        let high_watermark = copy.reader.high_watermark();
        let Some(shadow) = self.shadows.get(&partition) else {
            return Ok(());
        };
        let committed = shadow.between(0, high_watermark.value());
        // Near the end more often than not, so that followers find nothing to go on from.
        let back = ctx.rng.below(committed.len() as u64 / 3 + 1) as usize;
        let index = committed.len().saturating_sub(1 + back);
        let Some(first) = committed.get(index) else {
            return Ok(());
        };
        // What a producer may still send again stays: a follower that begins anew behind it would not
        // know it. Retention is meant to be longer than any retry.
        let last_of_each: BTreeMap<i64, i64> = committed
            .iter()
            .map(|entry| (entry.producer, entry.base))
            .collect();
        let needed = last_of_each.values().min().copied();
        let to = Offset(first.base.min(needed.unwrap_or(first.base)));
        let Some(copy) = self.copy_mut(partition) else {
            return Ok(());
        };
        if to <= copy.reader.log_start_offset() {
            return Ok(());
        }
        ctx.observe(Observation::Deleted { partition, to });
        if copy.log.delete_records_before(to).is_err() {
            return Ok(());
        }
        ctx.coverage.deletions += 1;
        let mut out = Vec::new();
        if let Some(leader) = self.leader_mut(partition) {
            leader.log_start_moved(to, &mut out);
        }
        self.carry_out(partition, out, ctx)
    }

    fn leader_hint(&self, partition: PartitionId) -> Option<NodeId> {
        let running = self.running.as_ref()?;
        let leader = view::partition(&running.image, partition)?.leader;
        (leader.is_some() && leader != self.node).then_some(leader)
    }
}

/// The entry of one batch.
pub(super) fn entry_of(bytes: &[u8]) -> Result<Entry, String> {
    BatchHeader::parse(bytes)
        .map(|header| Entry::of(&header))
        .map_err(|error| error.to_string())
}
