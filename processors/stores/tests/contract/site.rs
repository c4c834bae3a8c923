//! A place for one store, empty at first, opened as often as a test likes.

use std::any::Any;
use std::sync::Arc;

use conveyor_processors::Store;
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
    /// What goes away with the site: a folder, a database.
    _keep: Box<dyn Any + Send + Sync>,
}

impl Site {
    /// A place on a server.
    pub(crate) fn new(url: String, keep: impl Any + Send + Sync) -> Self {
        Self {
            url,
            held_by_frozen: false,
            slow: false,
            _keep: Box::new(keep),
        }
    }

    /// The store as one more instance sees it: nothing is shared with those opened before.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        open(&self.url).await
    }
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
        _keep: Box::new(folder),
    }
}

/// Runs a test.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
