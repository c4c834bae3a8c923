//! Rows written by each store's own client, in its quickest ordinary way: the baseline.
//!
//! The same rows in the same transactions with the same durability, into tables of the same columns.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use conveyor_processors::{ColumnType, Row, Table, Value};
use mongodb::bson::{Bson, Document, doc};

/// Writes the transactions one after the other into an empty place; how long they took.
pub async fn write(place: &Place, transactions: &[Vec<Row>]) -> Result<Duration> {
    match place {
        Place::Sqlite(path) => sqlite(path, transactions),
        Place::Postgres(url) => postgres(url, transactions).await,
        Place::Redis(url) => redis(url, transactions).await,
        Place::Mongodb(url) => mongodb(url, transactions).await,
    }
}

/// An empty place of a store.
#[derive(Debug)]
pub enum Place {
    /// A file that is not there yet.
    Sqlite(std::path::PathBuf),
    /// An empty database.
    Postgres(String),
    /// A server without keys.
    Redis(String),
    /// An empty database.
    Mongodb(String),
}

/// All tables that rows belong to.
fn tables(transactions: &[Vec<Row>]) -> Vec<&Table> {
    let mut tables: Vec<&Table> = Vec::new();
    for row in transactions.iter().flatten() {
        if !tables
            .iter()
            .any(|table| table.name() == row.table().name())
        {
            tables.push(row.table());
        }
    }
    tables
}

fn rows_of<'r>(rows: &'r [Row], table: &Table) -> Vec<&'r Row> {
    let of_table = |row: &&Row| row.table().name() == table.name();
    rows.iter().filter(of_table).collect()
}

/// `names`, `key`, `sets` of an upsert.
fn clauses(table: &Table) -> (String, String, String) {
    let quoted = |name: &str| format!("\"{name}\"");
    let list = |columns: &[conveyor_processors::Column]| {
        let names: Vec<_> = columns.iter().map(|c| quoted(c.name)).collect();
        names.join(", ")
    };
    let rest = &table.columns()[table.key_columns().len()..];
    let sets: Vec<_> = rest
        .iter()
        .map(|c| format!("\"{0}\" = excluded.\"{0}\"", c.name))
        .collect();
    let sets = if sets.is_empty() {
        "DO NOTHING".to_owned()
    } else {
        format!("DO UPDATE SET {}", sets.join(", "))
    };
    (list(table.columns()), list(table.key_columns()), sets)
}

fn sqlite(path: &Path, transactions: &[Vec<Row>]) -> Result<Duration> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    for table in tables(transactions) {
        let (names, key, _) = clauses(table);
        let name = table.name();
        connection.execute(
            &format!("CREATE TABLE {name} ({names}, PRIMARY KEY ({key}))"),
            [],
        )?;
    }
    let begun = Instant::now();
    for rows in transactions {
        let transaction = connection.transaction()?;
        for row in rows {
            let (names, key, sets) = clauses(row.table());
            let places: Vec<_> = row.values().iter().map(|_| "?").collect();
            let sql = format!(
                "INSERT INTO {} ({names}) VALUES ({}) ON CONFLICT ({key}) {sets}",
                row.table().name(),
                places.join(", ")
            );
            let values = row.values().iter().map(sql_value);
            transaction
                .prepare_cached(&sql)?
                .execute(rusqlite::params_from_iter(values))?;
        }
        transaction.commit()?;
    }
    Ok(begun.elapsed())
}

fn sql_value(value: &Value) -> rusqlite::types::Value {
    use rusqlite::types::Value as Sql;
    match value {
        Value::Null => Sql::Null,
        Value::Text(text) => Sql::Text(text.clone()),
        Value::Integer(number) | Value::Timestamp(number) => Sql::Integer(*number),
        Value::Real(number) => Sql::Real(*number),
        Value::Boolean(truth) => Sql::Integer(i64::from(*truth)),
        Value::Json(json) => Sql::Text(json.to_string()),
    }
}

