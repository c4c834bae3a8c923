//! The table of differences in `tests/README.md`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::compare::Difference;

const BEGIN: &str = "<!-- differences -->";
const END: &str = "<!-- end of differences -->";

/// The lines of the table, without their reasons, which must not be empty.
pub(crate) fn differences() -> Result<BTreeSet<Difference>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(readme)?;
    let (_, rest) = text
        .split_once(BEGIN)
        .context("the table begins with a mark")?;
    let (table, _) = rest.split_once(END).context("the table ends with a mark")?;
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(parse).collect()
}

fn parse(line: &str) -> Result<Difference> {
    let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [api, step, field, kafkas, ours, why] = cells[..] else {
        bail!("six cells expected: {line}");
    };
    if why.len() < 10 {
        bail!("a difference needs its reason: {line}");
    }
    Ok(Difference {
        api: api.to_owned(),
        step: step.to_owned(),
        field: field.trim_matches('`').to_owned(),
        kafkas: kafkas.to_owned(),
        ours: ours.to_owned(),
    })
}
