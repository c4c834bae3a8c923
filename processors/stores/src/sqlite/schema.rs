//! The file's layout, and the tables of each projection: created if missing, checked otherwise.

use std::time::{Duration, Instant};

use conveyor_processors::Declaration;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{Failure, builds, statements};
use crate::declared;

/// `PRAGMA user_version` of the tables that start with `_conveyor`.
const LAYOUT_VERSION: i64 = 2;

/// `PRAGMA application_id`: "CNVY". `file` and others can tell by it what the file is.
const APPLICATION_ID: i64 = 0x434e_5659;

/// How long to wait for somebody else's transaction before saying that the file is busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts where `SQLite` itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Pages of 4 KiB in the WAL before they are copied into the file: each time costs syncs, which the
/// log on the same disk feels.
const CHECKPOINT_PAGES: i64 = 8_192;

/// Page cache, in KiB.
const CACHE_KIB: i64 = 65_536;

/// Statements kept compiled; each table has about four.
const STATEMENTS_MAX: usize = 256;

/// Sets the connection up and creates our own tables.
pub(super) fn prepare_file(connection: &mut Connection) -> Result<(), Failure> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // The switch of a new file to WAL mode takes locks for which `SQLite` does not wait: of several
    // processes that open it at once, all but one are told that it is busy.
    let begun = Instant::now();
    loop {
        match prepare_layout(connection) {
            Err(Failure::Sqlite(error)) if is_busy(&error) && begun.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(BUSY_PAUSE);
            }
            settled => return settled,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseBusy | DatabaseLocked)
    )
}

fn prepare_layout(connection: &mut Connection) -> Result<(), Failure> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Views of others name the live table, whichever build that is.
    connection.pragma_update(None, "legacy_alter_table", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    match tx.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
        LAYOUT_VERSION => {}
        0 => create_layout(&tx)?,
        1 => add_tags(&tx)?,
        other => {
            return Err(Failure::Schema {
                projection: "(all)".to_owned(),
                reason: format!(
                    "the file has layout version {other}, this program writes {LAYOUT_VERSION}: \
                     use the program that wrote it, or another file"
                ),
            });
        }
    }
    Ok(tx.commit()?)
}

fn create_layout(tx: &Transaction<'_>) -> Result<(), Failure> {
    tx.execute_batch(
        "CREATE TABLE _conveyor_projections (
             name TEXT PRIMARY KEY,
             version INTEGER NOT NULL,
             declaration TEXT NOT NULL,
             tag TEXT NOT NULL DEFAULT '1'
         ) STRICT;
         CREATE TABLE _conveyor_tables (
             name TEXT PRIMARY KEY,
             projection TEXT NOT NULL
         ) STRICT;
         CREATE TABLE _conveyor_positions (
             projection TEXT NOT NULL,
             topic TEXT NOT NULL,
             partition INTEGER NOT NULL,
             next_offset INTEGER,
             owner_epoch INTEGER NOT NULL,
             PRIMARY KEY (projection, topic, partition)
         ) STRICT, WITHOUT ROWID;",
    )?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(tx.pragma_update(None, "user_version", LAYOUT_VERSION)?)
}

/// Layout 1 knew one build of a projection.
fn add_tags(tx: &Transaction<'_>) -> Result<(), Failure> {
    tx.execute_batch("ALTER TABLE _conveyor_projections ADD COLUMN tag TEXT NOT NULL DEFAULT '1'")?;
    Ok(tx.pragma_update(None, "user_version", LAYOUT_VERSION)?)
}

/// Creates the projection's tables, or checks that those in the file are the ones declared.
pub(super) fn prepare_projection(
    tx: &Transaction<'_>,
    declaration: &Declaration,
) -> Result<(), Failure> {
    if check_projection(tx, declaration)? {
        return Ok(());
    }
    if let Some(build) = declaration.build() {
        let live = builds::live_tag(tx, build.projection())?;
        if live.as_deref() == Some(build.tag()) {
            return Err(mismatch(declaration, declared::is_live(build)));
        }
    }
    create_projection(tx, declaration, &declared::text_of(declaration))
}

/// Whether the projection's tables are there; refuses those of another version or shape.
pub(super) fn check_projection(
    tx: &Transaction<'_>,
    declaration: &Declaration,
) -> Result<bool, Failure> {
    let found: Option<(u32, String)> = tx
        .query_row(
            "SELECT version, declaration FROM _conveyor_projections WHERE name = ?1",
            [declaration.stored_name()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((version, text)) = found else {
        return Ok(false);
    };
    declared::check(declaration, version, &text, "another file (--store FILE)")
        .map_err(|reason| mismatch(declaration, reason))?;
    Ok(true)
}

/// Its tables have gone since it was prepared.
pub(super) fn not_prepared(declaration: &Declaration) -> Failure {
    mismatch(declaration, declared::GONE.to_owned())
}

fn mismatch(declaration: &Declaration, reason: String) -> Failure {
    Failure::Schema {
        projection: declaration.stored_name().to_owned(),
        reason,
    }
}

fn create_projection(
    tx: &Transaction<'_>,
    declaration: &Declaration,
    text: &str,
) -> Result<(), Failure> {
    for table in declaration.tables() {
        if let Some(owner) = owner_of_table(tx, table.stored_name())? {
            let taken = format!("table {} belongs to {owner} already", table.stored_name());
            return Err(mismatch(declaration, taken));
        }
        tx.execute_batch(&statements::create_table(table))?;
        for column in table.indexes() {
            tx.execute_batch(&statements::create_index(table, column))?;
        }
        for list in table.lists() {
            tx.execute_batch(&statements::create_list_index(table, list))?;
        }
        tx.execute(
            "INSERT INTO _conveyor_tables (name, projection) VALUES (?1, ?2)",
            [table.stored_name(), declaration.stored_name()],
        )?;
    }
    tx.execute(
        "INSERT INTO _conveyor_projections (name, version, declaration, tag)
         VALUES (?1, ?2, ?3, ?4)",
        (
            declaration.stored_name(),
            declaration.version(),
            text,
            declared::tag_of(declaration),
        ),
    )?;
    Ok(())
}

/// Who made a table of that name, if there is one.
fn owner_of_table(tx: &Transaction<'_>, table: &str) -> Result<Option<String>, Failure> {
    let owner = tx
        .query_row(
            "SELECT coalesce(t.projection, 'somebody else') FROM sqlite_schema s
             LEFT JOIN _conveyor_tables t ON t.name = s.name WHERE s.name = ?1",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    Ok(owner)
}
