//! What the node does by itself: checkpoints, retention, rolling by time, refilling the pool,
//! compaction. Everything that touches the disk runs on its own threads, which sleep until there is
//! something to do or the node stops.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::node::Node;
use crate::partition::{Directory, Partition};

/// Tells sleeping threads to end.
#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Sleeps; true once the node stops.
    fn sleep(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut stopped = self.stopped.lock();
        while !*stopped {
            if self.changed.wait_until(&mut stopped, deadline).timed_out() {
                return *stopped;
            }
        }
        true
    }

    fn is_set(&self) -> bool {
        *self.stopped.lock()
    }

    fn set(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

/// The threads of the node's own work.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts them: one for checkpoints and one for the pool of each directory, one for retention,
    /// one for compaction.
    pub(crate) fn start(node: &Arc<Node>) -> io::Result<Self> {
        let mut background = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for directory in node.storage.directories() {
            let interval = duration(node.config.checkpoint_interval_ms);
            let own = Arc::clone(directory);
            background.spawn("checkpoints", move |stop| {
                keep_checkpoints(&own, interval, stop);
            })?;
            let own = Arc::clone(directory);
            background.spawn("segment-pool", move |stop| keep_pool(&own, stop))?;
        }
        let own = Arc::clone(node);
        background.spawn("retention", move |stop| keep_retention(&own, stop))?;
        if node.config.cleaner_enable {
            let own = Arc::clone(node);
            background.spawn("log-cleaner", move |stop| {
                crate::cleaner::run(&own, &|pause| stop.sleep(pause));
            })?;
        }
        Ok(background)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Stop) + Send + 'static) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&stop))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends the threads; waits for what they are doing.
    pub(crate) fn stop(self, node: &Node) {
        self.stop.set();
        for directory in node.storage.directories() {
            directory.data_dir().wake_refill();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }
}

pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn keep_checkpoints(directory: &Directory, interval: Duration, stop: &Stop) {
    while !stop.sleep(interval) {
        directory.sync_unsynced();
        if let Err(error) = directory.data_dir().write_checkpoints() {
            tracing::error!(%error, "checkpoints are not written");
            return;
        }
    }
}

fn keep_pool(directory: &Directory, stop: &Stop) {
    while !stop.is_set() {
        match directory.data_dir().refill_pool() {
            Ok(true) => {}
            Ok(false) => directory.data_dir().wait_for_refill(),
            Err(error) => {
                tracing::warn!(%error, "the pool of segments is not refilled");
                return;
            }
        }
    }
}

fn keep_retention(node: &Node, stop: &Stop) {
    let interval = duration(node.config.retention_check_interval_ms);
    while !stop.sleep(interval) {
        for partition in node.partitions().online() {
            if stop.is_set() {
                return;
            }
            retain(node, &partition);
        }
    }
}

fn retain(node: &Node, partition: &Partition) {
    if partition.directory().offline().is_some() {
        return;
    }
    let now_ms = node.now_ms();
    let outcome = partition.with_log(|log| {
        log.roll_if_due(now_ms)?;
        log.apply_retention(now_ms)
    });
    match outcome {
        Some(Ok(removed)) if removed > 0 => {
            node.metrics.retention_bytes.add(removed);
            tracing::info!(partition = %partition.name(), removed, "retention removed segments");
        }
        Some(Err(error)) => {
            tracing::error!(partition = %partition.name(), %error, "retention failed");
        }
        Some(Ok(_)) | None => {}
    }
}
