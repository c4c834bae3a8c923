//! A place for one store, empty at first, opened as often as a test likes.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::Duration;

use conveyor_processors::{Builds, Store};
use conveyor_stores::StoreAddress;

/// Where a store lies for the time of one test.
pub(crate) struct Site {
    /// As given to `conveyor processors run --store`.
    pub(crate) url: String,
    /// Whether a process that is frozen in the middle of a transaction holds everybody up until it
    /// is woken: a file's lock does, a server gives up on a silent client.
    pub(crate) held_by_frozen: bool,
    /// A stand-in written in Python: the same cases with fewer repetitions.
    pub(crate) slow: bool,
    /// Whether a table is read in several steps.
    pub(crate) reads_in_pieces: bool,
    /// What goes away with the site: a folder, a database.
    _keep: Box<dyn Any + Send + Sync>,
}

impl Site {
    /// A place on a server.
    pub(crate) fn new(url: String, keep: impl Any + Send + Sync) -> Self {
        Self {
            held_by_frozen: false,
            slow: false,
            reads_in_pieces: url.starts_with("redis"),
            url,
            _keep: Box::new(keep),
        }
    }

    /// The store as one more instance sees it: nothing is shared with those opened before.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        open(&self.url).await
    }

    /// The same, to see and switch builds.
    pub(crate) async fn open_builds(&self) -> Arc<dyn Builds> {
        open_builds(&self.url).await
    }
}

/// Opens the store at an address, to see and switch builds.
pub(crate) async fn open_builds(url: &str) -> Arc<dyn Builds> {
    let address: StoreAddress = url.parse().unwrap();
    address.open_builds().await.unwrap()
}

/// Opens the store at an address.
pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    let address: StoreAddress = url.parse().unwrap();
    address.open().await.unwrap()
}

/// A file in a folder of its own.
pub(crate) fn sqlite() -> Site {
    let folder = tempfile::tempdir().unwrap();
    Site {
        url: format!("sqlite:{}", folder.path().join("read.db").display()),
        held_by_frozen: true,
        slow: false,
        reads_in_pieces: false,
        _keep: Box::new(folder),
    }
}

/// Longest time for one test: far above what any takes on a machine that is busy.
const TEST_TIME_MAX: Duration = Duration::from_mins(5);

/// Runs a test, for a bounded time. One that hangs fails with its name.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let _bound = Bound::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let bounded = runtime.block_on(async { tokio::time::timeout(TEST_TIME_MAX, future).await });
    // What a test leaves behind must not hold it up.
    runtime.shutdown_background();
    bounded.unwrap_or_else(|_| panic!("{} hangs: no end within {TEST_TIME_MAX:?}", test_name()))
}

fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("a test").to_owned()
}

/// Ends the whole test process if a test does not even hear that its time is up.
pub(crate) struct Bound {
    /// Hung up on when the test ends.
    _ended: Sender<()>,
}

impl Bound {
    #[allow(clippy::exit, reason = "a test that cannot be stopped otherwise")]
    pub(crate) fn start() -> Self {
        let (ended, watch) = std::sync::mpsc::channel();
        let name = test_name();
        std::thread::spawn(move || {
            let waited = watch.recv_timeout(TEST_TIME_MAX + Duration::from_secs(30));
            if waited == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs and cannot be stopped: no end within {TEST_TIME_MAX:?}");
                std::process::exit(1);
            }
        });
        Self { _ended: ended }
    }
}