async fn postgres(url: &str, transactions: &[Vec<Row>]) -> Result<Duration> {
    let (mut client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut upserts = Vec::new();
    for table in tables(transactions) {
        let column =
            |c: &conveyor_processors::Column| format!("\"{}\" {}", c.name, sql_type(c.column_type));
        let columns: Vec<_> = table.columns().iter().map(column).collect();
        let (names, key, sets) = clauses(table);
        let name = table.name();
        let create = format!(
            "CREATE TABLE {name} ({}, PRIMARY KEY ({key}))",
            columns.join(", ")
        );
        client.batch_execute(&create).await?;
        let numbered = table.columns().iter().enumerate();
        let arrays = numbered.map(|(n, c)| format!("${}::{}[]", n + 1, sql_type(c.column_type)));
        let arrays: Vec<_> = arrays.collect();
        let sql = format!(
            "INSERT INTO {name} ({names}) SELECT * FROM unnest({}) ON CONFLICT ({key}) {sets}",
            arrays.join(", ")
        );
        upserts.push((table, client.prepare(&sql).await?));
    }
    let begun = Instant::now();
    for rows in transactions {
        let transaction = client.transaction().await?;
        for (table, upsert) in &upserts {
            let rows = rows_of(rows, table);
            if rows.is_empty() {
                continue;
            }
            let columns = table.columns().iter().enumerate();
            let arrays: Vec<Box<dyn tokio_postgres::types::ToSql + Sync + Send>> = columns
                .map(|(n, column)| array(&rows, n, column.column_type))
                .collect();
            let arrays: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                arrays.iter().map(|array| &**array as _).collect();
            transaction.execute(upsert, &arrays).await?;
        }
        transaction.commit().await?;
    }
    let took = begun.elapsed();
    drop(client);
    connection.await??;
    Ok(took)
}

const fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Json => "text",
        ColumnType::Integer | ColumnType::Timestamp => "bigint",
        ColumnType::Real => "double precision",
        ColumnType::Boolean => "boolean",
    }
}

fn array(
    rows: &[&Row],
    column: usize,
    column_type: ColumnType,
) -> Box<dyn tokio_postgres::types::ToSql + Sync + Send> {
    let values = rows.iter().map(|row| &row.values()[column]);
    match column_type {
        ColumnType::Text | ColumnType::Json => Box::new(values.map(text).collect::<Vec<_>>()),
        ColumnType::Integer | ColumnType::Timestamp => {
            let number = |value: &Value| match value {
                Value::Integer(number) | Value::Timestamp(number) => Some(*number),
                _ => None,
            };
            Box::new(values.map(number).collect::<Vec<_>>())
        }
        ColumnType::Real => {
            let number = |value: &Value| match value {
                Value::Real(number) => Some(*number),
                _ => None,
            };
            Box::new(values.map(number).collect::<Vec<_>>())
        }
        ColumnType::Boolean => {
            let truth = |value: &Value| match value {
                Value::Boolean(truth) => Some(*truth),
                _ => None,
            };
            Box::new(values.map(truth).collect::<Vec<_>>())
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) | Value::Timestamp(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(u8::from(*truth).to_string()),
        Value::Json(json) => Some(json.to_string()),
    }
}

fn name_of(row: &Row) -> String {
    let keys = row.table().key_columns().len();
    let parts = row.values()[..keys].iter().filter_map(text);
    parts.collect::<Vec<_>>().join(":")
}

async fn redis(url: &str, transactions: &[Vec<Row>]) -> Result<Duration> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let begun = Instant::now();
    for rows in transactions {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for row in rows {
            let columns = row.table().columns().iter().zip(row.values());
            let fields: Vec<_> = columns
                .filter_map(|(column, value)| Some((column.name, text(value)?)))
                .collect();
            pipe.hset_multiple(
                format!("bare:{}:{}", row.table().name(), name_of(row)),
                &fields,
            )
            .ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
    }
    Ok(begun.elapsed())
}

async fn mongodb(url: &str, transactions: &[Vec<Row>]) -> Result<Duration> {
    let client = mongodb::Client::with_uri_str(url).await?;
    let database = client
        .default_database()
        .context("an address with a database")?;
    for table in tables(transactions) {
        database.create_collection(table.name()).await?;
    }
    let begun = Instant::now();
    for rows in transactions {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        for table in tables(std::slice::from_ref(rows)) {
            for rows in rows_of(rows, table).chunks(1_000) {
                let update = |row: &&Row| {
                    let id = name_of(row);
                    doc! { "q": { "_id": &id }, "u": document(row, id), "upsert": true }
                };
                let updates: Vec<_> = rows.iter().map(update).collect();
                let command = doc! { "update": table.name(), "updates": updates, "ordered": false };
                database.run_command(command).session(&mut session).await?;
            }
        }
        session.commit_transaction().await?;
    }
    Ok(begun.elapsed())
}

fn document(row: &Row, id: String) -> Document {
    let mut document = doc! { "_id": id };
    for (column, value) in row.table().columns().iter().zip(row.values()) {
        let value = match value {
            Value::Null => Bson::Null,
            Value::Integer(number) => Bson::Int64(*number),
            Value::Real(number) => Bson::Double(*number),
            Value::Boolean(truth) => Bson::Boolean(*truth),
            Value::Timestamp(ms) => Bson::DateTime(mongodb::bson::DateTime::from_millis(*ms)),
            Value::Text(text) => Bson::String(text.clone()),
            Value::Json(json) => mongodb::bson::serialize_to_bson(json).unwrap_or(Bson::Null),
        };
        document.insert(column.name, value);
    }
    document
}
