//! What only a file can be: somebody else's, damaged, read by others.

use conveyor_processors::{ColumnType, Declaration, Store, Table};
use conveyor_stores::SqliteStore;

use crate::cases::schema::refusal;
use crate::site::run;

fn declaration() -> Declaration {
    let table = Table::new("t", &[("id", ColumnType::Text)]).column("x", ColumnType::Real);
    Declaration::new("p", 1).source("topic").table(table)
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
        let taken = refusal(store.prepare(&declaration()).await);
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
        store.prepare(&declaration()).await.unwrap();
        let reader = rusqlite::Connection::open(&path).unwrap();
        let rows: i64 = reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 0);
        drop(store);
    });
}
