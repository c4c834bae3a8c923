//! Group commit: one flusher a data directory makes appended records durable, many at a time.
//!
//! The cost of a sync is the number of dirty files, not of bytes, and while one runs more appends
//! arrive: so the loop is "take every request, sync each log once, publish, answer, repeat". The
//! round itself is a plain function ([`GroupCommit::run_round`]), so that a simulation can drive it;
//! [`Flusher`] is the thread around it. A failed sync takes the directory offline and fails every
//! waiter; nothing is ever retried.
//!
//! The queue is bounded by its callers: each request stands for appended bytes that the server has
//! taken a permit for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use conveyor_record::Offset;
use parking_lot::{Condvar, Mutex};

use crate::data_dir::{DataDir, DirShared};
use crate::error::SyncError;
use crate::reader::LogReader;
use crate::shared::LogShared;

/// Called once, when the log is synced at least up to the offset asked for (with the synced offset,
/// which may be further), or when it is known that it will not be.
pub type SyncDone = Box<dyn FnOnce(Result<Offset, SyncError>) + Send>;

/// What group commit has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Rounds with at least one request.
    pub rounds: u64,
    /// Files synced.
    pub syncs: u64,
    /// Requests answered.
    pub requests: u64,
}

struct Request {
    log: Arc<LogShared>,
    end: Offset,
    done: Option<SyncDone>,
}

/// Requests that wait for the next round.
#[derive(Default)]
pub(crate) struct CommitQueue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    rounds: AtomicU64,
    syncs: AtomicU64,
    requests: AtomicU64,
}

#[derive(Default)]
struct QueueState {
    requests: Vec<Request>,
    stopped: bool,
}

