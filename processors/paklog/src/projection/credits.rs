//! Sums by warehouse and time, from events of which many do not say the warehouse.
//!
//! Such an event belongs to an order (or a task, or a session): its *scope*. What it adds is counted
//! under warehouse `-` and noted in the scope's row; as soon as any event says the scope's warehouse,
//! what was noted moves there, and later events of the scope are counted there at once. So nothing is
//! hidden meanwhile, and in the end the sums are the same in whatever order events were read: each
//! credit stands under its scope's warehouse, or under `-` if nobody ever says one.
//!
//! A scope is of one warehouse: the first that is said stays. Events that say their own warehouse are
//! counted there in any case.

use std::collections::BTreeMap;

use conveyor_processors::table::Row;
use conveyor_processors::{ApplyError, ColumnType, KeyPart, RowKey, Rows, Table, Value};
use serde::{Deserialize, Serialize};

use super::facts::{NOT_SAID, window_start};

/// The tables of a projection that sums by warehouse, and their columns.
#[derive(Debug)]
pub(super) struct Board {
    /// The sums: by warehouse, by worker if `by_worker`, by window.
    pub(super) table: &'static str,
    /// The scopes.
    pub(super) scopes: &'static str,
    /// Key column of the window's start, in ms; the same with the type of a moment.
    pub(super) window: (&'static str, &'static str),
    /// Width of a window.
    pub(super) width_ms: i64,
    /// Whether there are rows for each worker.
    pub(super) by_worker: bool,
    /// The sums.
    pub(super) counters: &'static [&'static str],
    /// Computes what follows from the sums.
    pub(super) conclude: fn(&mut Row),
}

/// What an event adds to a sum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Credit {
    /// Who did it; empty where rows are not by worker.
    worker: String,
    /// Start of the window.
    window_ms: i64,
    /// The sum's column.
    column: String,
}

/// What an event says: where it belongs, and what it adds there.
#[derive(Debug, Default)]
pub(super) struct Entry<'e> {
    /// The warehouse, if the event says it.
    pub(super) warehouse: Option<&'e str>,
    /// The scope that it belongs to.
    pub(super) scope: Option<&'e str>,
    /// Further scopes that are of its warehouse: the orders of a wave.
    pub(super) kin: Vec<&'e str>,
    /// What it adds; sums that it does not change may be given with 0.
    pub(super) adds: Adds,
}

/// Sums, and what to add to them.
pub(super) type Adds = Vec<(&'static str, i64)>;

type Credits = BTreeMap<Credit, i64>;

impl<'e> Entry<'e> {
    /// The scopes that it names; kin only counts if it says their warehouse.
    fn scopes(&self) -> impl Iterator<Item = &'e str> {
        let kin = match self.warehouse {
            Some(_) => self.kin.as_slice(),
            None => &[],
        };
        self.scope.into_iter().chain(kin.to_vec())
    }
}

impl Board {
    /// The table of the sums, without what follows from them.
    pub(super) fn sums(&self) -> Table {
        let mut key = vec![("wh", ColumnType::Text)];
        if self.by_worker {
            key.push(("worker", ColumnType::Text));
        }
        key.push((self.window.0, ColumnType::Integer));
        let table = Table::new(self.table, &key).column(self.window.1, ColumnType::Timestamp);
        let counters = self.counters.iter();
        counters
            .fold(table, |table, counter| {
                table.column(counter, ColumnType::Integer)
            })
            .index(self.window.1)
    }

    /// The table of the scopes.
    pub(super) fn scopes(&self) -> Table {
        Table::new(self.scopes, &[("scope", ColumnType::Text)])
            .column("warehouse_id", ColumnType::Text)
            .column("noted", ColumnType::Json)
    }

    /// The rows that an entry touches, as far as it tells.
    pub(super) fn touches(&self, entry: &Entry<'_>, worker: &str, at_ms: i64) -> Vec<RowKey> {
        let scopes = entry.scopes().map(|scope| self.scope_key(scope));
        let mut keys: Vec<_> = scopes.collect();
        let counts = entry.adds.iter().any(|(_, by)| *by != 0);
        if counts && (entry.warehouse.is_some() || entry.scope.is_none()) {
            let warehouse = entry.warehouse.unwrap_or(NOT_SAID);
            keys.push(self.sum_key(warehouse, worker, window_start(at_ms, self.width_ms)));
        }
        keys
    }

