//! Read models in `PostgreSQL` 12 or later, also behind a pooler.
//!
//! * **One transaction** holds a batch's rows and the positions after them. Rows travel as arrays: a
//!   batch is two round trips, whatever its size.
//! * **Fencing.** The transaction locks the rows of the position table, compares epoch and offset,
//!   and keeps the lock to its end. A new owner's claim waits for a transaction under way and sees
//!   what it wrote; an owner that was frozen in the middle of one loses it after 8 s, and is refused
//!   from then on.
//! * **Shared rows.** Instances that touch the same rows go one after the other, by advisory locks
//!   on 256 stripes of the projection's keys ([`stripes`]), which end with the transaction.
//! * **No session state**: statements have no names, settings and locks end with the transaction.
//! * **Days.** A table that asks for it is partitioned by day ([`days`]).
//! * **Own tables**, in the schema of the address: `_conveyor_layout`, `_conveyor_projections`,
//!   `_conveyor_tables`, `_conveyor_positions`.
//! * **Values.** Timestamps are `timestamptz`, JSON is `json` (kept to the letter; index it as
//!   `::jsonb` where queries need that), the rest as one would think. A NUL in text is stored as
//!   U+10FFFD and `0`.
//!
//! A connection that breaks between the commit and its answer leaves open whether it was written;
//! the next attempt looks ([`Doubts`]).

mod builds;
mod connection;
mod days;
mod positions;
mod rows;
mod schema;
mod settings;
mod statements;
mod text;
mod tls;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use conveyor_processors::build::{Build, BuildName, Builds};
use conveyor_processors::record::TopicPartition;
use conveyor_processors::rows::Rows;
use conveyor_processors::store::{Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{Change, Declaration, Row, RowKey, Table};
use deadpool_postgres::Pool;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio_postgres::types::Type;

use self::connection::{Failure, Transaction, lacks_a_day, lost_a_race, sort};
use self::days::Days;
use self::settings::Settings;
use self::statements::qualified;
use crate::address::without_password;
use crate::doubt::Doubts;
use crate::fence::{self, Held};
use crate::{declared, key_order, stripes};

/// Longest time for one call: a server that takes everything and answers nothing is away.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a transaction that lost against others is tried again before the driver hears of it.
const RACES_MAX: u32 = 10;

/// Statements sent without waiting for the answer of the first. They are polled, and so sent, in
/// order; more than 30 would not be.
const PIPELINE_MAX: usize = 16;

/// A store in one schema of a `PostgreSQL` database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// For people, without the password.
    name: String,
    schema: String,
    pool: Pool,
    doubts: Doubts,
    days: Days,
}

impl PostgresStore {
    /// A store at an address. Nothing is connected yet. To be called within a tokio runtime.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let name = format!("postgres {}", without_password(url));
        let failed = |reason| StoreError::Failed {
            store: name.clone(),
            reason,
        };
        let settings: Settings = url.parse().map_err(failed)?;
        let pool = connection::pool(&settings).map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                schema: settings.schema,
                pool,
                doubts: Doubts::default(),
                days: Days::default(),
            }),
        })
    }
}

impl Inner {
    /// Runs a call to its end or its time-out, and sorts its errors.
    async fn call<T>(
        &self,
        declaration: &Declaration,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        self.call_for(declaration.stored_name(), call).await
    }

