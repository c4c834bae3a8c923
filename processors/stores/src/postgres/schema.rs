//! Our own tables, and those of each projection: created if missing, checked otherwise.

use conveyor_processors::Declaration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::connection::Failure;
use super::statements::{self, qualified};
use super::{builds, days, positions};
use crate::{declared, stripes};

/// Version of the tables that start with `_conveyor`.
const LAYOUT_VERSION: i32 = 2;

/// Creates what is missing, in a transaction of the caller's.
pub(super) async fn prepare(
    client: &Client,
    schema: &str,
    declaration: &Declaration,
) -> Result<(), Failure> {
    lock(client, schema).await?;
    prepare_layout(client, schema).await?;
    if check(client, schema, declaration).await? {
        return Ok(());
    }
    if let Some(build) = declaration.build() {
        let live = builds::find(client, schema, build.projection()).await?;
        if live.is_some_and(|live| live.tag == build.tag()) {
            return Err(Failure::Schema(declared::is_live(build)));
        }
    }
    create_projection(client, schema, declaration).await
}

/// Lets one change the schema at a time, whoever starts at the same moment, until the transaction
/// ends.
pub(super) async fn lock(client: &Client, schema: &str) -> Result<(), Failure> {
    let sql = "SELECT pg_advisory_xact_lock($1)";
    client
        .query_typed(sql, &[(&lock_number(schema), Type::INT8)])
        .await?;
    Ok(())
}

/// Lets nobody change the schema until the transaction ends.
pub(super) async fn lock_shared(client: &Client, schema: &str) -> Result<(), Failure> {
    let sql = "SELECT pg_advisory_xact_lock_shared($1)";
    client
        .query_typed(sql, &[(&lock_number(schema), Type::INT8)])
        .await?;
    Ok(())
}

fn lock_number(schema: &str) -> i64 {
    i64::from(stripes::number_of(&format!("conveyor schema {schema}")))
}

/// Whether the projection's tables are there; refuses those of another version or shape.
pub(super) async fn check(
    client: &Client,
    schema: &str,
    declaration: &Declaration,
) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT version, declaration FROM {} WHERE name = $1",
        qualified(schema, "_conveyor_projections")
    );
    let name = declaration.stored_name();
    let Some(row) = client.query_typed_opt(&sql, &[(&name, Type::TEXT)]).await? else {
        return Ok(false);
    };
    let (version, text): (i64, String) = (row.get(0), row.get(1));
    let version = u32::try_from(version).unwrap_or_default();
    let elsewhere = "another schema (schema=NAME in the --store address)";
    declared::check(declaration, version, &text, elsewhere).map_err(Failure::Schema)?;
    Ok(true)
}

pub(super) async fn prepare_layout(client: &Client, schema: &str) -> Result<(), Failure> {
    let layout = qualified(schema, "_conveyor_layout");
    if !exists(client, &layout).await? {
        return create_layout(client, schema).await;
    }
    let sql = format!("SELECT version FROM {layout}");
    let row = client.query_typed_one(&sql, &[]).await?;
    match row.get::<_, i32>(0) {
        LAYOUT_VERSION => Ok(()),
        1 => add_tags(client, schema).await,
        other => Err(Failure::Schema(format!(
            "schema {schema} has layout version {other}, this program writes {LAYOUT_VERSION}: use \
             the program that wrote it, or another schema (schema=NAME in the --store address)"
        ))),
    }
}

/// Layout 1 knew one build of a projection.
async fn add_tags(client: &Client, schema: &str) -> Result<(), Failure> {
    let sql = format!(
        "ALTER TABLE {} ADD COLUMN tag text NOT NULL DEFAULT '1';
         UPDATE {} SET version = {LAYOUT_VERSION}",
        qualified(schema, "_conveyor_projections"),
        qualified(schema, "_conveyor_layout")
    );
    Ok(client.batch_execute(&sql).await?)
}

