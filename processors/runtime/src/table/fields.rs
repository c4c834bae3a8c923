//! What the fields of a table's documents are called, and where in their JSON moments stand.

use super::Column;

/// The fields of the documents that a table's rows are in a store of documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// One for each column.
    names: Vec<String>,
    in_camel_case: bool,
    /// Columns, and names of fields in their JSON.
    moments: Vec<(usize, &'static str)>,
}

impl Fields {
    /// A field for one more column.
    pub(super) fn add(&mut self, column: &str) {
        let name = if self.in_camel_case {
            camel_case(column)
        } else {
            column.to_owned()
        };
        self.names.push(name);
    }

    pub(super) fn use_camel_case(&mut self) {
        self.in_camel_case = true;
        for name in &mut self.names {
            *name = camel_case(name);
        }
    }

    pub(super) fn rename(&mut self, column: usize, name: &str) {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        assert!(
            is_name && !self.names.iter().any(|taken| taken == name),
            "{name:?} is no name for another field"
        );
        name.clone_into(&mut self.names[column]);
    }

    pub(super) fn add_moments(&mut self, column: usize, field: &'static str) {
        self.moments.push((column, field));
    }

    pub(super) fn name(&self, column: usize) -> &str {
        &self.names[column]
    }

    pub(super) fn is_moment(&self, column: usize, field: &str) -> bool {
        self.moments.contains(&(column, field))
    }

    /// What differs from the columns, to notice a change.
    pub(super) fn describe(&self, columns: &[Column]) -> String {
        let renamed = columns.iter().zip(&self.names);
        let renamed = renamed.filter(|(column, name)| column.name != **name);
        let renamed =
            renamed.map(|(column, name)| format!("; {} in documents {name}", column.name));
        let moments = self.moments.iter();
        let moments =
            moments.map(|(at, field)| format!("; moments in {}: {field}", columns[*at].name));
        renamed.chain(moments).collect()
    }
}

/// `last_event_at` as `lastEventAt`.
fn camel_case(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            written.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use crate::value::ColumnType;

    #[test]
    fn fields_follow_the_rule_and_its_exceptions() {
        let table = Table::new("order", &[("order_id", ColumnType::Text)])
            .column("src", ColumnType::Json)
            .in_camel_case()
            .column("last_event_at", ColumnType::Timestamp)
            .field("src", "_src")
            .moments_in("src", "at");
        let fields: Vec<_> = (0..3).map(|column| table.field_of(column)).collect();
        assert_eq!(fields, ["orderId", "_src", "lastEventAt"]);
        assert!(table.is_moment_in(1, "at") && !table.is_moment_in(1, "on"));
        assert_eq!(
            table.describe_shape(),
            "; order_id in documents orderId; src in documents _src; last_event_at in documents \
             lastEventAt; moments in src: at"
        );
    }

    #[test]
    #[should_panic(expected = "no name for another field")]
    fn two_fields_have_two_names() {
        let table = Table::new("t", &[("a", ColumnType::Text)]).column("b", ColumnType::Text);
        drop(table.field("b", "a"));
    }
}
