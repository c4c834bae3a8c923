//! Connections, transactions over them, and what their errors mean.
//!
//! Nothing is prepared under a name and nothing is set for longer than a transaction, so a pooler
//! that gives each transaction another server connection (`PgBouncer` in transaction mode) is fine.

use std::ops::Deref;
use std::time::Duration;

use conveyor_processors::store::StoreError;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, NoTls};

use super::settings::{Settings, SslMode, full};
use super::tls::Tls;

/// Connections of one store; each projection uses one at a time.
const CONNECTIONS_MAX: usize = 8;

/// How long to wait for a free connection.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(10);

/// Begins every transaction. A client that is frozen in the middle of one loses it, and its locks,
/// soon; whoever waits for those locks waits a little longer than that.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL idle_in_transaction_session_timeout = '8s'; \
     SET LOCAL lock_timeout = '20s'; \
     SET LOCAL statement_timeout = '60s'";

/// What went wrong, before it is known whose business it was.
#[derive(Debug)]
pub(super) enum Failure {
    Postgres(tokio_postgres::Error),
    Pool(String),
    /// The tables do not fit.
    Schema(String),
    /// Already complete.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Postgres(error),
            other => Self::Pool(other.to_string()),
        }
    }
}

/// A transaction on one connection. Dropped before its end it takes the connection with it, so that
/// no half transaction is ever handed to somebody else.
pub(super) struct Transaction {
    connection: Option<Object>,
}

impl Transaction {
    /// Takes a connection. The first statement must be [`begin`](Self::begin).
    pub(super) async fn on(pool: &Pool) -> Result<Self, Failure> {
        Ok(Self {
            connection: Some(pool.get().await?),
        })
    }

    /// Sent together with what follows, if polled together.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        Ok(self.batch_execute(BEGIN).await?)
    }

    pub(super) async fn commit(self) -> Result<(), Failure> {
        self.batch_execute("COMMIT").await?;
        self.ended();
        Ok(())
    }

    pub(super) async fn roll_back(self) -> Result<(), Failure> {
        self.batch_execute("ROLLBACK").await?;
        self.ended();
        Ok(())
    }

    /// The transaction has been ended on the server: the connection may be used again.
    pub(super) fn ended(mut self) {
        drop(self.connection.take());
    }
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        // Taken only by those who take `self`.
        self.connection
            .as_ref()
            .expect("a transaction has its connection until its end")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}

pub(super) fn pool(settings: &Settings) -> Result<Pool, String> {
    let (config, recycling) = (
        settings.config.clone(),
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let manager = match settings.ssl_mode {
        SslMode::Disable => Manager::from_config(config, NoTls, recycling),
        _ => Manager::from_config(config, Tls::new(settings)?, recycling),
    };
    Pool::builder(manager)
        .max_size(CONNECTIONS_MAX)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_FOR_CONNECTION))
        .build()
        .map_err(|error| error.to_string())
}

/// Whether the same transaction may work at once: it lost against another one.
pub(super) fn lost_a_race(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else {
        return false;
    };
    error.code().is_some_and(|code| {
        *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}

/// Whether a row found no partition: somebody has dropped that of its day.
pub(super) fn lacks_a_day(failure: &Failure) -> bool {
    let Failure::Postgres(error) = failure else {
        return false;
    };
    error.code() == Some(&SqlState::CHECK_VIOLATION)
}

/// Sorts errors: those that time mends, those of the tables, and the others with the setting that
/// mends them.
pub(super) fn sort(failure: Failure, store: &str, projection: &str) -> StoreError {
    let (store, projection) = (store.to_owned(), projection.to_owned());
    match failure {
        Failure::Store(error) => error,
        Failure::Schema(reason) => StoreError::Schema {
            store,
            projection,
            reason,
        },
        Failure::Pool(reason) => StoreError::Unavailable { store, reason },
        Failure::Postgres(error) => match error.as_db_error() {
            Some(refused) => sort_refusal(refused, store, projection),
            None => sort_connection(&error, store),
        },
    }
}

/// No server said anything: it is away, or it is not the one that was meant.
fn sort_connection(error: &tokio_postgres::Error, store: String) -> StoreError {
    let reason = full(error);
    let mend = if reason.contains("server does not support TLS") {
        "this server has no TLS, and sslmode asks for it; take sslmode=disable, or give the server \
         a certificate"
    } else if reason.contains("invalid peer certificate") {
        "the server's certificate is not trusted; name who signed it with sslrootcert=PATH, and \
         the server by the name in its certificate"
    } else if reason.contains("password missing") {
        "the server wants a password: postgres://USER:PASSWORD@…"
    } else if reason.contains("user missing") {
        "the address names no user: postgres://USER@…"
    } else if reason.contains("authentication") {
        "the server wants a way of logging in that this program does not know; it knows SCRAM, MD5 \
         and plain passwords"
    } else {
        return StoreError::Unavailable { store, reason };
    };
    StoreError::Failed {
        store,
        reason: format!("{reason}: {mend}"),
    }
}

/// The server, or the pooler before it, refused.
fn sort_refusal(refused: &DbError, store: String, projection: String) -> StoreError {
    let message = refused.message();
    let reason = match refused.detail() {
        Some(detail) => format!("{message} ({detail})"),
        None => message.to_owned(),
    };
    let failed = |store, mend: &str| StoreError::Failed {
        store,
        reason: format!("{reason}: {mend}"),
    };
    let code = refused.code();
    // Poolers answer much of this as a broken protocol, with the reason in words.
    if message.contains("no pg_hba.conf entry") {
        let mend = if message.contains("no encryption") {
            "if the server wants TLS, add sslmode=require (or verify-full) to the address; else \
             allow this host in pg_hba.conf"
        } else {
            "allow this host, user and database in the server's pg_hba.conf"
        };
        return failed(store, mend);
    }
    if *code == SqlState::INVALID_PASSWORD
        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        || message.contains("no such user")
        || message.contains("authentication failed")
        || message.contains("SASL")
    {
        return failed(store, "mend user and password in the address");
    }
    let no_database = message.contains("no such database")
        || (message.starts_with("database") && message.contains("does not exist"));
    if *code == SqlState::INVALID_CATALOG_NAME || no_database {
        return failed(store, "create the database, or name another in the address");
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return failed(
            store,
            "the user must own the tables, or be allowed to create them in the schema",
        );
    }
    if *code == SqlState::UNDEFINED_TABLE
        || *code == SqlState::UNDEFINED_COLUMN
        || *code == SqlState::DATATYPE_MISMATCH
        || *code == SqlState::INVALID_SCHEMA_NAME
    {
        return StoreError::Schema {
            store,
            projection,
            reason: format!(
                "{reason}: somebody has changed its tables; build it anew in another schema \
                 (schema=NAME in the --store address)"
            ),
        };
    }
    if passes(code.code()) {
        return StoreError::Unavailable { store, reason };
    }
    StoreError::Failed { store, reason }
}

/// Classes of errors that pass: lost connections, races, full disks and tables, servers on their way
/// up or down, standbys that are about to be promoted.
fn passes(code: &str) -> bool {
    const READ_ONLY: &str = "25006";
    const IDLE_IN_TRANSACTION: &str = "25P03";
    let classes = ["08", "40", "53", "55", "57", "58"];
    code == READ_ONLY
        || code == IDLE_IN_TRANSACTION
        || classes.iter().any(|class| code.starts_with(class))
}
