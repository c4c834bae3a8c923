//! Read models in `MongoDB` 4.4 or later. What the server can do is found out at the first contact
//! and told ([`Store::describe`]).
//!
//! Each projection has one document ([`ledger`]) with its positions and the number of its last
//! transaction. Every transaction changes it, so those of one projection go one after the other,
//! whichever instance brings them.
//!
//! * **With transactions** (replica sets, sharded clusters): positions, rows, and the ledger's
//!   document in one transaction ([`transaction`]). The rows are read and folded before it begins; its
//!   first write is refused unless the document still has the number that was read. Whoever comes
//!   second is refused before it has done anything, and tries again.
//! * **Without** (a single server that is no replica set): one update of the ledger's document is the
//!   commit. It moves the positions and holds the rows that are to be written, and is refused unless
//!   the document still has the number that was read. Then the rows are written, each guarded by the
//!   number of the transaction that wrote it last, and the document is cleared. Whoever finds rows
//!   pending writes them first, so a crash loses nothing, and a late writer finds newer numbers. Until
//!   then other readers may see a part of a batch. Deleted rows stay as small documents with `_gone`,
//!   so that a late writer finds them too: leave them out of your queries.
//! * **Fencing**: epochs are in the ledger's document, compared before and by the commit. An owner
//!   killed or frozen in the middle of a transaction holds nobody up: its successor ends its session
//!   on the server ([`sessions`]).
//! * **Bounds**: what may wait inside the server has a limit there (`maxTimeMS`), and every call one
//!   here.
//! * **Durability**: writes wait for a majority and its journals, unless the address says otherwise.
//!
//! Own collections: `_conveyor_projections`, `_conveyor_tables`, `_conveyor_positions`,
//! `_conveyor_sessions`. Rows: [`documents`].

mod builds;
mod documents;
mod failure;
mod journal;
mod ledger;
mod schema;
mod sessions;
mod transaction;
mod views;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use conveyor_processors::build::{Build, BuildName, Builds};
use conveyor_processors::record::TopicPartition;
use conveyor_processors::rows::Rows;
use conveyor_processors::store::{OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{Change, Declaration, Row, RowKey, Table};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{
    ClientOptions, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use parking_lot::Mutex;

use self::documents::{id_of, to_document, to_row};
use self::failure::{Failure, is_duplicate, is_duplicate_code, is_race_code, sort};
use self::ledger::{Ledger, Write};
use self::sessions::{Racing, Sessions, limit};
use crate::address::without_password;
use crate::doubt::Doubts;
use crate::fence::Held;
use crate::{declared, key_order};

/// How long to look for a server before it counts as away, if the address does not say.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// The longest that the server may take over one command, in milliseconds.
const SERVER_LIMIT: i32 = 20_000;

/// Longest time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// The database, if the address names none.
const DATABASE: &str = "conveyor";

/// Documents of one command.
const DOCUMENTS_PER_COMMAND: usize = 1_000;

/// A store in one `MongoDB` database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MongodbStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// For people, without the password.
    name: String,
    client: Client,
    database: Database,
    /// Once known: whether the server has transactions.
    transactions: OnceLock<bool>,
    sessions: Sessions,
    /// The live builds at the last claim, by projection.
    live: Mutex<HashMap<String, BuildName>>,
    doubts: Doubts,
}

impl MongodbStore {
    /// A store at an address. Looks whether the server is there and what it can do; one that is away
    /// is no error.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let name = format!("mongodb {}", without_password(url));
        let failed = |error: mongodb::error::Error| StoreError::Failed {
            store: name.clone(),
            reason: format!("the address is not understood: {}", error.kind),
        };
        let mut options = ClientOptions::parse(url).await.map_err(failed)?;
        options
            .app_name
            .get_or_insert_with(|| "conveyor".to_owned());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        options.write_concern.get_or_insert_with(|| {
            WriteConcern::builder()
                .w(mongodb::options::Acknowledgment::Majority)
                .journal(true)
                .build()
        });
        // Positions that a secondary tells may be those of yesterday.
        options.selection_criteria =
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let database = options.default_database.clone();
        let client = Client::with_options(options).map_err(failed)?;
        let store = Self {
            inner: Arc::new(Inner {
                name,
                database: client.database(database.as_deref().unwrap_or(DATABASE)),
                client,
                transactions: OnceLock::new(),
                sessions: Sessions::default(),
                live: Mutex::default(),
                doubts: Doubts::default(),
            }),
        };
        // If it is away, the first call finds out.
        drop(tokio::time::timeout(CALL_TIMEOUT, store.inner.has_transactions()).await);
        Ok(store)
    }
}

