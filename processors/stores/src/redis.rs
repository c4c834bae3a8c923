//! Read models in Redis 6.2 or later: one server, a cluster, or what sentinels name.
//!
//! * **One script** writes a batch's rows and the positions after them; Redis runs it as one step.
//!   A script before it has read positions and rows, and the fold has run here in between: the
//!   writing script first compares positions, epochs and the versions of all rows that were read, and
//!   writes nothing unless they are still the same. Then it is begun again.
//! * **Fencing** is part of that comparison: who lost a partition finds another epoch.
//! * **One hash slot** of a cluster for each projection: an event of any partition may touch any row of
//!   its projection, so all of them must be where one script reaches them. A cluster so spreads
//!   projections over its nodes, not the rows of one.
//! * **What Redis's durability bounds.** Rows and positions are written together and lost together,
//!   so the store always equals the fold up to its positions. How far it falls back when a server
//!   dies is the server's business: up to a second of writes with `appendfsync everysec`, what a
//!   replica had not received yet after a failover, everything without persistence. The log is then
//!   read again from the positions that are left; what retention has deleted from it meanwhile stays
//!   lost. A fenced owner stays fenced as far as the claim was kept; where it was not, its writes
//!   still follow on the position, so rows are never doubled.
//! * **Eviction** would throw rows away: a `maxmemory-policy` that evicts any key is refused.
//!
//! A row is a hash, `paklog:atp:SKU-1` ([`names`]); what a table lists by name is a set or a set in
//! order beside the rows, changed by the same script ([`lists`]); the set `paklog:@atp:rows:atp` names
//! the rows of a table. Values: [`rows`].

mod builds;
mod failure;
mod link;
mod lists;
mod names;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use conveyor_processors::build::{Build, BuildName, Builds};
use conveyor_processors::record::TopicPartition;
use conveyor_processors::rows::Rows;
use conveyor_processors::store::{Advance, Outcome, OwnerEpoch, Position, Store, StoreError, Unit};
use conveyor_processors::{Change, Declaration, Row, RowKey, Table};
use conveyor_record::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::Cmd;

use self::failure::{Failure, damaged, other_layout, refuse_eviction};
use self::link::{Address, Link};
use self::lists::{Entries, ListChanges, What, entries_of};
use self::names::{Names, RowNames, Space, field_of};
use self::rows::Found;
use crate::address::without_password;
use crate::declared;
use crate::doubt::Doubts;
use crate::fence::{self, Held};
use crate::key_order;

const CLAIM: &str = include_str!("redis/claim.lua");
const LOOK: &str = include_str!("redis/look.lua");
const WRITE: &str = include_str!("redis/write.lua");
const PREPARE: &str = include_str!("redis/prepare.lua");

/// Version of the names of keys, and of what is under those that begin with `@`.
const LAYOUT_VERSION: u32 = 2;

/// What a claim answers when the store holds another version.
const OTHER_DECLARATION: u8 = 2;

/// How often a transaction that lost against others is tried again before the driver hears of it.
/// One of those that race always wins.
const RACES_MAX: u32 = 100;

/// Redis takes a million arguments in one command.
const ARGUMENTS_MAX: usize = 1_000_000;

/// Rows of one command when a table is read.
const ROWS_PER_READ: usize = 500;

/// Where a new row build goes when the present one does not fit.
const ELSEWHERE: &str = "another place (prefix=NAME in the --store address)";

/// A store on Redis servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// For people, without the password.
    name: String,
    space: Space,
    link: Link,
    doubts: Doubts,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at an address. Nothing is connected yet.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let name = format!("redis {}", without_password(url));
        let address: Address = url.parse().map_err(|reason| StoreError::Failed {
            store: name.clone(),
            reason,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                space: Space::of(&address),
                link: Link::new(address),
                doubts: Doubts::default(),
            }),
        })
    }
}

