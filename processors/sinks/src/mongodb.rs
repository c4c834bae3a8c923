//! Documents in `MongoDB` 4.4 or later.
//!
//! * A document named by its place in the log is inserted: one that is there already is done.
//! * A document named by key or field is replaced by an update that looks at the stored document's
//!   own origin first: within a partition an older record never replaces a younger one, whoever
//!   writes it, however late. The last record of another partition replaces it always.
//! * A deleted document stays, without its fields and with a time in [`DELETED`], until a TTL index
//!   takes it away: so a late writer finds it and cannot bring an old document back. Leave such
//!   documents out of queries (`{_deleted: null}`), or set `deleted_kept_s = 0`: then they are deleted
//!   at once, and a writer that was frozen meanwhile might bring one back.
//!
//! Commands go as they are (`insert`, `update`, `delete`), unordered: one bad document does not stop
//! the others. Writes wait for a majority and its journals, unless the URL says otherwise.

mod bson;
mod failure;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conveyor_processors::DecodeError;
use conveyor_processors::store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::bson::{Bson, DateTime, Document as BsonDocument, doc, serialize_to_bson};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Database};
use parking_lot::Mutex;

use self::failure::{Refused, sort};
use crate::document::{Document, ORIGIN, Place};
use crate::documents::{DocumentWriter, Outcome};
use crate::settings::MongodbSettings;

/// The field that says when a document was deleted.
pub const DELETED: &str = "_deleted";

/// How long to look for a server before it counts as away, if the URL does not say.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// The longest that one command may take before it is tried again.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// Documents of one command.
const DOCUMENTS_MAX: usize = 1_000;

/// Bytes of one command, by the size of the documents; a server takes 48 MB.
const BYTES_MAX: usize = 16 << 20;

/// The database, if the URL names none.
const DATABASE: &str = "conveyor";

/// Writes documents to one database.
#[derive(Debug)]
pub struct MongodbWriter {
    name: String,
    database: Database,
    place: Place,
    keyed: bool,
    deleted_kept_s: u32,
    /// Commands that go as they are take nothing from the client's settings.
    write_concern: Bson,
    /// Collections whose TTL index is there.
    indexed: Mutex<BTreeSet<String>>,
}

impl MongodbWriter {
    /// A writer; `keyed` says that documents are replaced by later records. A server that is away is
    /// no error.
    pub async fn open(settings: &MongodbSettings, keyed: bool) -> Result<Self, StoreError> {
        let name = format!("mongodb {}", settings.url.shown());
        let refused = |error: mongodb::error::Error| StoreError::Failed {
            store: name.clone(),
            reason: format!("mongodb.url is not understood: {}", error.kind),
        };
        let parsed = ClientOptions::parse(settings.url.as_str()).await;
        let mut options = parsed.map_err(refused)?;
        options
            .app_name
            .get_or_insert_with(|| "conveyor".to_owned());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        let write_concern = options.write_concern.get_or_insert_with(|| {
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build()
        });
        let write_concern =
            serialize_to_bson(write_concern).map_err(|error| refused(error.into()))?;
        let database = options.default_database.clone();
        let client = Client::with_options(options).map_err(refused)?;
        Ok(Self {
            database: client.database(database.as_deref().unwrap_or(DATABASE)),
            name,
            place: Place::new(settings.collection.as_str()),
            keyed,
            deleted_kept_s: settings.deleted_kept_s,
            write_concern,
            indexed: Mutex::default(),
        })
    }

