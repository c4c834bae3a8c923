//! Read models in `MongoDB` 4.4 or later. What the server can do is found out at the first contact
//! and told ([`Store::describe`]).
//!
//! Each projection has one document ([`ledger`]) with its positions and the number of its last
//! transaction. Every transaction changes it, so those of one projection go one after the other,
//! whichever instance brings them.
//!
//! * **With transactions** (replica sets, sharded clusters): positions, rows, and the ledger's
//!   document in one transaction. It changes that document first: whoever comes second is refused
//!   before it has done anything, and tries again.
//! * **Without** (a single server that is no replica set): one update of the ledger's document is the
//!   commit. It moves the positions and holds the rows that are to be written, and is refused unless
//!   the document still has the number that was read. Then the rows are written, each guarded by the
//!   number of the transaction that wrote it last, and the document is cleared. Whoever finds rows
//!   pending writes them first, so a crash loses nothing, and a late writer finds newer numbers. Until
//!   then other readers may see a part of a batch. Deleted rows stay as small documents with `_gone`,
//!   so that a late writer finds them too: leave them out of your queries.
//! * **Fencing**: epochs are in the ledger's document, compared before and by the commit. An owner
//!   frozen in the middle of a transaction holds its successor up until the server gives that
//!   transaction up (`transactionLifetimeLimitSeconds`, 60 s unless set otherwise).
//! * **Durability**: writes wait for a majority and its journals, unless the address says otherwise.
//!
//! Own collections: `_conveyor_projections`, `_conveyor_tables`, `_conveyor_positions`. Rows:
//! [`documents`].

mod documents;
mod failure;
mod ledger;
mod schema;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use conveyor_processors::record::TopicPartition;
use conveyor_processors::rows::Rows;
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{Change, Declaration, Row, RowKey, Table};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, ClientSession, Collection, Database};

use self::documents::{GONE, SEQ, id_of, to_document, to_row};
use self::failure::{Failure, is_duplicate, is_duplicate_code, leaves_doubt, lost_a_race, sort};
use self::ledger::{Ledger, Write};
use crate::address::without_password;
use crate::doubt::Doubts;
use crate::fence::{self, Held};
use crate::key_order;

/// How long to look for a server before it counts as away, if the address does not say.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// How long a transaction that lost against others is tried again before the driver hears of it.
const RACING_MAX: Duration = Duration::from_secs(10);

/// Longest time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// The database, if the address names none.
const DATABASE: &str = "conveyor";

/// Documents of one command.
const DOCUMENTS_PER_COMMAND: usize = 1_000;

