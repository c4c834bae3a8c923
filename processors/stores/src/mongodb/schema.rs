//! Our own collections, and those of each projection: created if missing, checked otherwise. Each
//! step may be done by several instances at once, and again after a crash.

use conveyor_processors::build::{BuildName, FIRST_TAG};
use conveyor_processors::table::List;
use conveyor_processors::{ColumnType, Declaration, Table};
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;

use super::documents::{GONE, SEQ};
use super::failure::{Failure, is_duplicate};
use super::sessions::limit;
use super::{Inner, builds, ledger, views};
use crate::declared;

/// Version of the collections that start with `_conveyor`.
const LAYOUT_VERSION: i64 = 2;

/// The collection of builds, and of the pointers to the live ones.
pub(super) const PROJECTIONS: &str = "_conveyor_projections";

/// The collection that says whose each collection and view is.
pub(super) const TABLES: &str = "_conveyor_tables";

/// Where a projection goes that does not fit here.
const ELSEWHERE: &str = "another database (in the --store address)";

/// The server's code for a collection that is there already.
const NAMESPACE_EXISTS: i32 = 48;

/// The server's code for a collection that is not there.
const NAMESPACE_NOT_FOUND: i32 = 26;

pub(super) async fn prepare(inner: &Inner, declaration: &Declaration) -> Result<(), Failure> {
    let projection = declaration.name();
    refuse_own_fields(declaration)?;
    inner.refuse_live(declaration).await?;
    if let Some(build) = inner.build_of(declaration).await?
        && let Some(noted) = find(inner, build.as_str()).await?
    {
        check(declaration, &noted)?;
        if declaration.build().is_none() {
            return views::turn_over(inner, &build).await;
        }
        return Ok(());
    }
    for collection in [PROJECTIONS, TABLES, ledger::COLLECTION] {
        create(&inner.database, collection).await?;
    }
    refuse_layout_1(inner, projection).await?;
    let pointer = inner.make_pointer(projection).await?;
    let Some(build) = declaration.build() else {
        if pointer.tag.is_some() {
            // Another instance was quicker.
            return Err(Failure::Race);
        }
        // The views' names first: they may be somebody else's.
        for table in declaration.tables() {
            take_table(inner, projection, table.name()).await?;
        }
        let first = builds::name_of(projection, FIRST_TAG)?;
        create_build(inner, declaration, &first).await?;
        inner.make_first_live(projection).await?;
        return views::turn_over(inner, &first).await;
    };
    create_build(inner, declaration, build).await
}

/// Fields that are ours cannot be those of a column.
fn refuse_own_fields(declaration: &Declaration) -> Result<(), Failure> {
    for table in declaration.tables() {
        let mut fields = (0..table.columns().len()).map(|column| table.field_of(column));
        if let Some(field) = fields.find(|field| ["_id", SEQ, GONE].contains(field)) {
            return Err(Failure::Schema(format!(
                "its table {} has a field {field}, which this store needs for itself: call it \
                 otherwise",
                table.name()
            )));
        }
    }
    Ok(())
}

/// Layout 1 noted a projection where its pointer is now.
async fn refuse_layout_1(inner: &Inner, projection: &str) -> Result<(), Failure> {
    let noted = find(inner, projection).await?;
    match noted.and_then(|noted| noted.get_i64("layout").ok()) {
        Some(layout) => Err(Failure::Schema(other_layout(layout))),
        None => Ok(()),
    }
}

fn other_layout(layout: i64) -> String {
    format!(
        "the database has layout version {layout}, this program writes {LAYOUT_VERSION}: use the \
         program that wrote it, or {ELSEWHERE}"
    )
}