impl Inner {
    async fn call<T>(
        &self,
        projection: &str,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result.map_err(|failure| sort(failure, &self.name, projection)),
            Err(_) => Err(StoreError::Unavailable {
                store: self.name.clone(),
                reason: format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Replica sets and sharded clusters have them.
    async fn has_transactions(&self) -> Result<bool, Failure> {
        if let Some(known) = self.transactions.get() {
            return Ok(*known);
        }
        let hello = self.database.run_command(doc! { "hello": 1 }).await?;
        let has =
            hello.contains_key("setName") || hello.get_str("msg").is_ok_and(|m| m == "isdbgrid");
        Ok(*self.transactions.get_or_init(|| has))
    }

    fn ledgers(&self) -> Collection<Document> {
        self.collection(ledger::COLLECTION)
    }

    /// A collection, read as its readers will see it whatever server fails.
    fn collection(&self, name: &str) -> Collection<Document> {
        let majority = self.transactions.get() == Some(&true);
        let concern = majority.then(ReadConcern::majority);
        let mut options = CollectionOptions::default();
        options.read_concern = concern.or_else(|| self.database.read_concern().cloned());
        self.database.collection_with_options(name, options)
    }

    /// The projection's ledger, with nothing pending: what is, is written first.
    async fn settled_ledger(&self, projection: &str) -> Result<Option<Ledger>, Failure> {
        let Some(document) = self.find_ledger(projection).await? else {
            return Ok(None);
        };
        let mut ledger = Ledger::from_document(&document).map_err(Failure::Schema)?;
        if !ledger.pending.is_empty() {
            self.write_pending(projection, &ledger).await?;
            ledger.pending.clear();
        }
        Ok(Some(ledger))
    }

    async fn find_ledger(&self, projection: &str) -> Result<Option<Document>, Failure> {
        let this = doc! { "_id": projection };
        Ok(self.ledgers().find_one(this).max_time(limit()).await?)
    }

    /// The projection's ledger; an empty one is made if there is none.
    async fn ledger_to_claim(&self, projection: &str) -> Result<Ledger, Failure> {
        if let Some(ledger) = self.settled_ledger(projection).await? {
            return Ok(ledger);
        }
        let empty = Ledger::default();
        let document = doc! {
            "_id": projection, ledger::SEQ: 0i64, "positions": empty.positions(), "pending": null
        };
        match self.ledgers().insert_one(document).await {
            Err(error) if is_duplicate(&error) => Err(Failure::Race),
            done => Ok(done.map(|_| empty)?),
        }
    }

    /// Tries until the claim loses no race.
    async fn claim(
        &self,
        declaration: &Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
        take_over: bool,
    ) -> Result<Vec<Position>, Failure> {
        let with_transactions = self.has_transactions().await?;
        let is_live = declaration.build().is_none();
        let mut racing = Racing::new();
        loop {
            let build = self.prepared_build(declaration).await?;
            let claimed = if with_transactions {
                self.claim_once(&build, is_live, owner_epoch, partitions, take_over)
                    .await
            } else {
                self.claim_by_update(&build, is_live, owner_epoch, partitions, take_over)
                    .await
            };
            match claimed {
                Err(failure) => racing.again(self, build.as_str(), failure).await?,
                Ok(positions) => {
                    self.remember(declaration, build);
                    return Ok(positions);
                }
            }
        }
    }

    /// The build that a declaration fills, which must be there and be the one declared.
    async fn prepared_build(&self, declaration: &Declaration) -> Result<BuildName, Failure> {
        self.refuse_live(declaration).await?;
        let build = self.build_of(declaration).await?;
        let gone = || Failure::Schema(declared::GONE.to_owned());
        let build = build.ok_or_else(gone)?;
        let noted = schema::find(self, build.as_str()).await?;
        schema::check(declaration, &noted.ok_or_else(gone)?)?;
        Ok(build)
    }

    fn remember(&self, declaration: &Declaration, build: BuildName) {
        if declaration.build().is_none() {
            let name = declaration.name().to_owned();
            self.live.lock().insert(name, build);
        }
    }

    /// The build that a transaction writes to: the one that was live at the claim. Its ledger
    /// refuses the transaction if it no longer is.
    async fn build_to_write(&self, declaration: &Declaration) -> Result<BuildName, Failure> {
        if let Some(build) = declaration.build() {
            return Ok(build.clone());
        }
        let known = self.live.lock().get(declaration.name()).cloned();
        match known {
            Some(build) => Ok(build),
            None => self.prepared_build(declaration).await,
        }
    }

    /// Tries until the transaction loses no race.
    async fn transact(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let with_transactions = self.has_transactions().await?;
        let mut racing = Racing::new();
        loop {
            let settled = if with_transactions {
                self.transact_once(unit).await
            } else {
                self.journal_once(unit).await
            };
            match settled {
                Err(failure) => {
                    let build = self.build_to_write(&unit.declaration).await?;
                    racing.again(self, build.as_str(), failure).await?;
                }
                settled => return settled,
            }
        }
    }

    /// The rows of a unit that there are.
    async fn load(&self, unit: &Unit, build: &BuildName) -> Result<Vec<Row>, Failure> {
        let mut ids: HashMap<&str, Vec<Bson>> = HashMap::new();
        for key in &unit.keys {
            ids.entry(key.table).or_default().push(id_of(key));
        }
        let mut rows = Vec::new();
        for (name, ids) in ids {
            let table = table_of(unit, name)?;
            let collection = self.collection(&build.stored_table(name));
            for ids in ids.chunks(10 * DOCUMENTS_PER_COMMAND) {
                let these = doc! { "_id": { "$in": ids } };
                let found = collection.find(these).max_time(limit()).await?;
                let found: Vec<Document> = found.try_collect().await?;
                for document in found {
                    rows.extend(readable(table, document)?);
                }
            }
        }
        Ok(rows)
    }

    async fn read_table(
        &self,
        declaration: &Declaration,
        table: &Arc<Table>,
    ) -> Result<Vec<Row>, Failure> {
        let Some(build) = self.build_of(declaration).await? else {
            return Ok(Vec::new());
        };
        self.settled_ledger(build.as_str()).await?;
        let collection = self.collection(&build.stored_table(table.name()));
        let found: Vec<Document> = collection.find(doc! {}).await?.try_collect().await?;
        let mut rows = Vec::with_capacity(found.len());
        for document in found {
            rows.extend(readable(table, document)?);
        }
        Ok(key_order::sorted(rows))
    }

    async fn positions(&self, declaration: &Declaration) -> Result<Vec<Position>, Failure> {
        self.has_transactions().await?;
        let Some(build) = self.build_of(declaration).await? else {
            return Ok(Vec::new());
        };
        let ledger = self.settled_ledger(build.as_str()).await?;
        let held = ledger.map(|ledger| ledger.held).unwrap_or_default();
        let mut positions: Vec<_> = held.iter().filter_map(Held::position).collect();
        positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
        Ok(positions)
    }

    /// Tries a change that may lose a race.
    async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        projection: &str,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut racing = Racing::new();
        loop {
            match attempt().await {
                Err(failure) => racing.again(self, projection, failure).await?,
                done => return done,
            }
        }
    }

    /// Somebody writes without having claimed: as if it stood nowhere, for the driver to claim anew.
    fn unclaimed(unit: &Unit) -> Failure {
        let advance = &unit.advances[0];
        Failure::Store(StoreError::NotAtPosition {
            projection: unit.declaration.stored_name().to_owned(),
            topic_partition: advance.topic_partition.clone(),
            found: None,
            expected: advance.from,
        })
    }
}

/// A short wait that grows with the tries and differs between instances.
fn pause(tries: u32, begun: Instant) -> Duration {
    let most = 2_000u64 << tries.min(5);
    let chance = u64::from(begun.elapsed().subsec_nanos());
    Duration::from_micros(500 + chance % most)
}

/// Errors of single writes, which a command reports in an answer that is otherwise fine.
fn check_answer(answer: &Document, is_fine: impl Fn(i32) -> bool) -> Result<(), Failure> {
    let errors = answer.get_array("writeErrors").map(Vec::as_slice);
    for error in errors
        .unwrap_or_default()
        .iter()
        .filter_map(Bson::as_document)
    {
        let code = error.get_i32("code").unwrap_or_default();
        if (is_duplicate_code(code) || is_race_code(code)) && !is_fine(code) {
            return Err(Failure::Race);
        }
        if !is_fine(code) {
            let message = error.get_str("errmsg").unwrap_or("a write was refused");
            return Err(Failure::Failed(format!("{message} (code {code})")));
        }
    }
    if let Ok(concern) = answer.get_document("writeConcernError") {
        let message = concern.get_str("errmsg").unwrap_or("not on enough servers");
        return Err(Failure::Store(StoreError::Unavailable {
            store: "mongodb".to_owned(),
            reason: message.to_owned(),
        }));
    }
    Ok(())
}

fn table_of<'u>(unit: &'u Unit, table: &str) -> Result<&'u Arc<Table>, Failure> {
    unit.declaration.find_table(table).ok_or_else(|| {
        Failure::Failed(format!(
            "it names rows of table {table}, which it does not declare"
        ))
    })
}

