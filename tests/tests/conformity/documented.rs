//! The table of differences in `tests/README.md`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::compare::Difference;

const BEGIN: &str = "<!-- differences -->";
const END: &str = "<!-- end of differences -->";

/// What a reason begins with when the difference depends on the brokers' timing.
const SOMETIMES: &str = "sometimes: ";

/// The lines of the table, without their reasons, which must not be empty.
#[derive(Debug, Default)]
pub(crate) struct Documented {
    /// Differences that must be there.
    pub(crate) always: BTreeSet<Difference>,
    /// Differences that may be there.
    pub(crate) sometimes: BTreeSet<Difference>,
}

/// Reads the table.
pub(crate) fn differences() -> Result<Documented> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(readme)?;
    let (_, rest) = text
        .split_once(BEGIN)
        .context("the table begins with a mark")?;
    let (table, _) = rest.split_once(END).context("the table ends with a mark")?;
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut documented = Documented::default();
    for line in lines {
        let (difference, is_sometimes) = parse(line)?;
        let lines = if is_sometimes {
            &mut documented.sometimes
        } else {
            &mut documented.always
        };
        lines.insert(difference);
    }
    Ok(documented)
}

fn parse(line: &str) -> Result<(Difference, bool)> {
    let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [api, step, field, kafkas, ours, why] = cells[..] else {
        bail!("six cells expected: {line}");
    };
    if why.len() < 10 {
        bail!("a difference needs its reason: {line}");
    }
    let difference = Difference {
        api: api.to_owned(),
        step: step.to_owned(),
        field: field.trim_matches('`').to_owned(),
        kafkas: kafkas.to_owned(),
        ours: ours.to_owned(),
    };
    Ok((difference, why.starts_with(SOMETIMES)))
}
