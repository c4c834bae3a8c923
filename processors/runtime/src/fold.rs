//! The plain fold: events one after the other into rows in memory.
//!
//! This is what every store must equal. Tests of projections use it directly; tests of the runtime
//! compare with it.

use std::sync::Arc;

use crate::projection::{ApplyError, Declaration, Projection};
use crate::record::Source;
use crate::rows::Rows;
use crate::table::{Row, RowKey};

/// The rows of a projection, held in memory.
#[derive(Debug)]
pub struct Fold<'p, P: Projection> {
    projection: &'p P,
    declaration: Arc<Declaration>,
    rows: Rows,
}

impl<'p, P: Projection> Fold<'p, P> {
    /// No rows yet.
    pub fn new(projection: &'p P) -> Self {
        let declaration = Arc::new(projection.declaration());
        let rows = Rows::new(&declaration);
        Self {
            projection,
            declaration,
            rows,
        }
    }

    /// The projection's declaration.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Applies one event. After an error the rows are as before.
    pub fn apply(&mut self, event: &P::Event, source: &Source) -> Result<(), ApplyError> {
        let keys = self.projection.touches(event, source);
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            self.rows.load_absent(key);
        }
        apply_one(self.projection, event, source, &mut self.rows)
    }

    /// A row, if there is one.
    pub fn row(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key).ok().flatten()
    }

    /// All rows, in key order.
    pub fn rows(&self) -> Vec<(&RowKey, &Row)> {
        self.rows.all()
    }
}

/// One event on a working set: all of it or, on an error, nothing.
pub(crate) fn apply_one<P: Projection>(
    projection: &P,
    event: &P::Event,
    source: &Source,
    rows: &mut Rows,
) -> Result<(), ApplyError> {
    let result = projection.apply(event, source, rows);
    match result {
        Ok(()) => rows.accept(),
        Err(_) => rows.roll_back(),
    }
    result
}
