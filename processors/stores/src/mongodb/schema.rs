//! Our own collections, and those of each projection: created if missing, checked otherwise. Each
//! step may be done by several instances at once, and again after a crash.

use conveyor_processors::{Declaration, Table};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;

use super::failure::{Failure, is_duplicate};
use super::ledger;
use crate::declared;

/// Version of the collections that start with `_conveyor`.
const LAYOUT_VERSION: i64 = 1;

const PROJECTIONS: &str = "_conveyor_projections";
const TABLES: &str = "_conveyor_tables";

/// Where a projection goes that does not fit here.
const ELSEWHERE: &str = "another database (in the --store address)";

/// The server's code for a collection that is there already.
const NAMESPACE_EXISTS: i32 = 48;

pub(super) async fn prepare(database: &Database, declaration: &Declaration) -> Result<(), Failure> {
    if let Some(known) = find(database, declaration.name()).await? {
        return check(declaration, &known);
    }
    for collection in [PROJECTIONS, TABLES, ledger::COLLECTION] {
        create(database, collection).await?;
    }
    for table in declaration.tables() {
        take_table(database, declaration.name(), table).await?;
        create(database, table.name()).await?;
        create_indexes(database, table).await?;
    }
    let document = doc! {
        "_id": declaration.name(),
        "layout": LAYOUT_VERSION,
        "version": i64::from(declaration.version()),
        "declaration": declared::text_of(declaration),
    };
    let projections = database.collection::<Document>(PROJECTIONS);
    match projections.insert_one(&document).await {
        Ok(_) => Ok(()),
        // Another instance was quicker, perhaps one of another version.
        Err(error) if is_duplicate(&error) => {
            let known = find(database, declaration.name()).await?;
            check(declaration, &known.unwrap_or(document))
        }
        Err(error) => Err(error.into()),
    }
}

async fn find(database: &Database, projection: &str) -> Result<Option<Document>, Failure> {
    let projections = database.collection::<Document>(PROJECTIONS);
    Ok(projections.find_one(doc! { "_id": projection }).await?)
}

fn check(declaration: &Declaration, known: &Document) -> Result<(), Failure> {
    let number = |name| known.get_i64(name).unwrap_or_default();
    let layout = number("layout");
    if layout != LAYOUT_VERSION {
        return Err(Failure::Schema(format!(
            "the database has layout version {layout}, this program writes {LAYOUT_VERSION}: use \
             the program that wrote it, or {ELSEWHERE}"
        )));
    }
    let version = u32::try_from(number("version")).unwrap_or_default();
    let text = known.get_str("declaration").unwrap_or_default();
    declared::check(declaration, version, text, ELSEWHERE).map_err(Failure::Schema)
}

/// Notes whose table it is, before it is made: one that is there without a note is not ours.
async fn take_table(database: &Database, projection: &str, table: &Table) -> Result<(), Failure> {
    let tables = database.collection::<Document>(TABLES);
    let taken = |owner: &str| {
        Failure::Schema(format!(
            "collection {} belongs to {owner} already: name {ELSEWHERE}",
            table.name()
        ))
    };
    let name = doc! { "_id": table.name() };
    let note = doc! { "_id": table.name(), "projection": projection };
    match tables.insert_one(note).await {
        Ok(_) => {
            let same_name = doc! { "name": table.name() };
            let found = database.list_collection_names().filter(same_name).await?;
            if found.is_empty() {
                return Ok(());
            }
            tables.delete_one(name).await?;
            Err(taken("somebody else"))
        }
        Err(error) if is_duplicate(&error) => {
            let note = tables.find_one(name).await?.unwrap_or_default();
            match note.get_str("projection") {
                Ok(owner) if owner == projection => Ok(()),
                owner => Err(taken(owner.unwrap_or("somebody else"))),
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn create(database: &Database, collection: &str) -> Result<(), Failure> {
    match database.create_collection(collection).await {
        Err(error) if is_there(&error) => Ok(()),
        done => Ok(done?),
    }
}

fn is_there(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(refused) if refused.code == NAMESPACE_EXISTS)
}

async fn create_indexes(database: &Database, table: &Table) -> Result<(), Failure> {
    let index = |column: &&'static str| doc! { "key": { *column: 1 }, "name": *column };
    let indexes: Vec<_> = table.indexes().iter().map(index).collect();
    if !indexes.is_empty() {
        database
            .run_command(doc! { "createIndexes": table.name(), "indexes": indexes })
            .await?;
    }
    Ok(())
}