    /// Counts an entry.
    pub(super) fn count(
        &self,
        rows: &mut Rows,
        entry: &Entry<'_>,
        worker: &str,
        at_ms: i64,
    ) -> Result<(), ApplyError> {
        let window_ms = window_start(at_ms, self.width_ms);
        let added = self.credits(entry, worker, window_ms);
        if let Some(warehouse) = entry.warehouse {
            let noted = self.learn(rows, entry, warehouse)?;
            let here = noted.keys().chain(added.keys());
            let here = here.map(|credit| self.key_of(warehouse, credit));
            let there = noted.keys().map(|credit| self.key_of(NOT_SAID, credit));
            rows.ask(here.chain(there))?;
            self.add(rows, NOT_SAID, &noted, -1)?;
            self.add(rows, warehouse, &noted, 1)?;
            return self.add(rows, warehouse, &added, 1);
        }
        let Some(scope) = entry.scope else {
            return self.add(rows, NOT_SAID, &added, 1);
        };
        if added.is_empty() {
            return Ok(());
        }
        let row = rows.edit(&self.scope_key(scope))?;
        if let Some(warehouse) = row.text("warehouse_id").map(str::to_owned) {
            return self.add(rows, &warehouse, &added, 1);
        }
        let mut noted = noted_in(row)?;
        for (credit, by) in &added {
            *noted.entry(credit.clone()).or_default() += by;
        }
        row.set("noted", to_json(noted));
        self.add(rows, NOT_SAID, &added, 1)
    }

    /// Notes the warehouse of the entry's scopes; returns what was noted for want of it.
    fn learn(
        &self,
        rows: &mut Rows,
        entry: &Entry<'_>,
        warehouse: &str,
    ) -> Result<Credits, ApplyError> {
        let mut freed = Credits::new();
        for scope in entry.scopes() {
            let key = self.scope_key(scope);
            let known = rows.get(&key)?.and_then(|row| row.text("warehouse_id"));
            if known.is_some() {
                continue;
            }
            let row = rows.edit(&key)?;
            for (credit, by) in noted_in(row)? {
                *freed.entry(credit).or_default() += by;
            }
            row.set("warehouse_id", warehouse).set("noted", Value::Null);
        }
        Ok(freed)
    }

    /// Adds credits (`sign` 1) to a warehouse, or takes them away (-1). A row of nothing but zeroes
    /// is as if it had never been.
    fn add(
        &self,
        rows: &mut Rows,
        warehouse: &str,
        credits: &Credits,
        sign: i64,
    ) -> Result<(), ApplyError> {
        for (credit, by) in credits {
            let key = self.key_of(warehouse, credit);
            let Some(column) = self.counters.iter().find(|name| **name == credit.column) else {
                let reason = format!("the store has noted {credit:?}, which is no sum");
                return Err(ApplyError::record(reason));
            };
            let row = rows.edit(&key)?;
            row.set(self.window.1, Value::timestamp_ms(credit.window_ms))
                .increment(column, sign.saturating_mul(*by));
            (self.conclude)(row);
            if sign < 0 && self.counters.iter().all(|name| row.integer(name) == 0) {
                rows.delete(&key)?;
            }
        }
        Ok(())
    }

    fn credits(&self, entry: &Entry<'_>, worker: &str, window_ms: i64) -> Credits {
        let credit = |(column, by): &(&'static str, i64)| {
            let credit = Credit {
                worker: if self.by_worker { worker } else { "" }.to_owned(),
                window_ms,
                column: (*column).to_owned(),
            };
            (*by != 0).then_some((credit, *by))
        };
        entry.adds.iter().filter_map(credit).collect()
    }

    fn scope_key(&self, scope: &str) -> RowKey {
        RowKey::new(self.scopes, scope)
    }

    fn key_of(&self, warehouse: &str, credit: &Credit) -> RowKey {
        self.sum_key(warehouse, &credit.worker, credit.window_ms)
    }

    fn sum_key(&self, warehouse: &str, worker: &str, window_ms: i64) -> RowKey {
        let mut parts = vec![KeyPart::from(warehouse)];
        if self.by_worker {
            parts.push(KeyPart::from(worker));
        }
        parts.push(KeyPart::from(window_ms));
        RowKey::of(self.table, parts)
    }
}

fn noted_in(row: &Row) -> Result<Credits, ApplyError> {
    let Some(json) = row.json("noted") else {
        return Ok(Credits::new());
    };
    let noted: Vec<(Credit, i64)> = Deserialize::deserialize(json)
        .map_err(|error| ApplyError::record(format!("the store's noted credits: {error}")))?;
    Ok(noted.into_iter().collect())
}

fn to_json(credits: Credits) -> Value {
    let credit = |(credit, by): (Credit, i64)| {
        let Credit {
            worker,
            window_ms,
            column,
        } = credit;
        serde_json::json!([{ "worker": worker, "window_ms": window_ms, "column": column }, by])
    };
    Value::Json(credits.into_iter().map(credit).collect())
}