/// Bytes of the rows that one ledger's document can hold; a document ends at 16 MiB.
const PENDING_BYTES_MAX: usize = 15 << 20;

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
                doubts: Doubts::default(),
            }),
        };
        // If it is away, the first call finds out.
        store.inner.has_transactions().await.ok();
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
        self.database.collection(ledger::COLLECTION)
    }

    /// The projection's ledger, with nothing pending: what is, is written first.
    async fn settled_ledger(&self, projection: &str) -> Result<Option<Ledger>, Failure> {
        let found = self.ledgers().find_one(doc! { "_id": projection }).await?;
        let Some(document) = found else {
            return Ok(None);
        };
        let mut ledger = Ledger::from_document(&document).map_err(Failure::Schema)?;
        if !ledger.pending.is_empty() {
            self.write_pending(projection, &ledger).await?;
            ledger.pending.clear();
        }
        Ok(Some(ledger))
    }

    async fn claim(
        &self,
        projection: &str,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
        take_over: bool,
    ) -> Result<Vec<Position>, Failure> {
        let ledger = self.settled_ledger(projection).await?;
        let is_new = ledger.is_none();
        let mut ledger = ledger.unwrap_or(Ledger {
            seq: 0,
            held: Vec::new(),
            pending: Vec::new(),
        });
        let concerned = |held: &&Held| partitions.contains(&held.topic_partition);
        let held: Vec<_> = ledger.held.iter().filter(concerned).cloned().collect();
        fence::check_claim(projection, &held, owner_epoch, take_over)?;
        ledger.give(partitions, owner_epoch);
        let positions = ledger.positions();
        if is_new {
            let document =
                doc! { "_id": projection, "seq": 1i64, "positions": positions, "pending": null };
            match self.ledgers().insert_one(document).await {
                Err(error) if is_duplicate(&error) => return Err(Failure::Race),
                done => done.map(|_| ())?,
            }
        } else {
            let unchanged = doc! { "_id": projection, "seq": ledger.seq, "pending": null };
            let change = doc! { "$set": { "positions": positions }, "$inc": { "seq": 1i64 } };
            let updated = self.ledgers().update_one(unchanged, change).await?;
            if updated.matched_count == 0 {
                return Err(Failure::Race);
            }
        }
        let claimed = ledger.held.iter().filter(concerned);
        let mut positions: Vec<_> = claimed.filter_map(Held::position).collect();
        positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
        Ok(positions)
    }

    /// Tries until the transaction loses no race.
    async fn transact(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let with_transactions = self.has_transactions().await?;
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let settled = if with_transactions {
                self.transact_once(unit).await
            } else {
                self.journal_once(unit).await
            };
            match settled {
                Err(failure) if lost_a_race(&failure) && begun.elapsed() < RACING_MAX => {
                    tries += 1;
                    tokio::time::sleep(pause(tries, begun)).await;
                }
                settled => return settled,
            }
        }
    }

    /// One transaction of the server's.
    async fn transact_once(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let projection = unit.declaration.name();
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let result = self.in_transaction(unit, &mut session).await;
        if !matches!(result, Ok(Some(_))) {
            // What cannot be aborted is given up by the server.
            session.abort_transaction().await.ok();
            return result.map(|settled| settled.is_some());
        }
        if result.is_ok_and(|settled| settled == Some(Settled::Before)) {
            session.abort_transaction().await.ok();
            return Ok(true);
        }
        match session.commit_transaction().await {
            Ok(()) => Ok(true),
            Err(error) => {
                if leaves_doubt(&error) {
                    self.doubts.note(projection, &unit.advances);
                }
                Err(error.into())
            }
        }
    }

    /// Everything between begin and commit; `None`: the fold gave up.
    async fn in_transaction(
        &self,
        unit: &mut Unit,
        session: &mut ClientSession,
    ) -> Result<Option<Settled>, Failure> {
        let projection = unit.declaration.name();
        let taken = self
            .ledgers()
            .find_one_and_update(doc! { "_id": projection }, doc! { "$inc": { "seq": 1i64 } })
            .session(&mut *session)
            .await?;
        let Some(document) = taken else {
            return Err(Self::unclaimed(unit));
        };
        let mut ledger = Ledger::from_document(&document).map_err(Failure::Schema)?;
        if self.doubts.settle(projection, &ledger.held, &unit.advances) {
            return Ok(Some(Settled::Before));
        }
        fence::check(projection, &ledger.held, &unit.advances)?;
        let found = self.load(unit, Some(&mut *session)).await?;
        let loaded = working_set(unit, found);
        let Outcome::Commit(changes) = (unit.fold)(loaded) else {
            return Ok(None);
        };
        let writes = writes_of(unit, &changes)?;
        for (table, writes) in by_table(&writes) {
            self.write_in_transaction(table, &writes, ledger.seq + 1, session)
                .await?;
        }
        ledger.advance(&unit.advances);
        let moved = doc! { "$set": { "positions": ledger.positions() } };
        self.ledgers()
            .update_one(doc! { "_id": projection }, moved)
            .session(&mut *session)
            .await?;
        Ok(Some(Settled::Now))
    }

    /// The same on a server without transactions.
    async fn journal_once(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let projection = unit.declaration.name();
        let Some(mut ledger) = self.settled_ledger(projection).await? else {
            return Err(Self::unclaimed(unit));
        };
        if self.doubts.settle(projection, &ledger.held, &unit.advances) {
            return Ok(true);
        }
        fence::check(projection, &ledger.held, &unit.advances)?;
        let found = self.load(unit, None).await?;
        let loaded = working_set(unit, found);
        let Outcome::Commit(changes) = (unit.fold)(loaded) else {
            return Ok(false);
        };
        let unchanged = doc! { "_id": projection, "seq": ledger.seq, "pending": null };
        ledger.pending = writes_of(unit, &changes)?;
        ledger.advance(&unit.advances);
        ledger.seq += 1;
        let commit = commit_document(&ledger)?;
        match self.ledgers().update_one(unchanged, commit).await {
            Ok(updated) if updated.matched_count == 0 => {
                // Unless it was ourselves: the driver sends a write again when a connection breaks.
                self.doubts.note(projection, &unit.advances);
                return Err(Failure::Race);
            }
            Ok(_) => {}
            Err(error) => {
                if leaves_doubt(&error) {
                    self.doubts.note(projection, &unit.advances);
                }
                return Err(error.into());
            }
        }
        if let Err(failure) = self.write_pending(projection, &ledger).await {
            // It is committed. Whoever comes next writes what is left of it.
            self.doubts.note(projection, &unit.advances);
            return Err(failure);
        }
        Ok(true)
    }

    /// Writes what a ledger has pending, each row unless it is newer, and clears it.
    async fn write_pending(&self, projection: &str, ledger: &Ledger) -> Result<(), Failure> {
        for (table, writes) in by_table(&ledger.pending) {
            for writes in writes.chunks(DOCUMENTS_PER_COMMAND) {
                let updates = writes.iter().map(|write| {
                    let gone = || doc! { "_id": &write.id, GONE: true };
                    let mut document = write.document.clone().unwrap_or_else(gone);
                    document.insert(SEQ, ledger.seq);
                    let older = doc! { "_id": &write.id, SEQ: { "$lt": ledger.seq } };
                    doc! { "q": older, "u": document, "upsert": true }
                });
                let command = doc! {
                    "update": table,
                    "updates": updates.collect::<Vec<_>>(),
                    "ordered": false,
                    "writeConcern": { "w": "majority", "j": true },
                };
                let answer = self.database.run_command(command).await?;
                // A newer row is in the way of the upsert: that is what the guard is for.
                check_answer(&answer, is_duplicate_code)?;
            }
        }
        let this = doc! { "_id": projection, "seq": ledger.seq };
        let cleared = doc! { "$set": { "pending": null } };
        self.ledgers().update_one(this, cleared).await?;
        Ok(())
    }

    async fn write_in_transaction(
        &self,
        table: &str,
        writes: &[&Write],
        seq: i64,
        session: &mut ClientSession,
    ) -> Result<(), Failure> {
        let (mut updates, mut deletes) = (Vec::new(), Vec::new());
        for write in writes {
            match &write.document {
                Some(document) => {
                    let mut document = document.clone();
                    document.insert(SEQ, seq);
                    updates.push(doc! { "q": { "_id": &write.id }, "u": document, "upsert": true });
                }
                None => deletes.push(doc! { "q": { "_id": &write.id }, "limit": 1 }),
            }
        }
        for updates in updates.chunks(DOCUMENTS_PER_COMMAND) {
            let command = doc! { "update": table, "updates": updates.to_vec() };
            let answer = self
                .database
                .run_command(command)
                .session(&mut *session)
                .await?;
            check_answer(&answer, |_| false)?;
        }
        for deletes in deletes.chunks(DOCUMENTS_PER_COMMAND) {
            let command = doc! { "delete": table, "deletes": deletes.to_vec() };
            let answer = self
                .database
                .run_command(command)
                .session(&mut *session)
                .await?;
            check_answer(&answer, |_| false)?;
        }
        Ok(())
    }

    /// The rows of a unit that there are.
    async fn load(
        &self,
        unit: &Unit,
        mut session: Option<&mut ClientSession>,
    ) -> Result<Vec<Row>, Failure> {
        let mut ids: HashMap<&str, Vec<Bson>> = HashMap::new();
        for key in &unit.keys {
            ids.entry(key.table).or_default().push(id_of(key));
        }
        let mut rows = Vec::new();
        for (name, ids) in ids {
            let table = declared(unit, name)?;
            let collection = self.database.collection::<Document>(name);
            for ids in ids.chunks(10 * DOCUMENTS_PER_COMMAND) {
                let find = collection.find(doc! { "_id": { "$in": ids } });
                let found: Vec<Document> = match session.as_deref_mut() {
                    Some(session) => {
                        let mut cursor = find.session(&mut *session).await?;
                        cursor.stream(session).try_collect().await?
                    }
                    None => find.await?.try_collect().await?,
                };
                for document in found {
                    rows.extend(readable(table, document)?);
                }
            }
        }
        Ok(rows)
    }

    async fn read_table(&self, projection: &str, table: &Arc<Table>) -> Result<Vec<Row>, Failure> {
        self.settled_ledger(projection).await?;
        let collection = self.database.collection::<Document>(table.name());
        let found: Vec<Document> = collection.find(doc! {}).await?.try_collect().await?;
        let mut rows = Vec::with_capacity(found.len());
        for document in found {
            rows.extend(readable(table, document)?);
        }
        Ok(key_order::sorted(rows))
    }

    /// Somebody writes without having claimed: as if it stood nowhere, for the driver to claim anew.
    fn unclaimed(unit: &Unit) -> Failure {
        let advance = &unit.advances[0];
        Failure::Store(StoreError::NotAtPosition {
            projection: unit.declaration.name().to_owned(),
            topic_partition: advance.topic_partition.clone(),
            found: None,
            expected: advance.from,
        })
    }
}