/// A call of a script.
fn script(text: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

impl Inner {
    fn names(&self, declaration: &Declaration) -> Names {
        self.space.names(declaration)
    }

    /// Notes whose the first words of names are. Other keys than those of one projection: a cluster
    /// keeps them elsewhere.
    async fn take_stems(&self, declaration: &Declaration) -> Result<(), Failure> {
        for table in declaration.tables() {
            let lists = table.lists().iter().map(|list| list.pattern.clone());
            for pattern in lists.chain([table.row_name()]) {
                let (key, name) = (self.space.stems(), declaration.name());
                let (mut take, mut look) = (redis::cmd("HSETNX"), redis::cmd("HGET"));
                take.arg(&key).arg(pattern.stem()).arg(name);
                look.arg(&key).arg(pattern.stem());
                if self.link.query::<bool>(&take).await? {
                    continue;
                }
                let owner: Option<String> = self.link.query(&look).await?;
                if owner.as_deref() != Some(name) {
                    return Err(Failure::Schema(format!(
                        "what table {} calls {}:{}… belongs to {} already: take {ELSEWHERE}",
                        table.name(),
                        self.space.prefix,
                        pattern.stem(),
                        owner.as_deref().unwrap_or("somebody else")
                    )));
                }
            }
        }
        Ok(())
    }

    async fn prepare(&self, declaration: &Declaration) -> Result<(), Failure> {
        let names = self.names(declaration);
        let live = self.space.live(declaration.name());
        let keys = [
            names.declaration(),
            names.builds(),
            live.declaration(),
            live.declaration_of_layout_1().to_owned(),
        ];
        self.take_stems(declaration).await?;
        let mut command = script(PREPARE, &keys);
        command
            .arg(LAYOUT_VERSION)
            .arg(declaration.version())
            .arg(declared::text_of(declaration))
            .arg(declared::tag_of(declaration))
            .arg(declaration.stored_name());
        type Answer = ((u32, u32, String), bool, bool, String);
        let ((layout, version, text), dropping, is_live, memory): Answer =
            self.link.query(&command).await?;
        match declaration.build() {
            Some(build) if is_live => return Err(Failure::Schema(declared::is_live(build))),
            Some(build) if dropping => return Err(Failure::Schema(declared::is_dropped(build))),
            _ => {}
        }
        let mut command = redis::cmd("SADD");
        command
            .arg(self.space.projections())
            .arg(declaration.name());
        self.link.query::<()>(&command).await?;
        if layout != LAYOUT_VERSION {
            return Err(Failure::Schema(other_layout(
                layout,
                declaration.name(),
                &live,
            )));
        }
        refuse_eviction(&memory)?;
        declared::check(declaration, version, &text, ELSEWHERE).map_err(Failure::Schema)
    }

    async fn claim(
        &self,
        declaration: &Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &[TopicPartition],
        take_over: bool,
    ) -> Result<Vec<Position>, Failure> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let names = self.names(declaration);
        let mut command = script(CLAIM, &[names.positions(), names.declaration()]);
        command
            .arg(owner_epoch.0)
            .arg(i32::from(take_over))
            .arg(declaration.version())
            .arg(declared::text_of(declaration));
        for partition in partitions {
            command.arg(field_of(partition));
        }
        let (claimed, stored): (u8, Vec<Option<String>>) = self.link.query(&command).await?;
        if claimed == OTHER_DECLARATION {
            // It says what differs; if nothing does any more, it has just been made.
            self.prepare(declaration).await?;
            return Err(Failure::Schema(declared::GONE.to_owned()));
        }
        let mut held = held_of(partitions.iter().cloned(), &stored)?;
        if claimed == 0 {
            fence::check_claim(declaration.stored_name(), &held, owner_epoch, take_over)?;
        }
        for held in &mut held {
            held.owner_epoch = owner_epoch;
        }
        let mut positions: Vec<_> = held.iter().filter_map(Held::position).collect();
        positions.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
        Ok(positions)
    }

    async fn transact(&self, unit: &mut Unit) -> Result<bool, Failure> {
        let projection = unit.declaration.stored_name();
        for _ in 0..RACES_MAX {
            let (held, found) = self.look(unit).await?;
            if self.doubts.settle(projection, &held, &unit.advances) {
                return Ok(true);
            }
            fence::check(projection, &held, &unit.advances)?;
            let versions: Vec<_> = found.iter().map(|found| found.version.clone()).collect();
            let (loaded, listed) = working_set(unit, found)?;
            let Outcome::Commit(changes) = (unit.fold)(loaded) else {
                return Ok(false);
            };
            let command = self.write(unit, &versions, &changes, listed)?;
            self.doubts.note(projection, &unit.advances);
            if self.link.query::<bool>(&command).await? {
                self.doubts.clear(projection);
                return Ok(true);
            }
            // Something is not as read. It may be our own work: a cluster's client sends a command
            // again when a connection breaks.
        }
        Err(Failure::Store(StoreError::Unavailable {
            store: self.name.clone(),
            reason: format!("other instances changed the same rows {RACES_MAX} times in a row"),
        }))
    }

    /// Reads positions and rows.
    async fn look(&self, unit: &Unit) -> Result<(Vec<Held>, Vec<Found>), Failure> {
        let names = self.names(&unit.declaration);
        let rows = row_keys(&names, unit)?;
        let keys: Vec<_> = std::iter::once(names.positions()).chain(rows).collect();
        let mut command = script(LOOK, &keys);
        for advance in &unit.advances {
            command.arg(field_of(&advance.topic_partition));
        }
        type Answer = (Vec<Option<String>>, Vec<HashMap<String, Vec<u8>>>);
        let (stored, rows): Answer = self.link.query(&command).await?;
        let partitions = unit.advances.iter().map(|a| a.topic_partition.clone());
        let held = held_of(partitions, &stored)?;
        Ok((held, rows.into_iter().map(Found::new).collect()))
    }

    /// The command that writes. `listed` says where the rows that were read are listed.
    fn write(
        &self,
        unit: &Unit,
        versions: &[Vec<u8>],
        changes: &[Change],
        mut listed: Vec<Entries>,
    ) -> Result<Cmd, Failure> {
        let names = self.names(&unit.declaration);
        let tables = unit.declaration.tables();
        let row_names: Vec<_> = tables
            .iter()
            .map(|table| RowNames::of(&unit.declaration, table))
            .collect();
        let numbers: HashMap<&RowKey, usize> = unit
            .keys
            .iter()
            .enumerate()
            .map(|(i, key)| (key, i))
            .collect();
        let (mut written, mut relisted) = (Arguments::default(), Vec::new());
        for change in changes {
            let (key, row) = match change {
                Change::Put(row) => (key_order::key_of(row), Some(row)),
                Change::Delete(key) => (key.clone(), None),
            };
            let number = numbers.get(&key);
            let table = tables.iter().position(|table| table.name() == key.table);
            let (Some(&number), Some(table)) = (number, table) else {
                return Err(Failure::Failed(format!(
                    "row {key} is written and was not read"
                )));
            };
            let fields = row.map(rows::to_fields).unwrap_or_default();
            written.add((number + 1).to_string());
            written.add((table + 1).to_string());
            written.add(row_names[table].name(&key));
            written.add(fields.len().to_string());
            for field in fields {
                written.add(field);
            }
            if !tables[table].lists().is_empty() {
                relisted.push((std::mem::take(&mut listed[number]), entries_of(row)));
            }
        }
        let lists = ListChanges::between(&relisted);

        let mut keys = vec![names.positions(), names.versions(), names.lists()];
        keys.extend(tables.iter().map(|table| names.rows(table.name())));
        keys.extend(row_keys(&names, unit)?);
        keys.extend(lists.lists.iter().map(|(name, _)| names.key(name)));
        let mut arguments = Arguments::default();
        arguments.add(tables.len().to_string());
        arguments.add(lists.lists.len().to_string());
        for (name, in_order) in &lists.lists {
            arguments.add(name.as_bytes());
            arguments.add(if *in_order { "z" } else { "s" });
        }
        arguments.add(unit.advances.len().to_string());
        for advance in &unit.advances {
            arguments.add(field_of(&advance.topic_partition));
            arguments.add(offset_text(advance));
            arguments.add(advance.to.value().to_string());
            arguments.add(advance.owner_epoch.0.to_string());
        }
        for version in versions {
            arguments.add(version.clone());
        }
        arguments.add(changes.len().to_string());
        arguments.0.append(&mut written.0);
        for step in lists.steps {
            arguments.add((step.list + 1).to_string());
            arguments.add(step.member);
            arguments.add(match step.what {
                What::Remove => "-".to_owned(),
                What::Add => "+".to_owned(),
                What::AddAt(score) => score.to_string(),
            });
        }
        let count = keys.len() + arguments.0.len();
        if count > ARGUMENTS_MAX {
            return Err(Failure::Failed(format!(
                "a batch has {count} keys and values and Redis takes {ARGUMENTS_MAX} in one script: \
                 read fewer records at a time"
            )));
        }
        let mut command = script(WRITE, &keys);
        command.arg(arguments.0);
        Ok(command)
    }

    async fn positions(&self, declaration: &Declaration) -> Result<Vec<Position>, Failure> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names(declaration).positions());
        let stored: HashMap<String, String> = self.link.query(&command).await?;
        builds::positions_of(stored)
    }

    async fn read_table(
        &self,
        declaration: &Declaration,
        table: &Arc<Table>,
    ) -> Result<Vec<Row>, Failure> {
        let names = self.names(declaration);
        let mut command = redis::cmd("SMEMBERS");
        command.arg(names.rows(table.name()));
        let members: Vec<String> = self.link.query(&command).await?;
        let mut read = Vec::with_capacity(members.len());
        for members in members.chunks(ROWS_PER_READ) {
            let rows = members.iter().map(|name| names.key(name));
            let keys: Vec<_> = std::iter::once(names.positions()).chain(rows).collect();
            let (_, rows): (Vec<String>, Vec<HashMap<String, Vec<u8>>>) =
                self.link.query(&script(LOOK, &keys)).await?;
            for row in rows {
                read.extend(
                    Found::new(row).into_row(table).map_err(|what| {
                        damaged(&format!("a row of {} has {what}", table.name()))
                    })?,
                );
            }
        }
        Ok(key_order::sorted(read))
    }
}

