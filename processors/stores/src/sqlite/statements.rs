//! The SQL for a declared table. Names are plain (the declaration checks that), so they are quoted
//! only against SQL's own words.

use conveyor_processors::table::List;
use conveyor_processors::{Column, ColumnType, Table};

use crate::declared::listed_rows;

pub(super) fn create_table(table: &Table) -> String {
    let keys = table.key_columns().len();
    let columns = table.columns().iter().enumerate().map(|(index, column)| {
        let not_null = if index < keys { " NOT NULL" } else { "" };
        format!(
            "\"{}\" {}{not_null}",
            column.name,
            sql_type(column.column_type)
        )
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let key = names(table.key_columns());
    format!(
        "CREATE TABLE \"{}\" ({columns}, PRIMARY KEY ({key})) STRICT",
        table.stored_name()
    )
}

pub(super) fn create_index(table: &Table, column: &str) -> String {
    let name = table.stored_name();
    format!("CREATE INDEX \"{name}_by_{column}\" ON \"{name}\" (\"{column}\")")
}

/// An index over just the rows of a list, in its order.
pub(super) fn create_list_index(table: &Table, list: &List) -> String {
    let name = table.stored_name();
    let listed = list
        .pattern
        .text()
        .replace(['{', '}'], "")
        .replace(':', "_");
    let rows = listed_rows(table, list);
    format!("CREATE INDEX \"{name}_lists_{listed}\" ON \"{name}\" {rows}")
}

pub(super) fn select_by_key(table: &Table) -> String {
    format!("{} WHERE {}", select(table), key_equals(table))
}

pub(super) fn select_all(table: &Table) -> String {
    format!("{} ORDER BY {}", select(table), names(table.key_columns()))
}

pub(super) fn upsert(table: &Table) -> String {
    let marks = (1..=table.columns().len())
        .map(|n| format!("?{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    let key = names(table.key_columns());
    let rest = &table.columns()[table.key_columns().len()..];
    let sets = rest
        .iter()
        .map(|c| format!("\"{0}\" = excluded.\"{0}\"", c.name));
    let sets = sets.collect::<Vec<_>>().join(", ");
    let conflict = if rest.is_empty() {
        "DO NOTHING".to_owned()
    } else {
        format!("DO UPDATE SET {sets}")
    };
    let (name, columns) = (table.stored_name(), names(table.columns()));
    format!("INSERT INTO \"{name}\" ({columns}) VALUES ({marks}) ON CONFLICT ({key}) {conflict}")
}

pub(super) fn delete(table: &Table) -> String {
    format!(
        "DELETE FROM \"{}\" WHERE {}",
        table.stored_name(),
        key_equals(table)
    )
}

fn select(table: &Table) -> String {
    format!(
        "SELECT {} FROM \"{}\"",
        names(table.columns()),
        table.stored_name()
    )
}

fn key_equals(table: &Table) -> String {
    let keys = table.key_columns().iter().enumerate();
    keys.map(|(i, c)| format!("\"{}\" = ?{}", c.name, i + 1))
        .collect::<Vec<_>>()
        .join(" AND ")
}

fn names(columns: &[Column]) -> String {
    columns
        .iter()
        .map(|c| format!("\"{}\"", c.name))
        .collect::<Vec<_>>()
        .join(", ")
}

const fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Timestamp | ColumnType::Json => "TEXT",
        ColumnType::Integer | ColumnType::Boolean => "INTEGER",
        ColumnType::Real => "REAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_a_table() {
        let table = Table::new("t", &[("a", ColumnType::Text), ("b", ColumnType::Integer)])
            .column("at", ColumnType::Timestamp);
        assert_eq!(
            create_table(&table),
            "CREATE TABLE \"t\" (\"a\" TEXT NOT NULL, \"b\" INTEGER NOT NULL, \"at\" TEXT, \
             PRIMARY KEY (\"a\", \"b\")) STRICT"
        );
        assert_eq!(
            upsert(&table),
            "INSERT INTO \"t\" (\"a\", \"b\", \"at\") VALUES (?1, ?2, ?3) \
             ON CONFLICT (\"a\", \"b\") DO UPDATE SET \"at\" = excluded.\"at\""
        );
        assert_eq!(
            delete(&table),
            "DELETE FROM \"t\" WHERE \"a\" = ?1 AND \"b\" = ?2"
        );
    }
}
