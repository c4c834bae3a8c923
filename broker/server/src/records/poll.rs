//! A long poll over some partitions.
//!
//! Everything is read once; if that is not enough, the poll watches its partitions and sleeps until
//! enough of them have moved, by the sizes that the logs tell, or its time is over. An error in a partition, or a partition that has filled its
//! own limit or that of the response, ends the wait (Kafka's rules). The first batch found always comes
//! whole. While a poll waits it holds no records: what a pass found too little of is read again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use conveyor_log::{AbortedTransaction, ReadChunk};
use conveyor_record::Offset;
use tokio::time::{Instant, timeout_at};

use super::read::{self, Isolation, ReadRequest};
use crate::fetch_memory::Room;
use crate::node::{Node, Refusal};
use crate::partition::{Partition, WakeSet, Watch};

/// A partition to be read, looked up.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) partition: Result<Arc<Partition>, Refusal>,
    /// Where to read on.
    pub(crate) from: Offset,
    /// Most bytes of this partition; 0 for as many as the response may have.
    pub(crate) bytes_max: usize,
}

/// What the whole response is to keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) isolation: Isolation,
    /// Most bytes of records; the first batch comes whole all the same.
    pub(crate) bytes: usize,
    /// The wait ends when this many bytes are there.
    pub(crate) min_bytes: usize,
}

/// What was read of a partition.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) chunk: ReadChunk,
    /// Whose records in it a consumer of committed ones leaves out.
    pub(crate) aborted: Vec<AbortedTransaction>,
}

/// What one pass over all partitions gave, in their order.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) partitions: Vec<Result<Batches, Refusal>>,
    /// Bytes of records in all of them.
    pub(crate) bytes: usize,
    /// Waiting longer would not help.
    complete: bool,
}

/// Reads all partitions, and again when there seems to be enough, until there is or `wait` is over.
pub(crate) async fn poll(node: &Node, targets: &[Target], limits: Limits, wait: Duration) -> Pass {
    let pass = read_all(node, targets, limits).await;
    if pass.complete || wait.is_zero() {
        return pass;
    }
    drop(pass);
    let deadline = Instant::now() + wait;
    let wake = Arc::new(WakeSet::default());
    let _watches = watch_each_once(targets, &wake);
    loop {
        // Looked at again after the watches are set: what came in between has woken nobody.
        if Instant::now() >= deadline || may_be_enough(targets, limits) {
            let pass = read_all(node, targets, limits).await;
            if pass.complete || Instant::now() >= deadline {
                return pass;
            }
            // Its records would hold memory that others could use meanwhile.
            drop(pass);
        }
        // Woken or out of time: either way the next look tells what is there.
        drop(timeout_at(deadline, wake.moved()).await);
    }
}

/// Whether a pass may be complete, as far as that is known without reading.
fn may_be_enough(targets: &[Target], limits: Limits) -> bool {
    let mut bytes = 0;
    for target in targets {
        let Ok(partition) = &target.partition else {
            return true;
        };
        let bound = limits.isolation.bound(partition);
        let more = partition.reader().bytes_between(target.from, bound);
        let Some(more) = more.filter(|_| !partition.is_closed()) else {
            return true;
        };
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        if more >= own_limit(target) {
            return true;
        }
        bytes += more;
    }
    bytes >= limits.min_bytes.min(limits.bytes)
}

/// Most bytes of this partition.
fn own_limit(target: &Target) -> usize {
    match target.bytes_max {
        0 => usize::MAX,
        bytes => bytes,
    }
}

/// Watches the partitions, each once however often the request names it.
fn watch_each_once(targets: &[Target], wake: &Arc<WakeSet>) -> Vec<Watch> {
    let mut seen = HashSet::new();
    let partitions = targets
        .iter()
        .filter_map(|target| target.partition.as_ref().ok());
    partitions
        .filter(|partition| seen.insert(Arc::as_ptr(partition)))
        .map(|partition| partition.watch(wake, 0))
        .collect()
}

async fn read_all(node: &Node, targets: &[Target], limits: Limits) -> Pass {
    let mut pass = Pass {
        partitions: Vec::with_capacity(targets.len()),
        bytes: 0,
        complete: targets.is_empty(),
    };
    // Taken once for the whole response, when the first partition has something to read.
    let mut room: Option<Room> = None;
    for target in targets {
        if room.is_none() && has_records(target, limits.isolation) {
            room = Some(node.fetch_memory.room(limits.bytes).await);
        }
        let left = match &room {
            Some(_) => limits.bytes.saturating_sub(pass.bytes),
            None => 0,
        };
        let first = room.is_some() && pass.bytes == 0;
        let mut read = read_one(target, limits.isolation, left, first).await;
        match &mut read {
            Ok((batches, filled)) => {
                if let Some(room) = &mut room {
                    batches.chunk.bytes = room.hold(std::mem::take(&mut batches.chunk.bytes));
                }
                pass.bytes += batches.chunk.bytes.len();
                pass.complete |= *filled && pass.bytes > 0;
            }
            Err(_) => pass.complete = true,
        }
        pass.partitions.push(read.map(|(batches, _)| batches));
    }
    pass.complete |= pass.bytes >= limits.min_bytes;
    pass
}

/// Whether there is something that the consumer may see.
fn has_records(target: &Target, isolation: Isolation) -> bool {
    let partition = target.partition.as_ref();
    partition.is_ok_and(|partition| isolation.bound(partition) > target.from)
}

/// Reads one partition; tells whether a limit cut it short, so that waiting would bring no more.
async fn read_one(
    target: &Target,
    isolation: Isolation,
    left: usize,
    nothing_yet: bool,
) -> Result<(Batches, bool), Refusal> {
    let partition = target.partition.as_ref().map_err(Refusal::clone)?;
    if partition.is_closed() {
        return Err(read::closed(partition));
    }
    let request = ReadRequest {
        from: target.from,
        bytes_max: own_limit(target).min(left),
        min_one_batch: nothing_yet,
        isolation,
    };
    let chunk = read::read(partition, request).await?;
    let filled = chunk.next_offset < isolation.bound(partition);
    let aborted = read::aborted(partition, &chunk, isolation)?;
    Ok((Batches { chunk, aborted }, filled))
}