/// How a transaction came to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// By the one that is to be committed now.
    Now,
    /// By an earlier one whose answer was lost.
    Before,
}

/// A short wait that grows with the tries and differs between instances.
fn pause(tries: u32, begun: Instant) -> Duration {
    let most = 2_000u64 << tries.min(5);
    let chance = u64::from(begun.elapsed().subsec_nanos());
    Duration::from_micros(500 + chance % most)
}

/// The update that commits a ledger with its pending rows.
fn commit_document(ledger: &Ledger) -> Result<Document, Failure> {
    let pending: Vec<_> = ledger.pending.iter().map(Write::to_document).collect();
    let pending = if pending.is_empty() {
        Bson::Null
    } else {
        pending.into()
    };
    let commit = doc! {
        "$set": { "seq": ledger.seq, "positions": ledger.positions(), "pending": pending }
    };
    let bytes = mongodb::bson::serialize_to_vec(&commit)
        .map_err(|error| Failure::Failed(error.to_string()))?
        .len();
    if bytes > PENDING_BYTES_MAX {
        return Err(Failure::Failed(format!(
            "a batch changes rows of {bytes} bytes, and a server without transactions can commit \
             {PENDING_BYTES_MAX} at a time: read fewer records at a time, or make the server a \
             replica set (of one member, if need be)"
        )));
    }
    Ok(commit)
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
        if is_duplicate_code(code) && !is_fine(code) {
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

fn declared<'u>(unit: &'u Unit, table: &str) -> Result<&'u Arc<Table>, Failure> {
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

fn writes_of(unit: &Unit, changes: &[Change]) -> Result<Vec<Write>, Failure> {
    let write = |change: &Change| {
        let (key, row): (RowKey, Option<&Row>) = match change {
            Change::Put(row) => (key_order::key_of(row), Some(row)),
            Change::Delete(key) => (key.clone(), None),
        };
        declared(unit, key.table)?;
        let id = id_of(&key);
        Ok(Write {
            table: key.table.to_owned(),
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
            schema::prepare(&self.inner.database, declaration).await
        };
        self.inner.call(declaration.name(), prepared).boxed()
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let name = declaration.name();
        let claimed = async move {
            let begun = Instant::now();
            let mut tries = 0;
            loop {
                let claimed = self
                    .inner
                    .claim(name, owner_epoch, partitions, take_over)
                    .await;
                match claimed {
                    Err(failure) if lost_a_race(&failure) && begun.elapsed() < RACING_MAX => {
                        tries += 1;
                        tokio::time::sleep(pause(tries, begun)).await;
                    }
                    settled => return settled,
                }
            }
        };
        self.inner.call(name, claimed).boxed()
    }

    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let projection = unit.declaration.name();
            let written = self.inner.transact(&mut unit);
            self.inner.call(projection, written).await
        }
        .boxed()
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let read = async {
            let ledger = self.inner.settled_ledger(declaration.name()).await?;
            let held = ledger.map(|ledger| ledger.held).unwrap_or_default();
            let mut positions: Vec<_> = held.iter().filter_map(Held::position).collect();
            positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
            Ok(positions)
        };
        self.inner.call(declaration.name(), read).boxed()
    }

    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let read = self.inner.read_table(declaration.name(), table);
        self.inner.call(declaration.name(), read).boxed()
    }
}