impl std::fmt::Debug for CommitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitQueue")
            .field("waiting", &self.state.lock().requests.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl CommitQueue {
    /// Asks for everything below `end` to be synced; `done` is called from the flusher's thread.
    pub(crate) fn request(&self, log: &Arc<LogShared>, end: Offset, done: Option<SyncDone>) {
        let refused = {
            let mut state = self.state.lock();
            if state.stopped {
                done
            } else {
                state.requests.push(Request {
                    log: Arc::clone(log),
                    end,
                    done,
                });
                self.arrived.notify_one();
                None
            }
        };
        if let Some(done) = refused {
            done(Err(SyncError::Stopped));
        }
    }

    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// Waits for requests; `false` when the queue was stopped and is empty.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.requests.is_empty() && !state.stopped {
            self.arrived.wait(&mut state);
        }
        !state.requests.is_empty()
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.arrived.notify_all();
    }

    fn stats(&self) -> CommitStats {
        CommitStats {
            rounds: self.rounds.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

/// The requests of one log, in the order in which they came.
struct Dirty {
    log: Arc<LogShared>,
    waiters: Vec<(Offset, Option<SyncDone>)>,
}

/// The queue and the work of group commit, without a thread: the simulation drives it step by step.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    dir: Arc<DirShared>,
}

impl GroupCommit {
    /// Of one data directory; all of them share one queue.
    pub fn new(dir: &DataDir) -> Self {
        Self {
            dir: Arc::clone(&dir.shared),
        }
    }

    /// Asks for everything below `end` to be synced. Requests of one log are answered in order.
    pub fn request(&self, log: &LogReader, end: Offset, done: SyncDone) {
        assert!(
            Arc::ptr_eq(&log.shared.dir, &self.dir),
            "{} lies in another data directory",
            log.partition()
        );
        self.dir.commits.request(&log.shared, end, Some(done));
    }

    /// One round: takes all requests, syncs their logs, publishes, answers, moves recovery points
    /// that are due. Returns the number of logs synced.
    pub fn run_round(&self) -> usize {
        let requests = self.dir.commits.take();
        if requests.is_empty() {
            return 0;
        }
        let commits = &self.dir.commits;
        commits.rounds.fetch_add(1, Ordering::Relaxed);
        commits
            .requests
            .fetch_add(requests.len() as u64, Ordering::Relaxed);
        let mut dirty = by_log(requests);
        let logs: Vec<Arc<LogShared>> = dirty.iter().map(|entry| Arc::clone(&entry.log)).collect();
        let synced = if self.many(dirty.len()) {
            self.sync_many(&mut dirty)
        } else {
            let syncs = dirty.drain(..).map(sync_and_answer);
            syncs.filter(|synced| *synced).count()
        };
        commits.syncs.fetch_add(synced as u64, Ordering::Relaxed);
        self.finish_checkpoints(&logs);
        synced
    }

    /// What has been done so far.
    pub fn stats(&self) -> CommitStats {
        self.dir.commits.stats()
    }

    fn many(&self, files: usize) -> bool {
        files >= self.dir.config.parallel_sync_files_min.max(2) && self.dir.disk.syncs_in_parallel()
    }

    fn sync_many(&self, dirty: &mut Vec<Dirty>) -> usize {
        if self.dir.config.own_volume && self.sync_volume(dirty) {
            let synced = dirty.len();
            dirty.drain(..).for_each(answer);
            return synced;
        }
        let work: Vec<Mutex<Option<Dirty>>> =
            dirty.drain(..).map(|log| Mutex::new(Some(log))).collect();
        let (next, synced) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..self.dir.config.sync_threads.clamp(1, work.len()) {
                scope.spawn(|| {
                    while let Some(slot) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let log = slot.lock().take();
                        if log.is_some_and(sync_and_answer) {
                            synced.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        synced.into_inner()
    }

    /// One `syncfs` for all. `false` if this disk has none: the logs are then synced one by one.
    fn sync_volume(&self, dirty: &[Dirty]) -> bool {
        // Every lock is taken before the ends are read, so that nothing is cut meanwhile; the owner
        // of a log takes one lock only, so no circle can form.
        let guards: Vec<_> = dirty
            .iter()
            .map(|entry| entry.log.sync_lock.lock())
            .collect();
        if self.dir.health.check().is_err() {
            return true;
        }
        let ends: Vec<Offset> = dirty.iter().map(|entry| entry.log.log_end()).collect();
        match self.dir.disk.sync_volume(&self.dir.path) {
            Ok(true) => {
                for (entry, end) in dirty.iter().zip(ends) {
                    entry.log.set_synced(end);
                }
                drop(guards);
                true
            }
            Ok(false) => false,
            Err(error) => {
                let error = crate::error::DiskError::new("sync", &self.dir.path, error);
                self.dir.health.fail(error);
                true
            }
        }
    }

    fn finish_checkpoints(&self, logs: &[Arc<LogShared>]) {
        let mut moved = false;
        for log in logs {
            // A failure has taken the directory offline; the next request hears of it.
            moved |= log.finish_checkpoint().unwrap_or(false);
        }
        if moved && let Err(offline) = self.dir.write_checkpoints() {
            tracing::error!(%offline, "cannot write recovery points");
        }
    }
}

fn by_log(requests: Vec<Request>) -> Vec<Dirty> {
    let mut places: BTreeMap<*const LogShared, usize> = BTreeMap::new();
    let mut dirty: Vec<Dirty> = Vec::new();
    for request in requests {
        let place = *places.entry(Arc::as_ptr(&request.log)).or_insert_with(|| {
            dirty.push(Dirty {
                log: Arc::clone(&request.log),
                waiters: Vec::new(),
            });
            dirty.len() - 1
        });
        dirty[place].waiters.push((request.end, request.done));
    }
    dirty
}

/// Syncs one log and answers its waiters. Returns whether a file was synced.
fn sync_and_answer(dirty: Dirty) -> bool {
    let wanted = dirty.waiters.iter().map(|(end, _)| *end).max();
    let due = wanted.is_some_and(|wanted| dirty.log.synced() < wanted) && !dirty.log.is_closed();
    if due && let Err(offline) = dirty.log.sync() {
        for (_, done) in dirty.waiters {
            if let Some(done) = done {
                done(Err(SyncError::Offline(offline.clone())));
            }
        }
        return false;
    }
    answer(dirty);
    due
}

/// Tells the waiters of one log, in order, how far it is synced.
fn answer(dirty: Dirty) {
    let Dirty { log, waiters } = dirty;
    for (end, done) in waiters {
        let Some(done) = done else { continue };
        let synced = log.synced();
        if synced >= end {
            done(Ok(synced));
        } else if let Err(offline) = log.dir.health.check() {
            done(Err(SyncError::Offline(offline)));
        } else {
            done(Err(SyncError::Abandoned {
                partition: log.partition().clone(),
                offset: end,
            }));
        }
    }
}

/// The thread of one data directory that runs [`GroupCommit`] rounds, one after another, as long as
/// there are requests.
#[derive(Debug)]
pub struct Flusher {
    commit: GroupCommit,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread.
    pub fn start(dir: &DataDir) -> std::io::Result<Self> {
        let commit = GroupCommit::new(dir);
        let rounds = commit.clone();
        let thread = std::thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || {
                while rounds.dir.commits.wait() {
                    rounds.run_round();
                }
            })?;
        Ok(Self {
            commit,
            thread: Some(thread),
        })
    }

    /// See [`GroupCommit::request`]. Never blocks on the disk; `done` runs on the flusher's thread
    /// and must not block either.
    pub fn request(
        &self,
        log: &LogReader,
        end: Offset,
        done: impl FnOnce(Result<Offset, SyncError>) + Send + 'static,
    ) {
        self.commit.request(log, end, Box::new(done));
    }

    /// What has been done so far.
    pub fn stats(&self) -> CommitStats {
        self.commit.stats()
    }

    /// Answers what is queued and stops the thread.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.commit.dir.commits.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the flusher has panicked");
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.join();
    }
}