async fn create_build(
    inner: &Inner,
    declaration: &Declaration,
    build: &BuildName,
) -> Result<(), Failure> {
    for table in declaration.tables() {
        let name = build.stored_table(table.name());
        take_table(inner, build.as_str(), &name).await?;
        create(&inner.database, &name).await?;
        create_indexes(&inner.database, table, &name).await?;
    }
    let document = doc! {
        "_id": build.as_str(),
        "layout": LAYOUT_VERSION,
        "version": i64::from(declaration.version()),
        "declaration": declared::text_of(declaration),
    };
    match inner.collection(PROJECTIONS).insert_one(&document).await {
        Ok(_) => Ok(()),
        // Another instance was quicker, perhaps one of another version.
        Err(error) if is_duplicate(&error) => {
            let noted = find(inner, build.as_str()).await?;
            check(declaration, &noted.unwrap_or(document))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is noted under the name of a build.
pub(super) async fn find(inner: &Inner, name: &str) -> Result<Option<Document>, Failure> {
    let noted = inner.collection(PROJECTIONS);
    let this = doc! { "_id": name };
    Ok(noted.find_one(this).max_time(limit()).await?)
}

/// Version and declaration of a build as noted.
pub(super) fn noted(noted: &Document) -> (u32, &str) {
    let version = noted.get_i64("version").unwrap_or_default();
    let text = noted.get_str("declaration").unwrap_or_default();
    (u32::try_from(version).unwrap_or_default(), text)
}

pub(super) fn check(declaration: &Declaration, known: &Document) -> Result<(), Failure> {
    let layout = known.get_i64("layout").unwrap_or_default();
    if layout != LAYOUT_VERSION {
        return Err(Failure::Schema(other_layout(layout)));
    }
    let (version, text) = noted(known);
    declared::check(declaration, version, text, ELSEWHERE).map_err(Failure::Schema)
}

/// Notes whose collection or view it is, before it is made: one that is there without a note is not
/// ours.
pub(super) async fn take_table(inner: &Inner, owner: &str, name: &str) -> Result<(), Failure> {
    let taken = |owner: &str| {
        Failure::Schema(format!(
            "collection {name} belongs to {owner} already: name {ELSEWHERE}"
        ))
    };
    let check = |found: Option<String>| match found {
        Some(found) if found == owner => Ok(()),
        Some(found) => Err(taken(&found)),
        None => Err(taken("somebody else")),
    };
    if let Some(found) = owner_of(inner, name).await? {
        return check(Some(found));
    }
    let same_name = doc! { "name": name };
    let found = inner.database.list_collection_names().filter(same_name);
    if !found.await?.is_empty() {
        // Another instance may have noted and made it just now.
        return check(owner_of(inner, name).await?);
    }
    let note = doc! { "_id": name, "projection": owner };
    match inner.collection(TABLES).insert_one(note).await {
        Ok(_) => Ok(()),
        Err(error) if is_duplicate(&error) => check(owner_of(inner, name).await?),
        Err(error) => Err(error.into()),
    }
}

/// Whose collection or view it is, if that is noted.
pub(super) async fn owner_of(inner: &Inner, name: &str) -> Result<Option<String>, Failure> {
    let notes = inner.collection(TABLES);
    let this = doc! { "_id": name };
    let note = notes.find_one(this).max_time(limit()).await?;
    Ok(note.and_then(|note| note.get_str("projection").ok().map(str::to_owned)))
}

async fn create(database: &Database, collection: &str) -> Result<(), Failure> {
    match database.create_collection(collection).await {
        Err(error) if is_there(&error) => Ok(()),
        done => Ok(done?),
    }
}

pub(super) fn is_gone(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(refused) if refused.code == NAMESPACE_NOT_FOUND)
}

pub(super) fn is_there(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(refused) if refused.code == NAMESPACE_EXISTS)
}

async fn create_indexes(
    database: &Database,
    table: &Table,
    collection: &str,
) -> Result<(), Failure> {
    let field = |column: &str| table.field_of(table.position(column).unwrap_or_default());
    let index = |column: &&'static str| doc! { "key": { field(column): 1 }, "name": field(column) };
    let lists = table.lists().iter().map(|list| list_index(table, list));
    let indexes: Vec<_> = table.indexes().iter().map(index).chain(lists).collect();
    if !indexes.is_empty() {
        database
            .run_command(doc! { "createIndexes": collection, "indexes": indexes })
            .await?;
    }
    Ok(())
}

/// An index over just the documents of a list, in its order.
fn list_index(table: &Table, list: &List) -> Document {
    let field = |column: usize| table.field_of(column).to_owned();
    let keys = list.index_columns().into_iter();
    let keys: Document = keys.map(|column| (field(column), Bson::Int32(1))).collect();
    let mut only = Document::new();
    if let Some(score) = list.score {
        let is_moment = table.columns()[score].column_type == ColumnType::Timestamp;
        let wanted = doc! { "$type": if is_moment { "date" } else { "long" } };
        only.insert(field(score), wanted);
    }
    if let Some((column, bound)) = list.at_most {
        only.insert(field(column), doc! { "$lte": bound });
    }
    let mut index = doc! { "key": keys, "name": list.pattern.text() };
    if !only.is_empty() {
        index.insert("partialFilterExpression", only);
    }
    index
}
