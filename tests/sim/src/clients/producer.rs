//! An idempotent producer: one batch at a time, sent again until it is acknowledged.

use bytes::Bytes;
use conveyor_record::{BatchOptions, NodeId, ProducerEpoch, ProducerId};

use crate::batch;
use crate::context::Context;
use crate::message::{Address, Event, Message, PartitionId, Produced};
use crate::{MS, Micros};

const TIMEOUT: Micros = 400 * MS;

/// One producer, of one partition.
#[derive(Debug)]
pub struct Producer {
    index: usize,
    /// The partition it writes to.
    pub partition: PartitionId,
    /// Whom it takes for the leader.
    leader: NodeId,
    next_sequence: i32,
    batch: u64,
    outstanding: Option<Outstanding>,
    not_before: Micros,
    /// Writes nothing new once so many batches are acknowledged.
    pub enough: u64,
    /// Batches acknowledged.
    pub acknowledged: u64,
}

#[derive(Debug)]
struct Outstanding {
    bytes: Bytes,
    sent: Option<Micros>,
    /// Everything acknowledged below here was so before this batch was first sent.
    after: i64,
}

impl Producer {
    /// A producer that has not written yet.
    pub fn new(index: usize, partition: PartitionId) -> Self {
        Self {
            index,
            partition,
            leader: NodeId(1),
            next_sequence: 0,
            batch: 0,
            outstanding: None,
            not_before: 0,
            enough: u64::MAX,
            acknowledged: 0,
        }
    }

    /// Its id as a producer.
    pub const fn id(&self) -> i64 {
        self.index as i64 + 1
    }

    /// Whether nothing of it is on its way.
    pub const fn is_idle(&self) -> bool {
        self.outstanding.is_none()
    }

    /// Whether it writes nothing new any more.
    pub const fn has_enough(&self) -> bool {
        self.acknowledged >= self.enough
    }

    /// Its timer. `acknowledged` is the end of what was acknowledged in its partition so far.
    pub fn tick(&mut self, acknowledged: i64, ctx: &mut Context) -> Result<(), String> {
        let think = ctx.scenario.think_time;
        let delay = think / 2 + ctx.chance(think);
        ctx.after(delay, Event::ProducerTick(self.index));
        if self.outstanding.is_none() && ctx.now >= self.not_before && !self.has_enough() {
            let count = 1 + ctx.rng.below(3) as i32;
            let size = ctx.rng.below(120) as usize;
            let bytes = self.build(count, size)?;
            self.next_sequence += count;
            self.batch += 1;
            self.outstanding = Some(Outstanding {
                bytes,
                sent: None,
                after: acknowledged,
            });
        }
        self.send_if_due(ctx);
        Ok(())
    }

    fn send_if_due(&mut self, ctx: &mut Context) {
        let brokers = ctx.scenario.brokers;
        let Some(outstanding) = &mut self.outstanding else {
            return;
        };
        if ctx.now < self.not_before {
            return;
        }
        match outstanding.sent {
            Some(sent) if ctx.now - sent < TIMEOUT => return,
            // No answer: perhaps it is gone.
            Some(_) => self.leader = NodeId(1 + ctx.rng.below(brokers as u64) as i32),
            None => {}
        }
        outstanding.sent = Some(ctx.now);
        let message = Message::Produce {
            partition: self.partition,
            batch: self.batch,
            bytes: outstanding.bytes.clone(),
        };
        let to = Address::Broker(self.leader);
        ctx.send(Address::Producer(self.index), to, message);
    }

    /// An answer. The offset of the batch and what it must lie behind, if it was acknowledged.
    pub fn answered(
        &mut self,
        batch: u64,
        result: Produced,
        ctx: &mut Context,
    ) -> Option<(i64, i64)> {
        if batch != self.batch || self.outstanding.is_none() {
            return None;
        }
        match result {
            Produced::Done(offset) => {
                let after = self.outstanding.take().map_or(0, |sent| sent.after);
                self.acknowledged += 1;
                Some((offset.value(), after))
            }
            Produced::Retry(leader) => {
                let brokers = ctx.scenario.brokers as u64;
                self.leader = leader.unwrap_or_else(|| NodeId(1 + ctx.rng.below(brokers) as i32));
                if let Some(outstanding) = &mut self.outstanding {
                    outstanding.sent = None;
                }
                self.not_before = ctx.now + 10 * MS + ctx.chance(20 * MS);
                None
            }
        }
    }

    fn build(&self, count: i32, size: usize) -> Result<Bytes, String> {
        let options = BatchOptions {
            producer_id: ProducerId(self.id()),
            producer_epoch: ProducerEpoch(0),
            base_sequence: self.next_sequence,
            ..BatchOptions::default()
        };
        let value = |index| {
            let mut value = format!("{}/{}/", self.id(), self.next_sequence + index).into_bytes();
            value.resize(value.len() + size, b'.');
            value
        };
        batch::of_values(options, (0..count).map(value))
    }
}
