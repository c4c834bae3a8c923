//! Rows of a table, and their keys.
//!
//! Invariants: a row has one value for each column of its table, in the table's order; a value fits
//! its column; key columns are never null. Naming a column that the table does not declare, or
//! giving it a value of another type, is a mistake in the projection, not in an event: it panics,
//! and the projection's first test shows it.

use std::fmt;
use std::sync::Arc;

use super::Table;
use crate::value::{KeyPart, Value};

/// The name of a row: its table and the values of its key columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Name of the table.
    pub table: &'static str,
    /// One part for each key column.
    pub parts: Box<[KeyPart]>,
}

impl RowKey {
    /// A key of a table with one key column; the parts are checked when the row is first asked for.
    pub fn new(table: &'static str, part: impl Into<KeyPart>) -> Self {
        Self {
            table,
            parts: Box::new([part.into()]),
        }
    }

    /// A key of several parts; they are checked when the row is first asked for.
    pub fn of(table: &'static str, parts: impl IntoIterator<Item = KeyPart>) -> Self {
        Self {
            table,
            parts: parts.into_iter().collect(),
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table)?;
        for part in &self.parts {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

/// A row: a value for each column.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    table: Arc<Table>,
    values: Vec<Value>,
}

impl Row {
    /// A new row: its key, and [`Value::initial`] everywhere else.
    ///
    /// # Panics
    /// If the key does not fit the table.
    pub fn new(table: &Arc<Table>, key: &RowKey) -> Self {
        table.assert_key(&key.parts);
        let rest = table.columns[table.key_len..]
            .iter()
            .map(|c| Value::initial(c.column_type));
        let values = key.parts.iter().map(Value::from).chain(rest).collect();
        Self {
            table: Arc::clone(table),
            values,
        }
    }

    /// A row as a store read it; `None` when the values do not fit the table.
    pub fn from_values(table: &Arc<Table>, values: Vec<Value>) -> Option<Self> {
        let fits = values.len() == table.columns.len()
            && values
                .iter()
                .zip(&table.columns)
                .all(|(v, c)| v.fits(c.column_type))
            && values[..table.key_len].iter().all(|v| *v != Value::Null);
        fits.then(|| Self {
            table: Arc::clone(table),
            values,
        })
    }

    /// The table it belongs to.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// All values, in the order of the table's columns.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// One value.
    ///
    /// # Panics
    /// If the table has no such column.
    pub fn get(&self, column: &str) -> &Value {
        &self.values[self.index_of(column)]
    }

    /// Text, if there is any.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.get(column) {
            Value::Text(text) => Some(text),
            Value::Null => None,
            other => self.wrong_type(column, other),
        }
    }

    /// A number; 0 where there is none.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn integer(&self, column: &str) -> i64 {
        match self.get(column) {
            Value::Integer(number) => *number,
            Value::Null => 0,
            other => self.wrong_type(column, other),
        }
    }

    /// A float; 0 where there is none.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn real(&self, column: &str) -> f64 {
        match self.get(column) {
            Value::Real(number) => *number,
            Value::Null => 0.0,
            other => self.wrong_type(column, other),
        }
    }

    /// A truth value; false where there is none.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn boolean(&self, column: &str) -> bool {
        match self.get(column) {
            Value::Boolean(truth) => *truth,
            Value::Null => false,
            other => self.wrong_type(column, other),
        }
    }

    /// A moment in milliseconds since the Unix epoch, if there is one.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn timestamp_ms(&self, column: &str) -> Option<i64> {
        match self.get(column) {
            Value::Timestamp(timestamp_ms) => Some(*timestamp_ms),
            Value::Null => None,
            other => self.wrong_type(column, other),
        }
    }

    /// JSON, if there is any.
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn json(&self, column: &str) -> Option<&serde_json::Value> {
        match self.get(column) {
            Value::Json(json) => Some(json),
            Value::Null => None,
            other => self.wrong_type(column, other),
        }
    }

    /// Sets a value; `None` and [`Value::Null`] empty the cell.
    ///
    /// # Panics
    /// If the table has no such column, the value is of another type, or it would change the key.
    pub fn set(&mut self, column: &str, value: impl Into<Value>) -> &mut Self {
        let (index, value) = (self.index_of(column), value.into());
        let declared = self.table.columns[index];
        assert!(
            value.fits(declared.column_type),
            "{}.{column} is {}, got {value:?}",
            self.table.name,
            declared.column_type
        );
        assert!(
            index >= self.table.key_len || self.values[index] == value,
            "{}.{column} is part of the key and cannot change",
            self.table.name
        );
        self.values[index] = value;
        self
    }

    /// Adds to a number (saturating).
    ///
    /// # Panics
    /// If the table has no such column or it is of another type.
    pub fn increment(&mut self, column: &str, by: i64) -> &mut Self {
        let sum = self.integer(column).saturating_add(by);
        self.set(column, sum)
    }

    fn index_of(&self, column: &str) -> usize {
        self.table.position(column).unwrap_or_else(|| {
            panic!("table {} declares no column {column}", self.table.name);
        })
    }

    fn wrong_type(&self, column: &str, found: &Value) -> ! {
        panic!(
            "{}.{column} holds {found:?}, which is of another type",
            self.table.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::ColumnType;

    fn stock() -> Arc<Table> {
        let table = Table::new("stock", &[("sku", ColumnType::Text)])
            .column("on_hand", ColumnType::Integer)
            .column("as_of", ColumnType::Timestamp);
        Arc::new(table)
    }

    #[test]
    fn a_new_row_has_its_key_and_zeroes() {
        let mut row = Row::new(&stock(), &RowKey::new("stock", "SKU-1"));
        row.increment("on_hand", 4).increment("on_hand", -1);
        assert_eq!(row.text("sku"), Some("SKU-1"));
        assert_eq!(row.integer("on_hand"), 3);
        assert_eq!(row.timestamp_ms("as_of"), None);
    }

    #[test]
    fn a_row_read_from_a_store_must_fit_the_table() {
        let values = vec![Value::from("SKU-1"), Value::from("three"), Value::Null];
        assert_eq!(Row::from_values(&stock(), values), None);
        assert_eq!(
            Row::from_values(&stock(), vec![Value::Null; 3]),
            None,
            "a key is never null"
        );
    }

    #[test]
    #[should_panic(expected = "part of the key")]
    fn a_key_cannot_change() {
        Row::new(&stock(), &RowKey::new("stock", "SKU-1")).set("sku", "SKU-2");
    }

    #[test]
    #[should_panic(expected = "stock.on_hand is integer")]
    fn a_value_of_another_type_is_a_mistake() {
        Row::new(&stock(), &RowKey::new("stock", "SKU-1")).set("on_hand", "three");
    }
}
