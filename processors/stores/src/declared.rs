//! What a store remembers of a declaration, to notice that the program has changed.

use std::sync::Arc;

use conveyor_processors::build::{Build, BuildName, FIRST_TAG};
use conveyor_processors::table::List;
use conveyor_processors::{Declaration, Position, Table};

/// Why a build that is no longer in the store cannot be written to.
pub(crate) const GONE: &str =
    "it is not in the store: somebody has removed it; a new start makes it anew";

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
            "table {}: {}{}",
            table.name(),
            columns.collect::<Vec<_>>().join(", "),
            table.describe_shape()
        )
    };
    let sources = format!("sources {}", declaration.sources().join(" "));
    let lines = std::iter::once(sources).chain(declaration.tables().iter().map(table));
    lines.collect::<Vec<_>>().join("\n")
}

/// The columns and the condition of an index over just the rows of a list: `("deadline") WHERE …`.
pub(crate) fn listed_rows(table: &Table, list: &List) -> String {
    let name = |column: usize| format!("\"{}\"", table.columns()[column].name);
    let columns: Vec<_> = list.index_columns().into_iter().map(name).collect();
    let scored = list
        .score
        .map(|score| format!("{} IS NOT NULL", name(score)));
    let within = list
        .at_most
        .map(|(column, bound)| format!("{} <= {bound}", name(column)));
    let conditions: Vec<_> = scored.into_iter().chain(within).collect();
    let only = if conditions.is_empty() { "" } else { " WHERE " };
    format!("({}){only}{}", columns.join(", "), conditions.join(" AND "))
}

/// The tag under which a declaration's build begins.
pub(crate) fn tag_of(declaration: &Declaration) -> &str {
    declaration.build().map_or(FIRST_TAG, BuildName::tag)
}

/// The names of a declaration's tables, from its text.
pub(crate) fn tables_of(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let (name, _) = line.strip_prefix("table ")?.split_once(':')?;
        Some(name.to_owned())
    };
    text.lines().filter_map(name).collect()
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
            "the store holds version {version} of it, this program has version {}: build version {1} \
             beside it and switch with `conveyor projection rebuild {}`, or build it anew in \
             {elsewhere}",
            declaration.version(),
            declaration.name()
        ));
    }
    if text != text_of(declaration) {
        return Err(format!(
            "its tables or topics have changed and its version is still {version}: raise the \
             version, and build it anew with `conveyor projection rebuild {}`, or in {elsewhere}",
            declaration.name()
        ));
    }
    Ok(())
}

/// A build as a store has noted it under `name`.
pub(crate) fn build_of(
    name: &str,
    tag: String,
    version: u32,
    text: &str,
    positions: Vec<Position>,
) -> Build {
    let projection = name
        .split_once('@')
        .map_or(name, |(projection, _)| projection);
    Build {
        projection: projection.to_owned(),
        is_live: projection == name,
        tag,
        version,
        tables: tables_of(text),
        positions,
    }
}

/// By projection, the live build first, the others by number and name.
pub(crate) fn sort(builds: &mut [Build]) {
    builds.sort_by(|left, right| {
        let key = |build: &Build| (!build.is_live, build.number().unwrap_or(u32::MAX));
        (&left.projection, key(left), &left.tag).cmp(&(&right.projection, key(right), &right.tag))
    });
}

/// What it means that a build to switch to is not there: it is live already, or there is none.
pub(crate) fn missing(incoming: &BuildName, live_tag: Option<&str>) -> Result<(), String> {
    if live_tag == Some(incoming.tag()) {
        return Ok(());
    }
    Err(format!(
        "there is no build {incoming}: `conveyor projection builds` names those that there are"
    ))
}

/// Why a build that has become the live one cannot be filled under its own name.
pub(crate) fn is_live(build: &BuildName) -> String {
    format!("build {build} is live already, and is kept up by the processors of the projection")
}

/// Why a build that is being removed is of no use.
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) fn is_dropped(build: &BuildName) -> String {
    format!("build {build} is being removed: finish that with `conveyor projection prune`")
}
