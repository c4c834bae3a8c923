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
        loop {
            match apply_one(self.projection, event, source, &mut self.rows) {
                Err(ApplyError::NotNamed { keys }) if self.declaration.declares(&keys) => {
                    for key in keys {
                        self.rows.load_absent(key);
                    }
                }
                settled => return settled,
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::value::ColumnType;

    /// Counts what happens in each room; an event names a person, and the person's row the room.
    struct Rooms;

    struct Moved(&'static str, Option<&'static str>);

    impl Projection for Rooms {
        type Event = Moved;

        fn declaration(&self) -> Declaration {
            let people = Table::new("person", &[("name", ColumnType::Text)])
                .column("room", ColumnType::Text)
                .column("events", ColumnType::Integer);
            let rooms = Table::new("room", &[("name", ColumnType::Text)])
                .column("events", ColumnType::Integer);
            Declaration::new("rooms", 1).table(people).table(rooms)
        }

        fn touches(&self, event: &Moved, _source: &Source) -> Vec<RowKey> {
            vec![RowKey::new("person", event.0)]
        }

        fn apply(
            &self,
            event: &Moved,
            _source: &Source,
            rows: &mut Rows,
        ) -> Result<(), ApplyError> {
            let person = rows.edit(&RowKey::new("person", event.0))?;
            person.increment("events", 1);
            if let Some(room) = event.1 {
                person.set("room", room);
            }
            let room = person.text("room").unwrap_or("hall").to_owned();
            let table = if room == "nowhere" {
                "undeclared"
            } else {
                "room"
            };
            rows.edit(&RowKey::new(table, room))?.increment("events", 1);
            Ok(())
        }
    }

    fn source() -> Source {
        Source {
            topic: "t".into(),
            partition: 0,
            offset: 0.into(),
            timestamp_ms: 0,
        }
    }

    #[test]
    fn a_row_that_another_row_names_is_loaded_and_the_event_is_applied_once() {
        let mut fold = Fold::new(&Rooms);
        for event in [
            Moved("ada", None),
            Moved("ada", Some("lab")),
            Moved("ada", None),
        ] {
            fold.apply(&event, &source()).unwrap();
        }
        let events = |table, name| {
            fold.row(&RowKey::new(table, name))
                .unwrap()
                .integer("events")
        };
        assert_eq!(events("person", "ada"), 3);
        assert_eq!((events("room", "hall"), events("room", "lab")), (1, 2));
    }

    #[test]
    fn a_row_of_a_table_that_is_not_declared_is_refused() {
        let mut fold = Fold::new(&Rooms);
        let refused = fold.apply(&Moved("ada", Some("nowhere")), &source());
        assert!(
            matches!(refused, Err(ApplyError::NotNamed { .. })),
            "{refused:?}"
        );
        assert!(fold.rows().is_empty());
    }
}
