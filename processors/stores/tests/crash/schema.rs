//! A file that does not fit is refused, and the message names the mend.

use conveyor_processors::store::{Store, StoreError};
use conveyor_processors::{ColumnType, Declaration, Table};
use conveyor_stores::SqliteStore;

use crate::ledger::run;

fn declaration(version: u32, column: &'static str) -> Declaration {
    let table = Table::new("t", &[("id", ColumnType::Text)]).column(column, ColumnType::Real);
    Declaration::new("p", version).source("topic").table(table)
}

fn refusal(prepared: Result<(), StoreError>) -> String {
    match prepared {
        Err(error @ StoreError::Schema { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_version_or_another_shape_is_refused() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("read.db")).unwrap();
        store.prepare(&declaration(1, "x")).await.unwrap();
        store.prepare(&declaration(1, "x")).await.unwrap();
        let newer = refusal(store.prepare(&declaration(2, "x")).await);
        assert!(
            newer.contains("holds version 1") && newer.contains("--store FILE"),
            "{newer}"
        );
        let changed = refusal(store.prepare(&declaration(1, "y")).await);
        assert!(changed.contains("raise the version"), "{changed}");
    });
}

#[test]
fn a_table_of_somebody_else_is_not_touched() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("read.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        let store = SqliteStore::open(path).unwrap();
        let taken = refusal(store.prepare(&declaration(1, "x")).await);
        assert!(taken.contains("belongs to somebody else"), "{taken}");
    });
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("read.db");
    std::fs::write(
        &path,
        "no database, and longer than the header of one, which has 100 bytes\n".repeat(9),
    )
    .unwrap();
    let error = SqliteStore::open(path).unwrap_err();
    assert!(
        !error.is_retriable() && error.to_string().contains("read.db"),
        "{error}"
    );
}

#[test]
fn a_file_is_readable_while_it_is_written() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("read.db");
        let store = SqliteStore::open(&path).unwrap();
        store.prepare(&declaration(1, "x")).await.unwrap();
        let reader = rusqlite::Connection::open(&path).unwrap();
        let rows: i64 = reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 0);
        drop(store);
    });
}
