//! Names made of columns, for stores that keep everything under names: `tq:{zone_id}:{task_type}`.
//!
//! Parts stand between `:`. The first is a plain word, the *stem*: it belongs to one projection in a
//! store. Each other part is a word, or a column in braces.

use super::Table;

/// A name with columns in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    parts: Vec<NamePart>,
}

/// A part of a [`NamePattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// Stands as it is.
    Word(String),
    /// The value of the column at this place in the table's rows.
    Column(usize),
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Panics
    /// If it is not one, or names a column that the table does not declare.
    pub(super) fn parse(table: &Table, text: &str) -> Self {
        let part = |(index, part): (usize, &str)| {
            let column = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            match column {
                Some(column) if index > 0 => {
                    let position = table.position(column);
                    NamePart::Column(position.unwrap_or_else(|| {
                        panic!("{text}: table {} has no column {column}", table.name)
                    }))
                }
                _ => {
                    super::assert_plain(text, part);
                    NamePart::Word(part.to_owned())
                }
            }
        };
        Self {
            text: text.to_owned(),
            parts: text.split(':').enumerate().map(part).collect(),
        }
    }

    /// That of a table's rows, unless it says another: its name and its key.
    pub(super) fn of_table(name: &str, key: &[&str]) -> Self {
        let columns = (0..key.len()).map(NamePart::Column);
        let texts = key.iter().map(|column| format!(":{{{column}}}"));
        Self {
            text: std::iter::once(name.to_owned()).chain(texts).collect(),
            parts: std::iter::once(NamePart::Word(name.to_owned()))
                .chain(columns)
                .collect(),
        }
    }

    /// The pattern as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its parts, the stem first.
    pub fn parts(&self) -> &[NamePart] {
        &self.parts
    }

    /// The first part.
    pub fn stem(&self) -> &str {
        match &self.parts[0] {
            NamePart::Word(stem) => stem,
            NamePart::Column(_) => unreachable!("a pattern begins with a word"),
        }
    }

    /// The places of the columns in it.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| match part {
            NamePart::Word(_) => None,
            NamePart::Column(index) => Some(*index),
        })
    }

    /// Whether it is one name.
    pub fn is_constant(&self) -> bool {
        self.columns().next().is_none()
    }

    /// Whether some name may be of both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&other.parts).all(|pair| match pair {
                (NamePart::Word(left), NamePart::Word(right)) => left == right,
                _ => true,
            })
    }
}
