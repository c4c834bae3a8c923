//! The SQL for a declared table. All rows of a batch travel as one array for each column.
//!
//! Names are plain (the declaration checks that), so they are quoted only against SQL's own words.

use conveyor_processors::table::List;
use conveyor_processors::{Column, ColumnType, Table};

use super::days;
use crate::declared::listed_rows;

/// A table's name with its schema.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("\"{schema}\".\"{table}\"")
}

pub(super) fn create_table(schema: &str, table: &Table) -> String {
    let keys = table.key_columns().len();
    let columns = table.columns().iter().enumerate().map(|(index, column)| {
        // Bytewise order needs no language's rules and no new index when those change.
        let suffix = match (index < keys, column.column_type) {
            (true, ColumnType::Text) => " COLLATE \"C\" NOT NULL",
            (true, _) => " NOT NULL",
            (false, _) => "",
        };
        format!(
            "\"{}\" {}{suffix}",
            column.name,
            sql_type(column.column_type)
        )
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let key = names(table.key_columns());
    let name = qualified(schema, table.stored_name());
    let apart = days::clause(table);
    format!("CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})){apart}")
}

pub(super) fn create_index(schema: &str, table: &Table, column: &str) -> String {
    let name = qualified(schema, table.stored_name());
    format!("CREATE INDEX ON {name} (\"{column}\")")
}

/// An index over just the rows of a list, in its order.
pub(super) fn create_list_index(schema: &str, table: &Table, list: &List) -> String {
    let name = qualified(schema, table.stored_name());
    format!("CREATE INDEX ON {name} {}", listed_rows(table, list))
}

pub(super) fn select_by_keys(schema: &str, table: &Table) -> String {
    let columns = table
        .columns()
        .iter()
        .map(|c| read(&format!("t.\"{}\"", c.name), c));
    format!(
        "SELECT {} FROM {} JOIN {} t ON {}{}",
        columns.collect::<Vec<_>>().join(", "),
        unnest(table.key_columns()),
        qualified(schema, table.stored_name()),
        key_equals(table),
        of_days(table)
    )
}

/// Names the days of the keys once more, for the server to leave out all other partitions.
fn of_days(table: &Table) -> String {
    let days = table.day().map(|day| {
        let name = table.columns()[day].name;
        format!(" AND t.\"{name}\" = ANY (${}::bigint[])", day + 1)
    });
    days.unwrap_or_default()
}

pub(super) fn select_all(schema: &str, table: &Table) -> String {
    let columns = table
        .columns()
        .iter()
        .map(|c| read(&format!("\"{}\"", c.name), c));
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!(
        "SELECT {columns} FROM {}",
        qualified(schema, table.stored_name())
    )
}

pub(super) fn upsert(schema: &str, table: &Table) -> String {
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
    let values = table
        .columns()
        .iter()
        .map(|column| match column.column_type {
            ColumnType::Json => format!("k.\"{}\"::json", column.name),
            _ => format!("k.\"{}\"", column.name),
        });
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) {conflict}",
        qualified(schema, table.stored_name()),
        names(table.columns()),
        values.collect::<Vec<_>>().join(", "),
        unnest(table.columns()),
        names(table.key_columns())
    )
}

pub(super) fn delete(schema: &str, table: &Table) -> String {
    format!(
        "DELETE FROM {} t USING {} WHERE {}{}",
        qualified(schema, table.stored_name()),
        unnest(table.key_columns()),
        key_equals(table),
        of_days(table)
    )
}

/// The arrays of the parameters as a table `k`.
fn unnest(columns: &[Column]) -> String {
    let arrays = columns
        .iter()
        .enumerate()
        .map(|(i, c)| format!("${}::{}[]", i + 1, parameter_type(c.column_type)));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    format!("unnest({arrays}) AS k({})", names(columns))
}

fn key_equals(table: &Table) -> String {
    let keys = table.key_columns().iter();
    keys.map(|c| format!("t.\"{0}\" = k.\"{0}\"", c.name))
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

/// A column as it is read.
fn read(name: &str, column: &Column) -> String {
    match column.column_type {
        ColumnType::Json => format!("{name}::text"),
        _ => name.to_owned(),
    }
}

/// `json` and not `jsonb`: it keeps numbers and characters exactly as they came.
const fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text => "text",
        ColumnType::Integer => "bigint",
        ColumnType::Real => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Json => "json",
    }
}

const fn parameter_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Json => "text",
        other => sql_type(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_a_table() {
        let table = Table::new("t", &[("a", ColumnType::Text), ("b", ColumnType::Integer)])
            .column("at", ColumnType::Timestamp)
            .column("j", ColumnType::Json);
        assert_eq!(
            create_table("public", &table),
            "CREATE TABLE \"public\".\"t\" (\"a\" text COLLATE \"C\" NOT NULL, \
             \"b\" bigint NOT NULL, \"at\" timestamptz, \"j\" json, PRIMARY KEY (\"a\", \"b\"))"
        );
        assert_eq!(
            upsert("s", &table),
            "INSERT INTO \"s\".\"t\" (\"a\", \"b\", \"at\", \"j\") \
             SELECT k.\"a\", k.\"b\", k.\"at\", k.\"j\"::json \
             FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::text[]) \
             AS k(\"a\", \"b\", \"at\", \"j\") ON CONFLICT (\"a\", \"b\") \
             DO UPDATE SET \"at\" = excluded.\"at\", \"j\" = excluded.\"j\""
        );
        assert_eq!(
            delete("s", &table),
            "DELETE FROM \"s\".\"t\" t USING unnest($1::text[], $2::bigint[]) AS k(\"a\", \"b\") \
             WHERE t.\"a\" = k.\"a\" AND t.\"b\" = k.\"b\""
        );
    }
}
