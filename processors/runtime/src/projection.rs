//! What a projection is.
//!
//! ```
//! use conveyor_processors::{
//!     ApplyError, ColumnType, Declaration, Projection, RowKey, Rows, Source, Table,
//! };
//!
//! struct StockMoved {
//!     sku: String,
//!     quantity: i64,
//! }
//!
//! /// How much of each sku there is.
//! struct StockOnHand;
//!
//! impl Projection for StockOnHand {
//!     type Event = StockMoved;
//!
//!     fn declaration(&self) -> Declaration {
//!         let stock = Table::new("stock_on_hand", &[("sku", ColumnType::Text)])
//!             .column("on_hand", ColumnType::Integer)
//!             .column("as_of", ColumnType::Timestamp);
//!         Declaration::new("stock_on_hand", 1).source("inventory-events").table(stock)
//!     }
//!
//!     fn touches(&self, event: &StockMoved, _source: &Source) -> Vec<RowKey> {
//!         vec![RowKey::new("stock_on_hand", &event.sku)]
//!     }
//!
//!     fn apply(
//!         &self,
//!         event: &StockMoved,
//!         source: &Source,
//!         rows: &mut Rows,
//!     ) -> Result<(), ApplyError> {
//!         let row = rows.edit(&RowKey::new("stock_on_hand", &event.sku))?;
//!         row.increment("on_hand", event.quantity);
//!         if row.integer("on_hand") < 0 {
//!             return Err(ApplyError::record(format!("stock of {} below zero", event.sku)));
//!         }
//!         row.set("as_of", conveyor_processors::Value::timestamp_ms(source.timestamp_ms));
//!         Ok(())
//!     }
//! }
//! # let mut fold = conveyor_processors::Fold::new(&StockOnHand);
//! # let source = Source { topic: "inventory-events".into(), partition: 0, offset: 7.into(), timestamp_ms: 1 };
//! # fold.apply(&StockMoved { sku: "A".into(), quantity: 3 }, &source).unwrap();
//! # assert!(fold.apply(&StockMoved { sku: "A".into(), quantity: -9 }, &source).is_err());
//! # assert_eq!(fold.row(&RowKey::new("stock_on_hand", "A")).unwrap().integer("on_hand"), 3);
//! ```

use std::sync::Arc;

use crate::build::BuildName;
use crate::record::Source;
use crate::rows::Rows;
use crate::table::{RowKey, Table};
use crate::timers::{Timer, TimerRules};

/// A read model as a pure fold of events: no clock, no network, no memory of its own.
///
/// The runtime calls [`touches`](Self::touches), loads those rows in the store's transaction, and
/// calls [`apply`](Self::apply) for each record once, in offset order within a partition. Records of
/// different partitions come in any order, so a projection of several topics must come to the same
/// rows whatever the order (a stage that has been passed is not gone back to).
pub trait Projection: Send + Sync + 'static {
    /// What it reads; the decoder's output.
    type Event: Send + Sync + 'static;

    /// Its name, version, topics and tables. Always the same for one version of the code.
    fn declaration(&self) -> Declaration;

    /// The rows that this event reads or writes, as far as the event tells. None: the event does not
    /// matter here, and `apply` is not called.
    ///
    /// A row whose name stands in another row need not be named: `apply` may ask for it, hands on the
    /// error that it gets ([`ApplyError::NotNamed`]), and is called anew with that row loaded. That
    /// costs the batch another transaction, so name here what can be named, and ask for several at
    /// once ([`Rows::ask`]).
    fn touches(&self, event: &Self::Event, source: &Source) -> Vec<RowKey>;

    /// Does to the rows what the event says. On an error nothing of what it did to `rows` is kept,
    /// and the record goes to `error-events`.
    fn apply(
        &self,
        event: &Self::Event,
        source: &Source,
        rows: &mut Rows,
    ) -> Result<(), ApplyError>;

    /// Does to the rows what it means that a timer has passed ([`Declaration::timers`]). The timer is
    /// gone by now; it may be set anew. Rows are asked for as in `apply`. After an error of the
    /// record's kind nothing of what it did is kept, and the timer is gone all the same.
    fn fire(&self, timer: &Timer, rows: &mut Rows) -> Result<(), ApplyError> {
        let _ = (timer, rows);
        Ok(())
    }
}