    /// Runs a call that no declaration is needed for.
    async fn call_for<T>(
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

    async fn switch(&self, incoming: &BuildName) -> Result<(), Failure> {
        let tx = Transaction::on(&self.pool).await?;
        tx.begin().await?;
        builds::switch(&tx, &self.schema, incoming).await?;
        tx.commit().await
    }

    async fn drop_build(&self, build: &BuildName) -> Result<(), Failure> {
        let tx = Transaction::on(&self.pool).await?;
        tx.begin().await?;
        builds::drop_build(&tx, &self.schema, build).await?;
        tx.commit().await
    }

    async fn prepare(&self, declaration: &Declaration) -> Result<(), Failure> {
        let tx = Transaction::on(&self.pool).await?;
        tx.begin().await?;
        schema::prepare(&tx, &self.schema, declaration).await?;
        tx.commit().await
    }

    async fn claim(
        &self,
        declaration: &Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
        take_over: bool,
    ) -> Result<Vec<Position>, Failure> {
        let projection = declaration.stored_name();
        let partitions: Vec<_> = partitions.iter().collect();
        let tx = Transaction::on(&self.pool).await?;
        let (begun, locked, known, owned, held) = futures::join!(
            tx.begin(),
            schema::lock_shared(&tx, &self.schema),
            schema::check(&tx, &self.schema, declaration),
            positions::own(&tx, &self.schema, projection, &partitions, owner_epoch),
            positions::hold(&tx, &self.schema, projection, &partitions)
        );
        begun?;
        locked?;
        if !known? {
            return Err(Failure::Schema(declared::GONE.to_owned()));
        }
        owned?;
        let mut held = held?;
        fence::check_claim(projection, &held, owner_epoch, take_over)?;
        positions::give(&tx, &self.schema, projection, &partitions, owner_epoch).await?;
        tx.commit().await?;
        self.days.forget();
        for held in &mut held {
            held.owner_epoch = owner_epoch;
        }
        Ok(held.iter().filter_map(Held::position).collect())
    }

    /// Tries until the transaction loses no race.
    async fn transact(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let mut races = 0;
        loop {
            match self.transact_once(unit).await {
                Err(failure) if lost_a_race(&failure) && races < RACES_MAX => races += 1,
                Err(failure) if lacks_a_day(&failure) && races < RACES_MAX => {
                    self.days.forget();
                    races += 1;
                }
                settled => return settled,
            }
        }
    }

    async fn transact_once(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let projection = unit.declaration.stored_name();
        let tx = Transaction::on(&self.pool).await?;
        let days = self.days.missing(unit);
        if !days.is_empty() {
            self.make_days(&tx, unit, &days).await?;
        }
        // Who is no longer the owner hears that first: the tables may be those of another build now.
        let (held, found) = self.look(&tx, unit, days.is_empty()).await?;
        if self.doubts.settle(projection, &held, &unit.advances) {
            tx.roll_back().await?;
            return Ok(true);
        }
        fence::check(projection, &held, &unit.advances)?;
        let loaded = working_set(unit, found?);
        let Outcome::Commit(changes) = (unit.fold)(loaded) else {
            tx.roll_back().await?;
            return Ok(false);
        };
        self.doubts.note(projection, &unit.advances);
        self.write_and_commit(&tx, unit, &changes).await?;
        tx.ended();
        self.doubts.clear(projection);
        self.days.add(days);
        Ok(true)
    }

    /// Begins, and makes the partitions of some days if this is the owner; who is not hears so when it
    /// looks.
    async fn make_days(
        &self,
        tx: &Transaction,
        unit: &Unit,
        days: &BTreeSet<(String, i64)>,
    ) -> Result<(), Failure> {
        let (schema, projection) = (&self.schema, unit.declaration.stored_name());
        let partitions: Vec<_> = unit.advances.iter().map(|a| &a.topic_partition).collect();
        let owner_epoch = unit.advances[0].owner_epoch;
        tx.begin().await?;
        positions::own(tx, schema, projection, &partitions, owner_epoch).await?;
        let held = positions::hold(tx, schema, projection, &partitions).await?;
        if fence::check(projection, &held, &unit.advances).is_ok() {
            days::make(tx, schema, &unit.declaration, days).await?;
        }
        Ok(())
    }

    /// Begins, if that is still to be done, locks positions and stripes, and loads the rows: one round
    /// trip.
    async fn look(&self, tx: &Transaction, unit: &Unit, begins: bool) -> Result<Looked, Failure> {
        let projection = unit.declaration.stored_name();
        let partitions: Vec<_> = unit.advances.iter().map(|a| &a.topic_partition).collect();
        // Whoever writes without a claim makes its row here, and is the first or is refused.
        let owner_epoch = unit.advances[0].owner_epoch;
        let loads = keys_by_table(unit).into_iter().map(|(table, keys)| {
            let (tx, schema) = (tx, &self.schema);
            async move { rows::load(tx, schema, table, &keys).await }
        });
        let begin = async {
            if begins {
                return tx.begin().await;
            }
            Ok(())
        };
        let (begun, held, locked, loaded) = futures::join!(
            begin,
            positions::hold(tx, &self.schema, projection, &partitions),
            self.lock_rows(tx, unit),
            join_all(loads)
        );
        begun?;
        let mut held = held?;
        locked?;
        let loaded: Result<Vec<Vec<Row>>, Failure> = loaded.into_iter().collect();
        if held.len() < partitions.len() && loaded.is_ok() {
            positions::own(tx, &self.schema, projection, &partitions, owner_epoch).await?;
            held = positions::hold(tx, &self.schema, projection, &partitions).await?;
        }
        Ok((
            held,
            loaded.map(|tables| tables.into_iter().flatten().collect()),
        ))
    }

    async fn lock_rows(&self, tx: &Transaction, unit: &Unit) -> Result<(), Failure> {
        let stripes: Vec<_> = stripes::of(&unit.keys)
            .into_iter()
            .map(|s| s as i32)
            .collect();
        if stripes.is_empty() {
            return Ok(());
        }
        let name = format!("{}.{}", self.schema, unit.declaration.stored_name());
        let class = stripes::number_of(&name).cast_signed();
        tx.query_typed(
            "SELECT count(pg_advisory_xact_lock($1, s)) FROM unnest($2::int[]) AS s",
            &[(&class, Type::INT4), (&stripes, Type::INT4_ARRAY)],
        )
        .await?;
        Ok(())
    }

    /// Writes rows and positions and commits: one round trip for as much as one pipeline holds.
    async fn write_and_commit(
        &self,
        tx: &Transaction,
        unit: &Unit,
        changes: &[Change],
    ) -> Result<(), Failure> {
        let mut writes = Vec::new();
        for (table, changes) in changes_by_table(unit, changes)? {
            writes.extend(rows::writes(&self.schema, table, &changes));
        }
        let last = writes.len().saturating_sub(PIPELINE_MAX - 2);
        let (first, last) = writes.split_at(last);
        for group in first.chunks(PIPELINE_MAX) {
            for done in join_all(group.iter().map(|write| write.execute(tx))).await {
                done?;
            }
        }
        let projection = unit.declaration.stored_name();
        let (written, advanced, committed) = futures::join!(
            join_all(last.iter().map(|write| write.execute(tx))),
            positions::advance(tx, &self.schema, projection, &unit.advances),
            tx.batch_execute("COMMIT")
        );
        for done in written {
            done?;
        }
        advanced?;
        Ok(committed?)
    }
}

/// What is held, and the rows, unless they could not be read.
type Looked = (Vec<Held>, Result<Vec<Row>, Failure>);

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

fn keys_by_table(unit: &Unit) -> Vec<(&Arc<Table>, Vec<&RowKey>)> {
    let mut by_table: HashMap<&str, Vec<&RowKey>> = HashMap::new();
    for key in &unit.keys {
        by_table.entry(key.table).or_default().push(key);
    }
    let tables = unit.declaration.tables().iter();
    tables
        .filter_map(|table| Some((table, by_table.remove(table.name())?)))
        .collect()
}

type ChangesOfTable<'u> = (&'u Arc<Table>, Vec<&'u Change>);

fn changes_by_table<'u>(
    unit: &'u Unit,
    changes: &'u [Change],
) -> Result<Vec<ChangesOfTable<'u>>, Failure> {
    let mut by_table: HashMap<&str, Vec<&Change>> = HashMap::new();
    for change in changes {
        let table = match change {
            Change::Put(row) => row.table().name(),
            Change::Delete(key) => key.table,
        };
        by_table.entry(table).or_default().push(change);
    }
    let tables = unit.declaration.tables().iter();
    let sorted = tables
        .filter_map(|table| Some((table, by_table.remove(table.name())?)))
        .collect();
    match by_table.keys().next() {
        None => Ok(sorted),
        Some(table) => Err(Failure::Schema(format!(
            "it changes rows of table {table}, which it does not declare"
        ))),
    }
}