async fn create_layout(client: &Client, schema: &str) -> Result<(), Failure> {
    let known = client
        .query_typed(
            "SELECT 1 FROM pg_namespace WHERE nspname = $1",
            &[(&schema, Type::TEXT)],
        )
        .await?;
    if known.is_empty() {
        // Only if need be: it wants a right that many users do not have.
        client
            .batch_execute(&format!("CREATE SCHEMA \"{schema}\""))
            .await?;
    }
    let table = |name| qualified(schema, name);
    let sql = format!(
        "CREATE TABLE {} (version int NOT NULL);
         INSERT INTO {0} VALUES ({LAYOUT_VERSION});
         CREATE TABLE {} (
             name text PRIMARY KEY,
             version bigint NOT NULL,
             declaration text NOT NULL,
             tag text NOT NULL DEFAULT '1'
         );
         CREATE TABLE {} (
             name text PRIMARY KEY,
             projection text NOT NULL
         );
         CREATE TABLE {} (
             projection text COLLATE \"C\" NOT NULL,
             topic text COLLATE \"C\" NOT NULL,
             partition int NOT NULL,
             next_offset bigint,
             owner_epoch bigint NOT NULL,
             PRIMARY KEY (projection, topic, partition)
         ) WITH (fillfactor = 50);",
        table("_conveyor_layout"),
        table("_conveyor_projections"),
        table("_conveyor_tables"),
        table(positions::TABLE)
    );
    Ok(client.batch_execute(&sql).await?)
}

async fn create_projection(
    client: &Client,
    schema: &str,
    declaration: &Declaration,
) -> Result<(), Failure> {
    let tables = qualified(schema, "_conveyor_tables");
    let name = declaration.stored_name();
    for table in declaration.tables() {
        if exists(client, &qualified(schema, table.stored_name())).await? {
            let sql = format!("SELECT projection FROM {tables} WHERE name = $1");
            let owner = client
                .query_typed_opt(&sql, &[(&table.stored_name(), Type::TEXT)])
                .await?;
            let owner = owner.map_or_else(|| "somebody else".to_owned(), |row| row.get(0));
            return Err(Failure::Schema(format!(
                "table {}.{} belongs to {owner} already: name another schema (schema=NAME in the \
                 --store address)",
                schema,
                table.stored_name()
            )));
        }
        client
            .batch_execute(&statements::create_table(schema, table))
            .await?;
        days::make_outer(client, schema, declaration, table).await?;
        for column in table.indexes() {
            client
                .batch_execute(&statements::create_index(schema, table, column))
                .await?;
        }
        for list in table.lists() {
            client
                .batch_execute(&statements::create_list_index(schema, table, list))
                .await?;
        }
        let sql = format!("INSERT INTO {tables} (name, projection) VALUES ($1, $2)");
        let parameters = [
            (&table.stored_name() as _, Type::TEXT),
            (&name as _, Type::TEXT),
        ];
        client.execute_typed(&sql, &parameters).await?;
    }
    let projections = qualified(schema, "_conveyor_projections");
    let sql = format!(
        "INSERT INTO {projections} (name, version, declaration, tag) VALUES ($1, $2, $3, $4)"
    );
    let (version, text) = (
        i64::from(declaration.version()),
        declared::text_of(declaration),
    );
    let parameters = [
        (&name as _, Type::TEXT),
        (&version as _, Type::INT8),
        (&text as _, Type::TEXT),
        (&declared::tag_of(declaration) as _, Type::TEXT),
    ];
    client.execute_typed(&sql, &parameters).await?;
    Ok(())
}

pub(super) async fn exists(client: &Client, table: &str) -> Result<bool, Failure> {
    let row = client
        .query_typed_one(
            "SELECT to_regclass($1) IS NOT NULL",
            &[(&table, Type::TEXT)],
        )
        .await?;
    Ok(row.get(0))
}
