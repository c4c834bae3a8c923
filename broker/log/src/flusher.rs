//! Group commit: one flusher a data directory makes appended records durable, many at a time.

use std::sync::Arc;

use conveyor_record::Offset;

use crate::data_dir::DataDir;
use crate::error::SyncError;
use crate::reader::LogReader;

/// Called once, when the log is synced at least up to the offset asked for (with the synced offset,
/// which may be further), or when it is known that it will not be.
pub type SyncDone = Box<dyn FnOnce(Result<Offset, SyncError>) + Send>;

/// The queue and the work of group commit, without a thread: the simulation drives it step by step.
#[derive(Debug)]
pub struct GroupCommit {}

impl GroupCommit {
    /// For one data directory.
    pub fn new(_dir: &DataDir) -> Arc<Self> {
        unimplemented!()
    }
    /// Asks for everything below `end` to be synced. Requests of one log are answered in order.
    pub fn request(&self, _log: &LogReader, _end: Offset, _done: SyncDone) {
        unimplemented!()
    }
    /// One round: takes all requests, syncs their files, publishes, answers. Returns the number of
    /// files synced.
    pub fn run_round(&self) -> usize {
        unimplemented!()
    }
}

/// The thread of one data directory that runs [`GroupCommit`] rounds, one after another, as long as
/// there are requests.
#[derive(Debug)]
pub struct Flusher {}

impl Flusher {
    /// Starts the thread.
    pub fn start(_dir: &DataDir) -> std::io::Result<Self> {
        unimplemented!()
    }
    /// See [`GroupCommit::request`]. Never blocks on the disk.
    pub fn request(
        &self,
        _log: &LogReader,
        _end: Offset,
        _done: impl FnOnce(Result<Offset, SyncError>) + Send + 'static,
    ) {
        unimplemented!()
    }
    /// Answers what is queued and stops the thread.
    pub fn stop(self) {
        unimplemented!()
    }
}