fn readable(table: &Arc<Table>, document: Document) -> Result<Option<Row>, Failure> {
    to_row(table, document).map_err(|what| {
        Failure::Schema(format!(
            "a document of {} has {what}; somebody else has changed it: build it anew in another \
             database (in the --store address)",
            table.name()
        ))
    })
}

fn writes_of(unit: &Unit, build: &BuildName, changes: &[Change]) -> Result<Vec<Write>, Failure> {
    let write = |change: &Change| {
        let (key, row): (RowKey, Option<&Row>) = match change {
            Change::Put(row) => (key_order::key_of(row), Some(row)),
            Change::Delete(key) => (key.clone(), None),
        };
        table_of(unit, key.table)?;
        let id = id_of(&key);
        Ok(Write {
            table: build.stored_table(key.table),
            document: row.map(|row| to_document(row, id.clone())),
            id,
        })
    };
    changes.iter().map(write).collect()
}

fn by_table(writes: &[Write]) -> Vec<(&str, Vec<&Write>)> {
    let mut tables: Vec<(&str, Vec<&Write>)> = Vec::new();
    for write in writes {
        match tables.iter_mut().find(|(table, _)| *table == write.table) {
            Some((_, writes)) => writes.push(write),
            None => tables.push((&write.table, vec![write])),
        }
    }
    tables
}

