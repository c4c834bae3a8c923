//! Tables kept apart by day: a partition for each day from 2000 to 2099, one for all before and one for
//! all after, so that no row is without a place and their number has a bound.
//!
//! The partition of a day is made in the transaction that first writes to the day, before it writes
//! and while it holds its positions. A lock lets one make partitions at a time; nobody who holds it
//! waits for anything that a writer holds, and readers and writers of other days go on (`ATTACH`).
//!
//! Partitions are named after their build, `inventory_movement__1_d20261123`, and keep that name when
//! it becomes the live one. Somebody may drop those of old days, to be rid of their rows: a day that is
//! written to again is made again.

use std::collections::{BTreeSet, HashSet};

use conveyor_processors::store::Unit;
use conveyor_processors::{Declaration, KeyPart, Table};
use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::builds;
use super::connection::Failure;
use super::statements::qualified;
use crate::{declared, stripes};

/// The first day with a partition of its own.
const FIRST: i64 = 20_000_101;

/// The first day after the last one with a partition of its own.
const END: i64 = 21_000_101;

/// Days that are remembered at most; far more than a batch or an owner writes to.
const KNOWN_MAX: usize = 10_000;

/// A table as it is called in the store, and a day.
type TableDay = (String, i64);

/// The partitions that are known to be there.
#[derive(Debug, Default)]
pub(super) struct Days {
    known: Mutex<HashSet<TableDay>>,
}

impl Days {
    /// The days that a unit may write to and that are not known to have partitions.
    pub(super) fn missing(&self, unit: &Unit) -> BTreeSet<TableDay> {
        let known = self.known.lock();
        let missing = unit.keys.iter().filter_map(|key| {
            let table = unit.declaration.find_table(key.table)?;
            let KeyPart::Integer(day) = key.parts[table.day()?] else {
                return None;
            };
            let this = (table.stored_name().to_owned(), day);
            ((FIRST..END).contains(&day) && !known.contains(&this)).then_some(this)
        });
        missing.collect()
    }

    /// After the commit that made them, or found them.
    pub(super) fn add(&self, days: BTreeSet<TableDay>) {
        let mut known = self.known.lock();
        if known.len() + days.len() > KNOWN_MAX {
            known.clear();
        }
        known.extend(days);
    }

    /// Another build may be live, or somebody has dropped some.
    pub(super) fn forget(&self) {
        self.known.lock().clear();
    }
}

/// What follows the columns of such a table.
pub(super) fn clause(table: &Table) -> String {
    let column = |day: usize| format!(" PARTITION BY RANGE (\"{}\")", table.columns()[day].name);
    table.day().map(column).unwrap_or_default()
}

/// Makes the partitions for what lies before and after all days, of a table just made.
pub(super) async fn make_outer(
    client: &Client,
    schema: &str,
    declaration: &Declaration,
    table: &Table,
) -> Result<(), Failure> {
    if table.day().is_none() {
        return Ok(());
    }
    let tag = declared::tag_of(declaration);
    let parent = qualified(schema, table.stored_name());
    for (suffix, from, to) in [
        ("before", "MINVALUE".to_owned(), FIRST.to_string()),
        ("after", END.to_string(), "MAXVALUE".to_owned()),
    ] {
        let name = qualified(schema, &format!("{}__{tag}_{suffix}", table.name()));
        let sql =
            format!("CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ({from}) TO ({to})");
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Makes the partitions of some days, unless they are there; in a transaction of the caller's, who
/// holds the positions of the projection and no row of it.
pub(super) async fn make(
    client: &Client,
    schema: &str,
    declaration: &Declaration,
    days: &BTreeSet<TableDay>,
) -> Result<(), Failure> {
    let lock = stripes::number_of(&format!("conveyor days {schema}"));
    let lock = [(&i64::from(lock) as _, Type::INT8)];
    client
        .query_typed("SELECT pg_advisory_xact_lock($1)", &lock)
        .await?;
    let Some(noted) = builds::find(client, schema, declaration.stored_name()).await? else {
        return Err(Failure::Schema(declared::GONE.to_owned()));
    };
    for table in declaration.tables() {
        let of_table = days.iter().filter(|(name, _)| name == table.stored_name());
        for (_, day) in of_table {
            make_one(client, schema, table, &noted.tag, *day).await?;
        }
    }
    Ok(())
}

async fn make_one(
    client: &Client,
    schema: &str,
    table: &Table,
    tag: &str,
    day: i64,
) -> Result<(), Failure> {
    let name = format!("{}__{tag}_d{day}", table.name());
    let partition = qualified(schema, &name);
    let found = client
        .query_typed_opt(
            "SELECT relispartition FROM pg_class WHERE oid = to_regclass($1)",
            &[(&partition, Type::TEXT)],
        )
        .await?;
    match found.map(|row| row.get::<_, bool>(0)) {
        Some(true) => return Ok(()),
        Some(false) => {
            return Err(Failure::Schema(format!(
                "{schema}.{name} is there and is no partition of {}: attach it again, or give it \
                 another name",
                table.stored_name()
            )));
        }
        None => {}
    }
    let parent = qualified(schema, table.stored_name());
    let sql = format!(
        "CREATE TABLE {partition} (LIKE {parent});
         ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({day}) TO ({})",
        day + 1
    );
    Ok(client.batch_execute(&sql).await?)
}