/// What the runtime and the store need to know about a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    name: &'static str,
    version: u32,
    sources: Vec<&'static str>,
    tables: Vec<Arc<Table>>,
    timers: Option<TimerRules>,
    /// `None`: the live build.
    build: Option<BuildName>,
}

impl Declaration {
    /// A projection with no topics and no tables yet. `version` grows whenever the same events
    /// would make other rows, or the tables change.
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self {
            name,
            version,
            sources: Vec::new(),
            tables: Vec::new(),
            timers: None,
            build: None,
        }
    }

    /// Adds a topic to read.
    #[must_use]
    pub fn source(mut self, topic: &'static str) -> Self {
        self.sources.push(topic);
        self
    }

    /// Adds topics to read.
    #[must_use]
    pub fn sources_of(mut self, topics: &[&'static str]) -> Self {
        self.sources.extend_from_slice(topics);
        self
    }

    /// Adds a table to fill.
    ///
    /// # Panics
    /// If there is a table of that name already, or what its rows and lists are called in stores could
    /// be taken for those of another.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        assert!(
            self.find_table(table.name()).is_none(),
            "two tables are named {}",
            table.name()
        );
        let clash = self.tables.iter().find(|known| known.names_clash(&table));
        assert!(
            clash.is_none() && !table.clashes_with_itself(),
            "rows or lists of table {} could have the names of those of {}",
            table.name(),
            clash.map_or("its own", |known| known.name())
        );
        let table = match &self.build {
            Some(build) => {
                let stored = build.stored_table(table.name());
                table.stored_as(stored)
            }
            None => table,
        };
        self.tables.push(Arc::new(table));
        self
    }

    /// Lets the projection set timers, kept in two further tables.
    ///
    /// # Panics
    /// If it may already, or a table has one of their names.
    #[must_use]
    pub fn timers(mut self, rules: TimerRules) -> Self {
        assert!(self.timers.is_none(), "{} has timers twice", self.name);
        self = self.table(rules.timer_table()).table(rules.clock_table());
        self.timers = Some(rules);
        self
    }

    /// How it uses timers, if it does.
    pub const fn timer_rules(&self) -> Option<&TimerRules> {
        self.timers.as_ref()
    }

    /// The same projection, to fill a build that is not the live one.
    ///
    /// # Panics
    /// If it is the build of another projection.
    #[must_use]
    pub fn as_build(mut self, build: &BuildName) -> Self {
        assert!(
            build.projection() == self.name,
            "{build} is no build of {}",
            self.name
        );
        let stored = |table: &Arc<Table>| {
            let name = build.stored_table(table.name());
            Arc::new(Table::clone(table).stored_as(name))
        };
        self.tables = self.tables.iter().map(stored).collect();
        self.build = Some(build.clone());
        self
    }

    /// The name, unique among the projections of a store. Also names the consumer group.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The build that it fills; `None`: the live one.
    pub const fn build(&self) -> Option<&BuildName> {
        self.build.as_ref()
    }

    /// What the store calls it: its name, or that of its build.
    pub fn stored_name(&self) -> &str {
        self.build.as_ref().map_or(self.name, BuildName::as_str)
    }

    /// The version.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The topics it reads.
    pub fn sources(&self) -> &[&'static str] {
        &self.sources
    }

    /// The tables it fills.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// A table by name.
    pub fn find_table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.name() == name)
    }

    /// Whether all these rows are of tables that it fills.
    pub(crate) fn declares(&self, keys: &[RowKey]) -> bool {
        keys.iter().all(|key| self.find_table(key.table).is_some())
    }

    /// The group that its instances read as: the name in the store, so that those who fill a build
    /// are a group of their own.
    pub fn group_id(&self) -> &str {
        self.stored_name()
    }
}

/// Why an event could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// This record is at fault: it goes to `error-events`, the others go on.
    #[error("{reason}")]
    Record {
        /// What is wrong with it, for people.
        reason: String,
    },
    /// Rows have not been loaded, since [`Projection::touches`] did not name them: the runtime loads
    /// them and applies the event again. If one is of a table that is not declared, the projection is
    /// at fault and stops.
    #[error("projection asked for {}, which it did not name before", names(keys))]
    NotNamed {
        /// The rows asked for; never empty.
        keys: Vec<RowKey>,
    },
}

impl ApplyError {
    /// The record is at fault.
    pub fn record(reason: impl Into<String>) -> Self {
        Self::Record {
            reason: reason.into(),
        }
    }
}

fn names(keys: &[RowKey]) -> String {
    let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
    names.join(", ")
}