impl Store for PostgresStore {
    fn describe(&self) -> String {
        self.inner.name.clone()
    }

    fn prepare<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let prepared = self.inner.prepare(declaration);
        self.inner.call(declaration, prepared).boxed()
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
        self.inner.call(declaration, claimed).boxed()
    }

    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let declaration = Arc::clone(&unit.declaration);
            let written = self.inner.transact(&mut unit);
            self.inner.call(&declaration, written).await
        }
        .boxed()
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        let read = async {
            let client = self.inner.pool.get().await?;
            let (schema, name) = (&self.inner.schema, declaration.stored_name());
            if !schema::exists(&client, &qualified(schema, positions::TABLE)).await? {
                // Nobody has prepared it yet.
                return Ok(Vec::new());
            }
            let held = positions::read(&client, schema, name).await?;
            Ok(held.iter().filter_map(Held::position).collect())
        };
        self.inner.call(declaration, read).boxed()
    }

    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let read = async {
            let client = self.inner.pool.get().await?;
            let rows = rows::load_all(&client, &self.inner.schema, table).await?;
            Ok(key_order::sorted(rows))
        };
        self.inner.call(declaration, read).boxed()
    }
}

impl Builds for PostgresStore {
    fn builds(&self) -> BoxFuture<'_, Result<Vec<Build>, StoreError>> {
        let read = async {
            let client = self.inner.pool.get().await?;
            builds::all(&client, &self.inner.schema).await
        };
        self.inner.call_for("(all)", read).boxed()
    }

    fn switch<'a>(&'a self, incoming: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let switched = self.inner.switch(incoming);
        self.inner.call_for(incoming.projection(), switched).boxed()
    }

    fn drop_build<'a>(&'a self, build: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        let dropped = self.inner.drop_build(build);
        self.inner.call_for(build.as_str(), dropped).boxed()
    }
}
