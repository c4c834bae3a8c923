//! The thread of a data directory that appends.
//!
//! It takes everything that is queued, groups it by partition in order of arrival, and gives each
//! group to the log as one vectored write. Groups that must be durable go on to the flusher, whose
//! answer moves the high watermark and releases the replies of the group in order; the next round of
//! appends is written meanwhile. While the disk is busy the queue grows, and so do the groups: that
//! is the group commit. The queue is bounded by the bytes' permits that each append holds.
//!
//! Replies of refused batches leave with those of their group, after the sync: an error such as a
//! sequence gap can tell of batches that are not durable yet.

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use conveyor_log::{AppendInfo, Flusher, SyncError};
use conveyor_record::Offset;
use parking_lot::{Condvar, Mutex};

use super::Partition;
use super::append::{Acks, Append, AppendFailure, AppendResult, Appended, Permits, Reply};

/// The queue of a data directory and its thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    appends: Vec<Append>,
    syncs: Vec<Arc<Partition>>,
    stopped: bool,
}

impl Writer {
    /// Starts the thread; it owns the flusher and stops it at the end.
    pub(super) fn start(name: &str, flusher: Flusher) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let own = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name(format!("writer-{name}"))
            .spawn(move || own.run(flusher))?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues an append; refused once the writer is stopped.
    pub(super) fn submit(&self, append: Append) {
        let refused = {
            let mut state = self.queue.state.lock();
            if state.stopped {
                Some(append)
            } else {
                state.appends.push(append);
                None
            }
        };
        match refused {
            None => {
                self.queue.filled.notify_one();
            }
            Some(append) => append.reply.send(Err(closed(&append.partition))),
        }
    }

    /// Asks for a sync of what a partition has, without anybody waiting for it: topics that are not
    /// synced before the acknowledgement are synced soon after.
    pub(super) fn request_sync(&self, partition: Arc<Partition>) {
        self.queue.state.lock().syncs.push(partition);
        self.queue.filled.notify_one();
    }

    /// Appends what is queued, waits for its syncs, and ends the thread.
    pub(super) fn stop(&self) {
        self.queue.state.lock().stopped = true;
        self.queue.filled.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a writer thread panicked");
        }
    }
}

impl Queue {
    fn run(&self, flusher: Flusher) {
        let mut groups = Groups::default();
        loop {
            let (appends, syncs) = {
                let mut state = self.state.lock();
                while state.appends.is_empty() && state.syncs.is_empty() && !state.stopped {
                    self.filled.wait(&mut state);
                }
                if state.appends.is_empty() && state.syncs.is_empty() {
                    break;
                }
                (mem::take(&mut state.appends), mem::take(&mut state.syncs))
            };
            for group in groups.split(appends) {
                write_group(group, &flusher);
            }
            for partition in syncs {
                request_sync(&partition, &flusher);
            }
        }
        flusher.stop();
    }
}

/// Appends of one partition, in order of arrival.
struct Group {
    partition: Arc<Partition>,
    batches: Vec<conveyor_log::AppendBatch>,
    waiting: Vec<Waiting>,
}

/// Who waits for one batch of a group.
struct Waiting {
    acks: Acks,
    log_append_timestamp_ms: i64,
    reply: Reply,
    permits: Permits,
    queued: Instant,
}

/// Splits a queue into groups; keeps the last length to allocate once.
#[derive(Default)]
struct Groups {
    capacity: usize,
}

impl Groups {
    fn split(&mut self, appends: Vec<Append>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(self.capacity);
        for append in appends {
            let same = |group: &&mut Group| Arc::ptr_eq(&group.partition, &append.partition);
            // Producers send to few partitions at a time, so the newest groups are looked at first.
            let group = match groups.iter_mut().rev().find(same) {
                Some(group) => group,
                None => groups.push_mut(Group {
                    partition: Arc::clone(&append.partition),
                    batches: Vec::new(),
                    waiting: Vec::new(),
                }),
            };
            group.batches.push(append.batch);
            group.waiting.push(Waiting {
                acks: append.acks,
                log_append_timestamp_ms: append.log_append_timestamp_ms,
                reply: append.reply,
                permits: append.permits,
                queued: append.queued,
            });
        }
        self.capacity = groups.len();
        groups
    }
}

/// Writes a group and answers it, or hands it on to the flusher.
fn write_group(group: Group, flusher: &Flusher) {
    let Group {
        partition,
        batches,
        waiting,
    } = group;
    let epoch = partition.leader_epoch();
    let Some(results) = partition.with_log(|log| log.append_as_leader(&batches, epoch)) else {
        for waiting in waiting {
            waiting.answer(&partition, Err(closed(&partition)));
        }
        return;
    };
    drop(batches);
    let end = results
        .iter()
        .flatten()
        .map(|info| info.last_offset.next())
        .max();
    let answers = waiting.into_iter().zip(results).map(|(waiting, result)| {
        let result = result
            .map_err(AppendFailure::Refused)
            .map(|info| waiting.appended(&info));
        (waiting, result)
    });
    if !partition.syncs_before_ack() {
        partition.advance(partition.reader().log_end_offset());
        partition.directory().mark_unsynced(&partition);
        for (waiting, result) in answers {
            waiting.answer(&partition, result);
        }
        return;
    }
    let mut durable = Vec::with_capacity(answers.len());
    for (waiting, result) in answers {
        match waiting.acks {
            Acks::All => durable.push((waiting, result)),
            Acks::Leader | Acks::None => waiting.answer(&partition, result),
        }
    }
    match end {
        // Nothing was written and nothing is known of what was written before.
        None => answer_all(&partition, durable, &Ok(())),
        Some(end) => {
            let own = Arc::clone(&partition);
            flusher.request(partition.reader(), end, move |synced| {
                if let Ok(synced) = synced {
                    own.advance(synced);
                }
                answer_all(&own, durable, &synced.map(|_| ()));
            });
        }
    }
}

/// Syncs a partition in the background; its readers learn the new position from the reader.
fn request_sync(partition: &Arc<Partition>, flusher: &Flusher) {
    let end = partition.reader().log_end_offset();
    if partition.reader().synced_offset() >= end {
        return;
    }
    let own = Arc::clone(partition);
    flusher.request(
        partition.reader(),
        end,
        move |synced: Result<Offset, SyncError>| match synced {
            Ok(synced) => own.advance(synced),
            Err(error) => tracing::warn!(partition = %own.name(), %error, "not synced"),
        },
    );
}

fn answer_all(
    partition: &Partition,
    answers: Vec<(Waiting, AppendResult)>,
    synced: &Result<(), SyncError>,
) {
    for (waiting, result) in answers {
        let result = match synced {
            Ok(()) => result,
            Err(error) => result.and_then(|_| Err(AppendFailure::NotDurable(error.clone()))),
        };
        waiting.answer(partition, result);
    }
}

impl Waiting {
    fn appended(&self, info: &AppendInfo) -> Appended {
        Appended {
            base_offset: info.base_offset,
            last_offset: info.last_offset,
            log_start_offset: info.log_start_offset,
            log_append_timestamp_ms: self.log_append_timestamp_ms,
        }
    }

    /// The permit is given back before the reply leaves, so that who is answered finds room.
    fn answer(self, partition: &Partition, result: AppendResult) {
        partition.directory().record_append(self.queued.elapsed());
        drop(self.permits);
        self.reply.send(result);
    }
}

fn closed(partition: &Partition) -> AppendFailure {
    AppendFailure::Closed {
        partition: Arc::clone(partition.name()),
    }
}