    async fn command(&self, command: BsonDocument) -> Result<BsonDocument, mongodb::error::Error> {
        let running = self.database.run_command(command).into_future();
        match tokio::time::timeout(COMMAND_TIMEOUT, running).await {
            Ok(answer) => answer,
            Err(_) => Err(mongodb::error::Error::custom(format!(
                "no answer within {COMMAND_TIMEOUT:?}"
            ))),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = self.command(doc! { "ping": 1 }).await;
        // A ping is answered without a password; this is not.
        let answer = match answer {
            Ok(_) => {
                self.command(doc! { "listCollections": 1, "nameOnly": true })
                    .await
            }
            Err(error) => Err(error),
        };
        answer.map(drop).map_err(|error| sort(&error, &self.name))
    }

    async fn write_all(&self, documents: &[Document]) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = vec![Outcome::Done; documents.len()];
        let mut collections: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, document) in documents.iter().enumerate() {
            let place = self.place.of(document);
            collections.entry(place).or_default().push(index);
        }
        for (collection, indexes) in collections {
            self.ensure_index(&collection).await?;
            for run in self.runs(documents, &indexes, &mut outcomes) {
                self.write_run(&collection, run, &mut outcomes).await?;
            }
        }
        Ok(outcomes)
    }

    /// Deleted documents go by themselves in the end.
    async fn ensure_index(&self, collection: &str) -> Result<(), StoreError> {
        if !self.keyed || self.deleted_kept_s == 0 || self.indexed.lock().contains(collection) {
            return Ok(());
        }
        let command = doc! {
            "createIndexes": collection,
            "indexes": [{
                "key": { DELETED: 1 },
                "name": DELETED,
                "expireAfterSeconds": i64::from(self.deleted_kept_s),
            }],
        };
        match self.command(command).await {
            Ok(_) => {}
            Err(error) if failure::is_other_index(&error) => {
                tracing::warn!(
                    collection,
                    "the index {DELETED} has another time than deleted_kept_s: drop the index, and \
                     it is made anew"
                );
            }
            Err(error) => return Err(sort(&error, &self.name)),
        }
        self.indexed.lock().insert(collection.to_owned());
        Ok(())
    }

    /// Operations of one kind, as many as a command takes, in order.
    fn runs(
        &self,
        documents: &[Document],
        indexes: &[usize],
        outcomes: &mut [Outcome],
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for &index in indexes {
            let (kind, operation, bytes) = match self.operation(&documents[index]) {
                Ok(operation) => operation,
                Err(error) => {
                    outcomes[index] = Outcome::Rejected(error);
                    continue;
                }
            };
            let fits = |run: &&mut Run| {
                let room = run.operations.len() < DOCUMENTS_MAX && run.bytes + bytes <= BYTES_MAX;
                run.kind == kind && room
            };
            match runs.last_mut().filter(fits) {
                Some(run) => {
                    run.operations.push((index, operation));
                    run.bytes += bytes;
                }
                None => runs.push(Run {
                    kind,
                    operations: vec![(index, operation)],
                    bytes,
                }),
            }
        }
        runs
    }

    fn operation(&self, document: &Document) -> Result<(Kind, BsonDocument, usize), DecodeError> {
        let id = document.id.as_str();
        let stored = match &document.fields {
            Some(fields) => {
                let mut stored = doc! { "_id": id };
                for (name, value) in fields {
                    if name != "_id" {
                        stored.insert(name, bson::of(value)?);
                    }
                }
                stored
            }
            None if self.deleted_kept_s == 0 => {
                let filter = doc! { "_id": id, "$expr": is_older(document) };
                return Ok((Kind::Delete, doc! { "q": filter, "limit": 1 }, id.len()));
            }
            None => doc! { "_id": id, ORIGIN: origin(document), DELETED: DateTime::now() },
        };
        let bytes = bson::size(&stored)?;
        if !self.keyed {
            return Ok((Kind::Insert, stored, bytes));
        }
        let replace = doc! {
            "$replaceWith": { "$cond": [is_older(document), { "$literal": stored }, "$$ROOT"] }
        };
        let update = doc! { "q": { "_id": id }, "u": [replace], "upsert": true };
        Ok((Kind::Update, update, bytes))
    }

    /// One command. If the server refuses it as a whole, its halves, so that in the end one document
    /// is at fault.
    fn write_run<'a>(
        &'a self,
        collection: &'a str,
        run: Run,
        outcomes: &'a mut [Outcome],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let answer = match self
                .command(run.command(collection, &self.write_concern))
                .await
            {
                Ok(answer) => answer,
                Err(error) => return self.after_refusal(collection, run, &error, outcomes).await,
            };
            for refused in Refused::of(&answer) {
                let Some((index, _)) = run.operations.get(refused.index) else {
                    continue;
                };
                outcomes[*index] = refused.outcome(run.kind == Kind::Insert);
            }
            if let Some(reason) = failure::not_durable(&answer) {
                return Err(StoreError::Unavailable {
                    store: self.name.clone(),
                    reason,
                });
            }
            Ok(())
        }
        .boxed()
    }

    async fn after_refusal(
        &self,
        collection: &str,
        mut run: Run,
        error: &mongodb::error::Error,
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreError> {
        if !failure::blames_a_document(error) {
            return Err(sort(error, &self.name));
        }
        if let [(index, _)] = run.operations[..] {
            let reason = error.kind.to_string();
            outcomes[index] = Outcome::Rejected(DecodeError::new(failure::REFUSED, reason));
            return Ok(());
        }
        let half = Run {
            kind: run.kind,
            operations: run.operations.split_off(run.operations.len() / 2),
            bytes: 0,
        };
        self.write_run(collection, run, outcomes).await?;
        self.write_run(collection, half, outcomes).await
    }
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Delete,
}

/// What goes into one command: each with the index of its document.
struct Run {
    kind: Kind,
    operations: Vec<(usize, BsonDocument)>,
    bytes: usize,
}

impl Run {
    fn command(&self, collection: &str, write_concern: &Bson) -> BsonDocument {
        let operations = self.operations.iter();
        let operations: Vec<_> = operations.map(|(_, operation)| operation.clone()).collect();
        let (command, list) = match self.kind {
            Kind::Insert => ("insert", "documents"),
            Kind::Update => ("update", "updates"),
            Kind::Delete => ("delete", "deletes"),
        };
        doc! {
            command: collection,
            list: operations,
            "ordered": false,
            "writeConcern": write_concern.clone(),
        }
    }
}

/// As `document::ORIGIN` has it.
fn origin(document: &Document) -> BsonDocument {
    let source = &document.source;
    doc! {
        "topic": &*source.topic,
        "partition": i64::from(source.partition),
        "offset": source.offset.value(),
        "timestamp": source.timestamp_ms,
    }
}

/// An expression: the stored document is older than this one, or of another partition, or new.
fn is_older(document: &Document) -> BsonDocument {
    let source = &document.source;
    doc! { "$or": [
        { "$ne": ["$conveyor.topic", { "$literal": &*source.topic }] },
        { "$ne": ["$conveyor.partition", i64::from(source.partition)] },
        { "$lt": ["$conveyor.offset", source.offset.value()] },
    ] }
}

impl DocumentWriter for MongodbWriter {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ping().boxed()
    }

    fn write<'a>(
        &'a self,
        documents: &'a [Document],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        self.write_all(documents).boxed()
    }
}
