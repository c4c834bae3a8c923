//! Tables as a projection declares them: columns, key, and what rows, fields and lists are called in
//! stores that name them.
//!
//! A declaration that does not fit together is a mistake in the projection: it panics, and the
//! projection's first test shows it.

mod fields;
mod listing;
mod pattern;
mod row;

use std::sync::Arc;

use self::fields::Fields;
pub use listing::{List, Listing};
pub use pattern::{NamePart, NamePattern};
pub use row::{Row, RowKey};

use crate::value::{ColumnType, KeyPart};

/// A table: its name, its key columns first, then the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    name: &'static str,
    columns: Vec<Column>,
    key_len: usize,
    indexes: Vec<&'static str>,
    lists: Vec<List>,
    fields: Fields,
    /// The key column by which it is kept apart.
    day: Option<usize>,
    /// What a row is called where everything has a name, if that is not the table's name and the key.
    row_name: Option<NamePattern>,
    /// What it is called in the store, if that is not its name.
    stored: Option<Arc<str>>,
}

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Lower case, snake case.
    pub name: &'static str,
    /// What it holds.
    pub column_type: ColumnType,
}

impl Table {
    /// A table with its key: the columns that name a row.
    ///
    /// # Panics
    /// If there is no key column, or one is neither text nor integer, or a name is not plain
    /// (`a-z`, `0-9`, `_`, starting with a letter).
    pub fn new(name: &'static str, key: &[(&'static str, ColumnType)]) -> Self {
        assert!(!key.is_empty(), "table {name} has no key");
        let mut table = Self {
            name,
            columns: Vec::new(),
            key_len: 0,
            indexes: Vec::new(),
            lists: Vec::new(),
            fields: Fields::default(),
            day: None,
            row_name: None,
            stored: None,
        };
        assert_plain(name, name);
        for &(column, column_type) in key {
            assert!(
                matches!(column_type, ColumnType::Text | ColumnType::Integer),
                "key column {name}.{column} is {column_type}, only text and integer can be keys"
            );
            table = table.column(column, column_type);
        }
        table.key_len = key.len();
        table
    }

    /// Adds a column that is not part of the key.
    ///
    /// # Panics
    /// If the name is taken or not plain.
    #[must_use]
    pub fn column(mut self, name: &'static str, column_type: ColumnType) -> Self {
        assert_plain(self.name, name);
        assert!(
            self.position(name).is_none(),
            "table {} has two columns {name}",
            self.name
        );
        self.columns.push(Column { name, column_type });
        self.fields.add(name);
        self
    }

    /// Asks stores that can to index a column, for queries by it.
    ///
    /// # Panics
    /// If the table has no such column.
    #[must_use]
    pub fn index(mut self, column: &'static str) -> Self {
        assert!(
            self.position(column).is_some(),
            "table {} has no column {column}",
            self.name
        );
        self.indexes.push(column);
        self
    }

    /// Lists some of its rows under a name of their own, see [`Listing`].
    ///
    /// # Panics
    /// If the listing does not fit the table; declare its columns first.
    #[must_use]
    pub fn listed(mut self, listing: &Listing) -> Self {
        self.lists.push(listing.resolve(&self));
        self
    }

    /// What a row is called in a store where everything has a name, instead of the table's name and
    /// the key: `tq:{zone_id}:{task_type}:stats`. Parts stand between `:`, the first is a plain word.
    ///
    /// # Panics
    /// If it is no such pattern, or its columns are not those of the key, in their order.
    #[must_use]
    pub fn named(mut self, pattern: &str) -> Self {
        let pattern = NamePattern::parse(&self, pattern);
        assert!(
            pattern.columns().eq(0..self.key_len),
            "table {}: {} does not have the columns of the key in their order",
            self.name,
            pattern.text()
        );
        self.row_name = Some(pattern);
        self
    }

    /// Calls the fields of its documents in `camelCase`: column `order_id` is `orderId` in a store of
    /// documents. Columns keep their names everywhere else.
    #[must_use]
    pub fn in_camel_case(mut self) -> Self {
        self.fields.use_camel_case();
        self
    }

    /// Calls a column's field in documents by another name, whatever the rule says.
    ///
    /// # Panics
    /// If the table has no such column, the name is not one (letters, digits, `_`), or is taken.
    #[must_use]
    pub fn field(mut self, column: &'static str, name: &'static str) -> Self {
        let index = self.place_of(column);
        self.fields.rename(index, name);
        self
    }

    /// Says that texts in fields of that name, anywhere in a JSON column, are moments
    /// (`2026-11-23T04:05:06.789Z`): a store of documents keeps them as such. What is no moment written
    /// just so stays text.
    ///
    /// # Panics
    /// If the table has no such column, or it is not JSON.
    #[must_use]
    pub fn moments_in(mut self, column: &'static str, field: &'static str) -> Self {
        let index = self.place_of(column);
        let column_type = self.columns[index].column_type;
        assert!(
            column_type == ColumnType::Json,
            "{}.{column} is {column_type} and not json",
            self.name
        );
        self.fields.add_moments(index, field);
        self
    }

    /// Asks stores that can to keep the days of a key column apart, a day being a number like 20261123:
    /// old ones are then found, read and removed as a whole.
    ///
    /// # Panics
    /// If that is no key column of whole numbers, or the table's name has more than 31 characters.
    #[must_use]
    pub fn by_day(mut self, column: &'static str) -> Self {
        let index = self.place_of(column);
        assert!(
            index < self.key_len && self.columns[index].column_type == ColumnType::Integer,
            "{}.{column} is no whole number in the key",
            self.name
        );
        assert!(
            self.name.len() <= 31,
            "the name {} is too long for its days'",
            self.name
        );
        self.day = Some(index);
        self
    }

    /// Where the day stands in the key, if days are kept apart.
    pub const fn day(&self) -> Option<usize> {
        self.day
    }

    /// What a column's field is called in documents.
    pub fn field_of(&self, column: usize) -> &str {
        self.fields.name(column)
    }

    /// Whether texts in fields of that name within a JSON column are moments.
    pub fn is_moment_in(&self, column: usize, field: &str) -> bool {
        self.fields.is_moment(column, field)
    }

    fn place_of(&self, column: &str) -> usize {
        self.position(column)
            .unwrap_or_else(|| panic!("table {} has no column {column}", self.name))
    }

    /// Lists of its rows.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// What a row is called where everything has a name.
    pub fn row_name(&self) -> NamePattern {
        let key: Vec<_> = self
            .key_columns()
            .iter()
            .map(|column| column.name)
            .collect();
        let own = self.row_name.clone();
        own.unwrap_or_else(|| NamePattern::of_table(self.name, &key))
    }

    /// What readers of a store see of it that is not in its columns, to notice a change; empty if there
    /// is nothing of the kind.
    pub fn describe_shape(&self) -> String {
        let named = self
            .row_name
            .iter()
            .map(|name| format!("; named {}", name.text()));
        let lists = self.lists.iter();
        let listed = lists.map(|list| format!("; lists {}", list.describe(self)));
        let fields = self.fields.describe(&self.columns);
        let days = self.day.iter();
        let days = days.map(|day| format!("; by day {}", self.columns[*day].name));
        named.chain(listed).chain([fields]).chain(days).collect()
    }

    /// Whether a name could stand for something in both tables. One constant name among rows does no
    /// harm: stores write the one row that would be called so in another way.
    pub(crate) fn names_clash(&self, other: &Self) -> bool {
        let rows = (self.row_name(), other.row_name());
        let clash = |row: &NamePattern, list: &List| {
            !list.pattern.is_constant() && row.overlaps(&list.pattern)
        };
        let both = |left: &List| {
            let mut right = other.lists.iter();
            right.any(|right| left.pattern.overlaps(&right.pattern))
        };
        rows.0.overlaps(&rows.1)
            || other.lists.iter().any(|list| clash(&rows.0, list))
            || self
                .lists
                .iter()
                .any(|list| clash(&rows.1, list) || both(list))
    }

    /// Whether two of its lists, or a list and a row, could have one name.
    pub(crate) fn clashes_with_itself(&self) -> bool {
        let row = self.row_name();
        self.lists.iter().enumerate().any(|(index, list)| {
            let pattern = &list.pattern;
            let others = &self.lists[..index];
            (!pattern.is_constant() && pattern.overlaps(&row))
                || others.iter().any(|other| other.pattern.overlaps(pattern))
        })
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What the store calls it: its name, or another one in a build that is not live.
    pub fn stored_name(&self) -> &str {
        self.stored.as_deref().unwrap_or(self.name)
    }

    /// The same table under another name in the store.
    pub(crate) fn stored_as(mut self, name: String) -> Self {
        self.stored = Some(name.into());
        self
    }

    /// All columns, those of the key first.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns of the key.
    pub fn key_columns(&self) -> &[Column] {
        &self.columns[..self.key_len]
    }

    /// Columns that queries ask by.
    pub fn indexes(&self) -> &[&'static str] {
        &self.indexes
    }

    /// The key of a row of this table.
    ///
    /// # Panics
    /// If the parts do not fit the key's columns.
    pub fn key<const N: usize>(&self, parts: [KeyPart; N]) -> RowKey {
        self.assert_key(&parts);
        RowKey {
            table: self.name,
            parts: parts.into(),
        }
    }

    /// Where a column stands in a row.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }

    fn assert_key(&self, parts: &[KeyPart]) {
        let fits = parts.len() == self.key_len
            && parts
                .iter()
                .zip(&self.columns)
                .all(|(part, column)| part.fits(column.column_type));
        assert!(
            fits,
            "{parts:?} does not fit the key of table {}",
            self.name
        );
    }
}

fn assert_plain(table: &str, name: &str) {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    assert!(
        plain,
        "table {table}: {name:?} is not a plain lower-case name"
    );
}