/// What the fold is given: the rows found, all others as absent.
fn working_set(unit: &Unit, found: Vec<Row>) -> Rows {
    let mut loaded = Rows::new(&unit.declaration);
    for key in &unit.keys {
        loaded.load(key.clone(), None);
    }
    for row in found {
        loaded.load(key_order::key_of(&row), Some(row));
    }
    loaded
}

impl Store for MongodbStore {
    fn describe(&self) -> String {
        let how = match self.inner.transactions.get() {
            Some(true) => "with transactions",
            Some(false) => "without transactions, each batch as one document first",
            None => "not reached yet",
        };
        format!("{} ({how})", self.inner.name)
    }

    fn prepare<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let prepared = async {
            self.inner.has_transactions().await?;
            let attempt = || schema::prepare(&self.inner, declaration);
            self.inner.persist(declaration.stored_name(), attempt).await
        };
        self.inner.call(declaration.stored_name(), prepared).boxed()
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let claimed = self
            .inner
            .claim(declaration, owner_epoch, partitions, take_over);
        self.inner.call(declaration.stored_name(), claimed).boxed()
    }

    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let declaration = Arc::clone(&unit.declaration);
            let written = self.inner.transact(&mut unit);
            self.inner.call(declaration.stored_name(), written).await
        }
        .boxed()
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let read = self.inner.positions(declaration);
        self.inner.call(declaration.stored_name(), read).boxed()
    }

    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let read = self.inner.read_table(declaration, table);
        self.inner.call(declaration.stored_name(), read).boxed()
    }
}

impl Builds for MongodbStore {
    fn builds(&self) -> BoxFuture<'_, Result<Vec<Build>, StoreError>> {
        self.inner.call("(all)", self.inner.builds()).boxed()
    }

    fn switch<'a>(&'a self, incoming: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let attempt = || self.inner.switch(incoming);
        let switched = self.inner.persist(incoming.projection(), attempt);
        self.inner.call(incoming.projection(), switched).boxed()
    }

    fn drop_build<'a>(&'a self, build: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let dropped = self.inner.drop_build(build);
        self.inner.call(build.as_str(), dropped).boxed()
    }
}
