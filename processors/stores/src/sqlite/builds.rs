//! Builds of projections beside each other in one file. All of it is renames within one transaction:
//! readers see the old tables or the new ones.
//!
//! The live build is noted under the projection's name, with the tag that it was built as; the others
//! under `projection@tag`. Views and triggers of others go on naming the table they named, so they
//! show the new rows.

use conveyor_processors::build::{Build, BuildName};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{Failure, positions};
use crate::declared;

/// A build as it is noted.
struct Noted {
    tag: String,
    text: String,
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Build>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT name, version, declaration, tag FROM _conveyor_projections")?;
    let noted = statement.query_map([], |row| {
        let values: (String, u32, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(values)
    })?;
    let mut builds = Vec::new();
    for noted in noted {
        let (name, version, text, tag) = noted?;
        let positions = positions::read(connection, &name)?;
        builds.push(declared::build_of(&name, tag, version, &text, positions));
    }
    declared::sort(&mut builds);
    Ok(builds)
}

pub(super) fn switch(tx: &Transaction<'_>, incoming: &BuildName) -> Result<(), Failure> {
    let projection = incoming.projection();
    let live = find(tx, projection)?;
    let Some(found) = find(tx, incoming.as_str())? else {
        return declared::missing(incoming, live.as_ref().map(|live| live.tag.as_str()))
            .map_err(|reason| schema(projection, reason));
    };
    let epoch: i64 = tx.query_row(
        "SELECT coalesce(max(owner_epoch) + 1, 0) FROM _conveyor_positions WHERE projection = ?1",
        [projection],
        |row| row.get(0),
    )?;
    if let Some(live) = live {
        let kept = BuildName::new(projection, &live.tag)
            .map_err(|error| schema(projection, error.to_string()))?;
        rename_tables(tx, &live.text, projection, kept.as_str(), |table| {
            (table.to_owned(), kept.stored_table(table))
        })?;
        rename(tx, projection, kept.as_str())?;
        // Partitions that only the former build knows have owners too.
        tx.execute(
            "INSERT OR IGNORE INTO _conveyor_positions (projection, topic, partition, owner_epoch)
             SELECT ?1, topic, partition, ?2 FROM _conveyor_positions WHERE projection = ?3",
            (incoming.as_str(), epoch, kept.as_str()),
        )?;
    }
    rename_tables(tx, &found.text, incoming.as_str(), projection, |table| {
        (incoming.stored_table(table), table.to_owned())
    })?;
    rename(tx, incoming.as_str(), projection)?;
    tx.execute(
        "UPDATE _conveyor_positions SET owner_epoch = ?2 WHERE projection = ?1",
        (projection, epoch),
    )?;
    Ok(())
}

pub(super) fn drop_build(tx: &Transaction<'_>, build: &BuildName) -> Result<(), Failure> {
    let Some(found) = find(tx, build.as_str())? else {
        if live_tag(tx, build.projection())?.as_deref() == Some(build.tag()) {
            return Err(schema(build.projection(), declared::is_live(build)));
        }
        return Ok(());
    };
    for table in declared::tables_of(&found.text) {
        let table = build.stored_table(&table);
        tx.execute_batch(&format!("DROP TABLE \"{table}\""))?;
        tx.execute("DELETE FROM _conveyor_tables WHERE name = ?1", [&table])?;
    }
    for sql in [
        "DELETE FROM _conveyor_positions WHERE projection = ?1",
        "DELETE FROM _conveyor_projections WHERE name = ?1",
    ] {
        tx.execute(sql, [build.as_str()])?;
    }
    Ok(())
}

/// The tag of a projection's live build, if there is one.
pub(super) fn live_tag(tx: &Transaction<'_>, projection: &str) -> Result<Option<String>, Failure> {
    Ok(find(tx, projection)?.map(|noted| noted.tag))
}

fn find(tx: &Transaction<'_>, name: &str) -> Result<Option<Noted>, Failure> {
    let found = tx.query_row(
        "SELECT tag, declaration FROM _conveyor_projections WHERE name = ?1",
        [name],
        |row| {
            Ok(Noted {
                tag: row.get(0)?,
                text: row.get(1)?,
            })
        },
    );
    Ok(found.optional()?)
}

fn rename_tables(
    tx: &Transaction<'_>,
    text: &str,
    from: &str,
    to: &str,
    names: impl Fn(&str) -> (String, String),
) -> Result<(), Failure> {
    for table in declared::tables_of(text) {
        let (old, new) = names(&table);
        tx.execute_batch(&format!("ALTER TABLE \"{old}\" RENAME TO \"{new}\""))?;
        tx.execute(
            "UPDATE _conveyor_tables SET name = ?1, projection = ?2 WHERE name = ?3 AND projection = ?4",
            [new.as_str(), to, old.as_str(), from],
        )?;
    }
    Ok(())
}

fn rename(tx: &Transaction<'_>, from: &str, to: &str) -> Result<(), Failure> {
    for sql in [
        "UPDATE _conveyor_positions SET projection = ?2 WHERE projection = ?1",
        "UPDATE _conveyor_projections SET name = ?2 WHERE name = ?1",
    ] {
        tx.execute(sql, [from, to])?;
    }
    Ok(())
}

fn schema(projection: &str, reason: String) -> Failure {
    Failure::Schema {
        projection: projection.to_owned(),
        reason,
    }
}
