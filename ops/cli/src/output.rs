//! What commands print: tables for people, JSON for programs, nothing else on standard output.
//!
//! Progress and notes for people go to standard error. A reader that goes away (`| head`) ends the
//! program quietly.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// JSON for programs: one document, or one a line where results come one by one.
    Json,
}

/// The `--format` flag.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormatArgs {
    /// How to print the result.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

impl FormatArgs {
    /// Prints one result: the value as JSON, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        match self.format {
            Format::Text => print_text(&text(value)),
            Format::Json => print_json(value),
        }
    }
}

/// Prints text as it is; an empty one not at all.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints one JSON document on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Tells a person something, on standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut out = io::stderr().lock();
    // Nobody to tell: nothing to do about it.
    writeln!(out, "{}", text.as_ref()).ok();
}

/// A table: a heading, rows, columns as wide as their widest cell, numbers to the right.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextTable {
    rows: Vec<Vec<String>>,
    columns: usize,
}

impl TextTable {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).into()],
            columns: N,
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) -> &mut Self {
        debug_assert_eq!(
            N, self.columns,
            "a row has as many cells as there are headings"
        );
        self.rows.push(cells.into());
        self
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns)
            .map(|i| {
                self.rows
                    .iter()
                    .map(|row| row[i].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let numeric: Vec<bool> = (0..self.columns)
            .map(|i| self.rows.len() > 1 && self.rows[1..].iter().all(|row| is_number(&row[i])))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.chars().count());
                let padded = if numeric[i] {
                    pad + cell
                } else {
                    cell.clone() + &pad
                };
                line += &padded;
                line += "  ";
            }
            text += line.trim_end();
            text += "\n";
        }
        text
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// A section of several: `TITLE` underlined, then its text.
pub(crate) fn section(title: &str, body: &str) -> String {
    let title = title.to_uppercase();
    format!(
        "{title}\n{}\n{}\n",
        "=".repeat(title.len()),
        body.trim_end()
    )
}

/// A size in the unit a person would choose.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A count with thousands set apart: `213,480`.
pub(crate) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment for people, in UTC: `2026-11-23 04:05:06.789`; `-` for none.
pub(crate) fn moment_text(timestamp_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(timestamp_ms) {
        Ok(moment) if timestamp_ms >= 0 => moment.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let mut table = TextTable::new(["NAME", "PARTITIONS", "NOTE"]);
        table.row(["order-events".into(), "6".into(), String::new()]);
        table.row(["a".into(), "12".into(), "x".into()]);
        assert_eq!(
            table.render(),
            "NAME          PARTITIONS  NOTE\n\
             order-events           6\n\
             a                     12  x\n"
        );
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(count_text(999), "999");
        assert_eq!(count_text(1_234_567), "1,234,567");
        assert_eq!(bytes_text(1023), "1023 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(moment_text(1_795_406_706_789), "2026-11-23 04:05:06.789");
        assert_eq!(moment_text(-1), "-");
    }
}