/// Arguments of a script.
#[derive(Default)]
struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    fn add(&mut self, argument: impl Into<Vec<u8>>) {
        self.0.push(argument.into());
    }
}

fn offset_text(advance: &Advance) -> String {
    advance
        .from
        .map_or_else(|| "-".to_owned(), |from| from.value().to_string())
}

/// `12 3`: at offset 12, owned in epoch 3; `- 3`: nothing yet.
fn held_of(
    partitions: impl Iterator<Item = TopicPartition>,
    stored: &[Option<String>],
) -> Result<Vec<Held>, Failure> {
    let mut all = Vec::new();
    for (topic_partition, stored) in partitions.zip(stored) {
        let Some(stored) = stored else { continue };
        let parsed = stored.split_once(' ').and_then(|(offset, epoch)| {
            let next_offset = match offset {
                "-" => None,
                number => Some(Offset(number.parse().ok()?)),
            };
            Some((next_offset, OwnerEpoch(epoch.parse().ok()?)))
        });
        let (next_offset, owner_epoch) = parsed.ok_or_else(|| damaged(stored))?;
        all.push(Held {
            topic_partition,
            next_offset,
            owner_epoch,
        });
    }
    Ok(all)
}

fn table_of<'u>(unit: &'u Unit, key: &RowKey) -> Result<&'u Arc<Table>, Failure> {
    let table = unit.declaration.find_table(key.table);
    table.ok_or_else(|| Failure::Failed(format!("row {key} is of a table that is not declared")))
}

