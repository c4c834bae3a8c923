//! What a store remembers of a declaration, to notice that the program has changed.

use std::sync::Arc;

use conveyor_processors::{Declaration, Table};

/// The declaration as text: one line for its topics, one for each table.
pub(crate) fn text_of(declaration: &Declaration) -> String {
    let table = |table: &Arc<Table>| {
        let columns = table.columns().iter().enumerate().map(|(index, column)| {
            let key = if index < table.key_columns().len() {
                " key"
            } else {
                ""
            };
            format!("{} {}{key}", column.name, column.column_type)
        });
        format!(
            "table {}: {}",
            table.name(),
            columns.collect::<Vec<_>>().join(", ")
        )
    };
    let sources = format!("sources {}", declaration.sources().join(" "));
    let lines = std::iter::once(sources).chain(declaration.tables().iter().map(table));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether what the store holds was made by this version of the projection; if not, why and what to
/// do. `elsewhere` names where to build it anew: `another file (--store FILE)`.
pub(crate) fn check(
    declaration: &Declaration,
    version: u32,
    text: &str,
    elsewhere: &str,
) -> Result<(), String> {
    if version != declaration.version() {
        return Err(format!(
            "the store holds version {version} of it, this program has version {}: build it anew \
             in {elsewhere}",
            declaration.version()
        ));
    }
    if text != text_of(declaration) {
        return Err(format!(
            "its tables or topics have changed and its version is still {version}: raise the \
             version, and build it anew in {elsewhere}"
        ));
    }
    Ok(())
}
