//! A consumer: reads a partition from its start, over and over.

use bytes::Bytes;
use conveyor_record::{NodeId, Offset};

use crate::broker::shadow::{Entry, entries_of};
use crate::context::Context;
use crate::message::{Address, Event, Message, PartitionId};
use crate::{MS, Micros};

const INTERVAL: Micros = 30 * MS;
const TIMEOUT: Micros = 400 * MS;

/// One consumer of one partition.
#[derive(Debug)]
pub struct Consumer {
    index: usize,
    /// The partition it reads.
    pub partition: PartitionId,
    leader: NodeId,
    /// The next offset it wants.
    pub position: i64,
    request: u64,
    sent: Option<Micros>,
}

impl Consumer {
    /// A consumer at the start.
    pub fn new(index: usize, partition: PartitionId) -> Self {
        Self {
            index,
            partition,
            leader: NodeId(1),
            position: 0,
            request: 0,
            sent: None,
        }
    }

    /// Its timer.
    pub fn tick(&mut self, ctx: &mut Context) {
        ctx.after(INTERVAL, Event::ConsumerTick(self.index));
        if let Some(sent) = self.sent {
            if ctx.now - sent < TIMEOUT {
                return;
            }
            self.leader = NodeId(1 + ctx.rng.below(ctx.scenario.brokers as u64) as i32);
        }
        self.ask(ctx);
    }

    fn ask(&mut self, ctx: &mut Context) {
        self.request += 1;
        self.sent = Some(ctx.now);
        let message = Message::Read {
            partition: self.partition,
            request: self.request,
            from: Offset(self.position),
        };
        let to = Address::Broker(self.leader);
        ctx.send(Address::Consumer(self.index), to, message);
    }

    /// An answer; the batches in it that are new, which must follow each other.
    pub fn answered(
        &mut self,
        request: u64,
        result: Result<Bytes, Option<NodeId>>,
        log_start: Offset,
        ctx: &mut Context,
    ) -> Result<Vec<Entry>, String> {
        if request != self.request || self.sent.is_none() {
            return Ok(Vec::new());
        }
        self.sent = None;
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(leader) => {
                let brokers = ctx.scenario.brokers as u64;
                self.leader = leader.unwrap_or_else(|| NodeId(1 + ctx.rng.below(brokers) as i32));
                return Ok(Vec::new());
            }
        };
        let entries = entries_of(&bytes)?;
        self.position = self.position.max(log_start.value());
        for entry in &entries {
            if entry.base > self.position {
                return Err(format!(
                    "a consumer at offset {} was given {entry:?}",
                    self.position
                ));
            }
            self.position = self.position.max(entry.next);
        }
        ctx.coverage.read += entries.len() as u64;
        if !entries.is_empty() {
            self.ask(ctx);
        }
        Ok(entries)
    }
}