/// The keys of the rows of a unit.
fn row_keys(names: &Names, unit: &Unit) -> Result<Vec<String>, Failure> {
    let declaration = &unit.declaration;
    let tables = declaration.tables().iter();
    let known: HashMap<&str, RowNames> = tables
        .map(|table| (table.name(), RowNames::of(declaration, table)))
        .collect();
    let row = |key: &RowKey| {
        table_of(unit, key)?;
        Ok(names.key(&known[key.table].name(key)))
    };
    unit.keys.iter().map(row).collect()
}

/// What the fold is given, and where each row that was read is listed.
fn working_set(unit: &Unit, found: Vec<Found>) -> Result<(Rows, Vec<Entries>), Failure> {
    let mut loaded = Rows::new(&unit.declaration);
    let mut listed = Vec::with_capacity(found.len());
    for (key, found) in unit.keys.iter().zip(found) {
        let table = table_of(unit, key)?;
        let row = found
            .into_row(table)
            .map_err(|what| damaged(&format!("row {key} has {what}")))?;
        listed.push(entries_of(row.as_ref()));
        loaded.load(key.clone(), row);
    }
    Ok((loaded, listed))
}

impl Store for RedisStore {
    fn describe(&self) -> String {
        self.inner.name.clone()
    }

    fn prepare<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let prepared = self.inner.prepare(declaration).await;
            prepared.map_err(|failure| {
                failure::sort(failure, &self.inner.name, declaration.stored_name())
            })
        }
        .boxed()
    }

    fn claim<'a>(
        &'a self,
        declaration: &'a Declaration,
        owner_epoch: OwnerEpoch,
        partitions: &'a [TopicPartition],
        take_over: bool,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        async move {
            let claimed = self
                .inner
                .claim(declaration, owner_epoch, partitions, take_over)
                .await;
            claimed.map_err(|failure| {
                failure::sort(failure, &self.inner.name, declaration.stored_name())
            })
        }
        .boxed()
    }

    fn transact(&self, mut unit: Unit) -> BoxFuture<'_, Result<bool, StoreError>> {
        async move {
            let declaration = Arc::clone(&unit.declaration);
            let written = self.inner.transact(&mut unit).await;
            written.map_err(|failure| {
                failure::sort(failure, &self.inner.name, declaration.stored_name())
            })
        }
        .boxed()
    }

    fn positions<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Vec<Position>, StoreError>> {
        async move {
            let read = self.inner.positions(declaration).await;
            read.map_err(|failure| {
                failure::sort(failure, &self.inner.name, declaration.stored_name())
            })
        }
        .boxed()
    }

    fn read_table<'a>(
        &'a self,
        declaration: &'a Declaration,
        table: &'a Arc<Table>,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        async move {
            let read = self.inner.read_table(declaration, table).await;
            read.map_err(|failure| {
                failure::sort(failure, &self.inner.name, declaration.stored_name())
            })
        }
        .boxed()
    }
}

impl Builds for RedisStore {
    fn builds(&self) -> BoxFuture<'_, Result<Vec<Build>, StoreError>> {
        async move {
            let read = self.inner.builds().await;
            read.map_err(|failure| failure::sort(failure, &self.inner.name, "(all)"))
        }
        .boxed()
    }

    fn switch<'a>(&'a self, incoming: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let switched = self.inner.switch(incoming).await;
            switched
                .map_err(|failure| failure::sort(failure, &self.inner.name, incoming.projection()))
        }
        .boxed()
    }

    fn drop_build<'a>(&'a self, build: &'a BuildName) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let dropped = self.inner.drop_build(build).await;
            dropped.map_err(|failure| failure::sort(failure, &self.inner.name, build.as_str()))
        }
        .boxed()
    }
}
