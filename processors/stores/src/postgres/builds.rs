//! Builds of projections beside each other in one schema. All of it is renames within one
//! transaction: readers see the old tables or the new ones.
//!
//! The live build is noted under the projection's name, with the tag that it was built as; the others
//! under `projection@tag`. A switch waits for statements under way on the tables, for a bounded time,
//! and holds those up that come after. Views of others go with the table that they were made on: they
//! show the build that was live until they are made anew.

use conveyor_processors::build::{Build, BuildName};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::connection::Failure;
use super::statements::qualified;
use super::{positions, schema};
use crate::declared;
use crate::fence::Held;

/// How long a switch waits for somebody's statement on a table before it gives up.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'";

/// A build as it is noted.
pub(super) struct Noted {
    pub(super) tag: String,
    text: String,
}

pub(super) async fn all(client: &Client, schema: &str) -> Result<Vec<Build>, Failure> {
    let projections = qualified(schema, "_conveyor_projections");
    if !schema::exists(client, &projections).await? {
        return Ok(Vec::new());
    }
    // Through JSON, as a layout that knows no tags has no such column.
    let sql = format!(
        "SELECT name, version, declaration, coalesce(to_jsonb(p) ->> 'tag', '1') FROM {projections} p"
    );
    let mut builds = Vec::new();
    for row in client.query_typed(&sql, &[]).await? {
        let (name, version, text): (String, i64, String) = (row.get(0), row.get(1), row.get(2));
        let held = positions::read(client, schema, &name).await?;
        let positions = held.iter().filter_map(Held::position).collect();
        let version = u32::try_from(version).unwrap_or_default();
        builds.push(declared::build_of(
            &name,
            row.get(3),
            version,
            &text,
            positions,
        ));
    }
    declared::sort(&mut builds);
    Ok(builds)
}

/// Switches, in a transaction of the caller's.
pub(super) async fn switch(
    client: &Client,
    schema: &str,
    incoming: &BuildName,
) -> Result<(), Failure> {
    client.batch_execute(LOCK_TIMEOUT).await?;
    schema::lock(client, schema).await?;
    schema::prepare_layout(client, schema).await?;
    let projection = incoming.projection();
    let live = find(client, schema, projection).await?;
    let Some(found) = find(client, schema, incoming.as_str()).await? else {
        return declared::missing(incoming, live.as_ref().map(|live| live.tag.as_str()))
            .map_err(Failure::Schema);
    };
    let epoch = hold_all(client, schema, projection, incoming).await?;
    if let Some(live) = live {
        let kept = BuildName::new(projection, &live.tag)
            .map_err(|error| Failure::Schema(error.to_string()))?;
        for table in declared::tables_of(&live.text) {
            rename_table(client, schema, &table, &kept.stored_table(&table)).await?;
        }
        rename(client, schema, projection, kept.as_str()).await?;
        // Partitions that only the former build knows have owners too.
        let sql = format!(
            "INSERT INTO {0} (projection, topic, partition, owner_epoch)
             SELECT $1, topic, partition, 0 FROM {0} WHERE projection = $2 ON CONFLICT DO NOTHING",
            qualified(schema, positions::TABLE)
        );
        execute(client, &sql, &[&incoming.as_str(), &kept.as_str()]).await?;
    }
    for table in declared::tables_of(&found.text) {
        rename_table(client, schema, &incoming.stored_table(&table), &table).await?;
    }
    rename(client, schema, incoming.as_str(), projection).await?;
    let sql = format!(
        "UPDATE {} SET owner_epoch = $2 WHERE projection = $1",
        qualified(schema, positions::TABLE)
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&projection, Type::TEXT), (&epoch, Type::INT8)];
    client.execute_typed(&sql, &parameters).await?;
    Ok(())
}

/// Removes a build, in a transaction of the caller's.
pub(super) async fn drop_build(
    client: &Client,
    schema: &str,
    build: &BuildName,
) -> Result<(), Failure> {
    client.batch_execute(LOCK_TIMEOUT).await?;
    schema::lock(client, schema).await?;
    schema::prepare_layout(client, schema).await?;
    let Some(found) = find(client, schema, build.as_str()).await? else {
        let live = find(client, schema, build.projection()).await?;
        return match live {
            Some(live) if live.tag == build.tag() => Err(Failure::Schema(declared::is_live(build))),
            _ => Ok(()),
        };
    };
    for table in declared::tables_of(&found.text) {
        let table = qualified(schema, &build.stored_table(&table));
        client.batch_execute(&format!("DROP TABLE {table}")).await?;
    }
    for (table, column) in [
        ("_conveyor_tables", "projection"),
        (positions::TABLE, "projection"),
        ("_conveyor_projections", "name"),
    ] {
        let sql = format!(
            "DELETE FROM {} WHERE {column} = $1",
            qualified(schema, table)
        );
        execute(client, &sql, &[&build.as_str()]).await?;
    }
    Ok(())
}

pub(super) async fn find(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<Noted>, Failure> {
    let sql = format!(
        "SELECT tag, declaration FROM {} WHERE name = $1",
        qualified(schema, "_conveyor_projections")
    );
    let found = client.query_typed_opt(&sql, &[(&name, Type::TEXT)]).await?;
    Ok(found.map(|row| Noted {
        tag: row.get(0),
        text: row.get(1),
    }))
}

/// Waits for the transactions of all owners and lets no other begin; returns the epoch that none of
/// the live build's has reached.
async fn hold_all(
    client: &Client,
    schema: &str,
    projection: &str,
    incoming: &BuildName,
) -> Result<i64, Failure> {
    let sql = format!(
        "SELECT projection, owner_epoch FROM {} WHERE projection = $1 OR projection = $2 \
         ORDER BY projection, topic, partition FOR UPDATE",
        qualified(schema, positions::TABLE)
    );
    let names = [
        (&projection as _, Type::TEXT),
        (&incoming.as_str() as _, Type::TEXT),
    ];
    let held = client.query_typed(&sql, &names).await?;
    let of_live = held
        .iter()
        .filter(|row| row.get::<_, String>(0) == projection);
    let highest = of_live.map(|row| row.get::<_, i64>(1)).max();
    Ok(highest.map_or(0, |epoch| epoch + 1))
}

async fn rename_table(client: &Client, schema: &str, from: &str, to: &str) -> Result<(), Failure> {
    let sql = format!("ALTER TABLE {} RENAME TO \"{to}\"", qualified(schema, from));
    client.batch_execute(&sql).await?;
    let sql = format!(
        "UPDATE {} SET name = $2 WHERE name = $1",
        qualified(schema, "_conveyor_tables")
    );
    execute(client, &sql, &[&from, &to]).await
}

async fn rename(client: &Client, schema: &str, from: &str, to: &str) -> Result<(), Failure> {
    for (table, column) in [
        ("_conveyor_tables", "projection"),
        (positions::TABLE, "projection"),
        ("_conveyor_projections", "name"),
    ] {
        let sql = format!(
            "UPDATE {} SET {column} = $2 WHERE {column} = $1",
            qualified(schema, table)
        );
        execute(client, &sql, &[&from, &to]).await?;
    }
    Ok(())
}

async fn execute(client: &Client, sql: &str, texts: &[&&str]) -> Result<(), Failure> {
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> = texts
        .iter()
        .map(|text| (*text as &(dyn ToSql + Sync), Type::TEXT))
        .collect();
    client.execute_typed(sql, &parameters).await?;
    Ok(())
}
