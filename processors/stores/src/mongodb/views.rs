//! The views under which readers see the live build's collections.

use std::collections::HashMap;

use conveyor_processors::build::BuildName;
use futures::TryStreamExt;
use mongodb::bson::{Bson, doc};
use mongodb::results::CollectionType;

use super::documents::GONE;
use super::failure::Failure;
use super::schema::{self, is_gone, is_there};
use super::{Inner, SERVER_LIMIT};
use crate::declared;

/// Makes the views show this build, and drops those of tables that it does not have.
pub(super) async fn turn_over(inner: &Inner, live: &BuildName) -> Result<(), Failure> {
    let Some(noted) = schema::find(inner, live.as_str()).await? else {
        return Ok(());
    };
    let (_, text) = schema::noted(&noted);
    let tables = declared::tables_of(text);
    let mut present = present(inner).await?;
    for table in &tables {
        let wanted = live.stored_table(table);
        schema::take_table(inner, live.projection(), table).await?;
        match present.remove(table) {
            Some(on) if on == wanted => {}
            Some(_) => modify(inner, table, &wanted).await?,
            None => create(inner, table, &wanted).await?,
        }
    }
    for (view, on) in present {
        // Of a build of this projection: `wave__1` under the name of `wave`.
        let is_ours = schema::owner_of(inner, &view).await?.as_deref() == Some(live.projection());
        if is_ours && on.starts_with(&format!("{view}__")) {
            inner.collection(&view).drop().await?;
            let notes = inner.collection(schema::TABLES);
            notes.delete_one(doc! { "_id": &view }).await?;
        }
    }
    Ok(())
}

/// All views of the database, and what each is on.
async fn present(inner: &Inner) -> Result<HashMap<String, String>, Failure> {
    let views = inner
        .database
        .list_collections()
        .filter(doc! { "type": "view" });
    let mut views = views.await?;
    let mut present = HashMap::new();
    while let Some(found) = views.try_next().await? {
        if found.collection_type == CollectionType::View
            && let Some(on) = found.options.view_on
        {
            present.insert(found.name, on);
        }
    }
    Ok(present)
}

async fn create(inner: &Inner, view: &str, on: &str) -> Result<(), Failure> {
    let pipeline = pipeline(inner);
    let command = doc! {
        "create": view, "viewOn": on, "pipeline": pipeline, "maxTimeMS": SERVER_LIMIT
    };
    match inner.database.run_command(command).await {
        // Another instance was quicker; perhaps one that had read an older pointer.
        Err(error) if is_there(&error) => modify(inner, view, on).await,
        done => Ok(done.map(|_| ())?),
    }
}

/// Turns a view over, in one step for its readers. A server that takes the command and does not carry
/// it out gets the view anew: its readers may miss it for a moment.
async fn modify(inner: &Inner, view: &str, on: &str) -> Result<(), Failure> {
    let command = doc! {
        "collMod": view, "viewOn": on, "pipeline": pipeline(inner), "maxTimeMS": SERVER_LIMIT
    };
    match inner.database.run_command(command).await {
        // Another instance is making it anew.
        Err(error) if is_gone(&error) => return Err(Failure::Race),
        done => done?,
    };
    if present(inner).await?.get(view).is_some_and(|now| now == on) {
        return Ok(());
    }
    tracing::warn!(
        view,
        "the server does not turn views over: this one is made anew"
    );
    inner.collection(view).drop().await?;
    let command = doc! {
        "create": view, "viewOn": on, "pipeline": pipeline(inner), "maxTimeMS": SERVER_LIMIT
    };
    match inner.database.run_command(command).await {
        Err(error) if is_there(&error) => Err(Failure::Race),
        done => Ok(done.map(|_| ())?),
    }
}

/// On a server without transactions deleted rows stay as small documents, for late writers to find.
fn pipeline(inner: &Inner) -> Vec<Bson> {
    if inner.transactions.get() == Some(&true) {
        return Vec::new();
    }
    vec![Bson::Document(doc! { "$match": { GONE: { "$ne": true } } })]
}
