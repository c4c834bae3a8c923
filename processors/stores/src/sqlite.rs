//! The embedded store: one `SQLite` file, written by one thread, readable meanwhile by anybody's
//! `sqlite3`.
//!
//! * **Durability.** The file is in WAL mode with `synchronous=NORMAL`: a transaction survives the
//!   death of the process; a power cut may undo the last ones, rows and positions together, and the
//!   log is read again from there. So the store always equals the fold up to its positions.
//! * **Threads.** The connection lives on its own thread; callers hand over jobs through a bounded
//!   queue and await the answer. A full queue answers [`StoreError::Unavailable`].
//! * **Own tables.** `_conveyor_projections` (what was declared), `_conveyor_positions` (where each
//!   projection stands and who owns the partition). Layout version: `PRAGMA user_version`.
//! * **Values.** Timestamps are text, `2026-11-23T04:05:06.789Z` (they sort, and SQL's date
//!   functions read them); truth values are 0 and 1; JSON is text.

mod builds;
mod positions;
mod rows;
mod schema;
mod statements;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conveyor_processors::build::{Build, BuildName, Builds};
use conveyor_processors::record::TopicPartition;
use conveyor_processors::rows::Rows;
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{Declaration, Row, Table};
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, TransactionBehavior};

use self::worker::Worker;

/// A store in one `SQLite` file. Cheap to clone; the file is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: Arc<Path>,
    worker: Arc<Worker>,
}

impl SqliteStore {
    /// Opens the file, creating it if need be.
    ///
    /// Blocks for as long as that takes (milliseconds; longer when a crash left a long WAL).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path: Arc<Path> = path.into().into();
        let mut connection = Connection::open(&path).map_err(|error| failure(&path, &error))?;
        schema::prepare_file(&mut connection).map_err(|error| error.at(&path))?;
        let worker = Arc::new(
            Worker::start(connection).map_err(|error| StoreError::Failed {
                store: describe(&path),
                reason: format!("cannot start its thread: {error}"),
            })?,
        );
        Ok(Self { path, worker })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a job on the store's thread.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.worker.run(job).await {
            Ok(result) => result.map_err(|failure| failure.at(&self.path)),
            Err(worker::Refused::Full) => Err(StoreError::Unavailable {
                store: describe(&self.path),
                reason: "its queue is full".to_owned(),
            }),
            Err(worker::Refused::Gone) => Err(StoreError::Failed {
                store: describe(&self.path),
                reason: "its thread has ended after a panic".to_owned(),
            }),
        }
    }
}

impl Store for SqliteStore {
    fn describe(&self) -> String {
        describe(&self.path)
    }

    fn prepare<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let declaration = declaration.clone();
        self.run(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            schema::prepare_projection(&tx, &declaration)?;
            Ok(tx.commit()?)
        })
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let (declaration, partitions) = (declaration.clone(), partitions.to_vec());
        self.run(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !schema::check_projection(&tx, &declaration)? {
                return Err(schema::not_prepared(&declaration));
            }
            let projection = declaration.stored_name();
            let claimed = positions::claim(&tx, projection, owner_epoch, &partitions, take_over)?;
            tx.commit()?;
            Ok(claimed)
        })
        .boxed()
    }

    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.run(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            positions::check(&tx, unit.declaration.stored_name(), &unit.advances)?;
            let mut loaded = Rows::new(&unit.declaration);
            rows::load(&tx, &unit.declaration, unit.keys, &mut loaded)?;
            let Outcome::Commit(changes) = (unit.fold)(loaded) else {
                return Ok(false);
            };
            rows::write(&tx, &unit.declaration, &changes)?;
            positions::advance(&tx, unit.declaration.stored_name(), &unit.advances)?;
            tx.commit()?;
            Ok(true)
        })
        .boxed()
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let projection = declaration.stored_name().to_owned();
        self.run(move |connection| positions::read(connection, &projection))
            .boxed()
    }

    fn read_table<'a>(
        &'a self,
        _declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let table = Arc::clone(table);
        self.run(move |connection| rows::read_all(connection, &table))
            .boxed()
    }
}

impl Builds for SqliteStore {
    fn builds(&self) -> BoxFuture<'_, Result<Vec<Build>, StoreError>> {
        self.run(|connection| {
            let tx = connection.transaction()?;
            builds::all(&tx)
        })
        .boxed()
    }

    fn switch<'a>(&'a self, incoming: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let incoming = incoming.clone();
        self.run(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            builds::switch(&tx, &incoming)?;
            Ok(tx.commit()?)
        })
        .boxed()
    }

    fn drop_build<'a>(&'a self, build: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let build = build.clone();
        self.run(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            builds::drop_build(&tx, &build)?;
            Ok(tx.commit()?)
        })
        .boxed()
    }
}

fn describe(path: &Path) -> String {
    format!("sqlite {}", path.display())
}

/// What went wrong inside a job, before it is known which file it was.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    /// The file's tables do not fit a projection.
    Schema {
        projection: String,
        reason: String,
    },
    /// Already complete.
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => failure(path, &error),
            Self::Schema { projection, reason } => StoreError::Schema {
                store: describe(path),
                projection,
                reason,
            },
            Self::Store(error) => error,
        }
    }
}

/// Sorts `SQLite`'s errors: those that time mends, and the others.
fn failure(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let (store, reason) = (describe(path), error.to_string());
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory,
        ) => StoreError::Unavailable { store, reason },
        _ => StoreError::Failed { store, reason },
    }
}
