//! The tables as data: which fields a structure has, in which versions, and of which kind.
//!
//! The codec that `table.rs` generates consults these entries, and tests walk them to compare the
//! tables with Kafka's own definitions, to make messages up, and to find every count in them.

use std::fmt;

/// A range of versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The first version.
    pub first: i16,
    /// The last version; [`i16::MAX`] when the range is open.
    pub last: i16,
}

impl Versions {
    /// `first` and all that follow.
    pub const fn since(first: i16) -> Self {
        Self {
            first,
            last: i16::MAX,
        }
    }

    /// From `first` to `last`.
    pub const fn between(first: i16, last: i16) -> Self {
        Self { first, last }
    }

    /// Whether `version` is one of them.
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// Every version of a closed range, from the lowest up.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.first..=self.last
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            i16::MAX => write!(f, "{}+", self.first),
            last => write!(f, "{}-{last}", self.first),
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Two bytes, unsigned.
    Uint16,
    /// Four bytes.
    Int32,
    /// Four bytes, unsigned.
    Uint32,
    /// Eight bytes.
    Int64,
    /// Eight bytes, IEEE 754.
    Float64,
    /// Sixteen bytes; all zero means none.
    Uuid,
    /// UTF-8 with its length before it.
    String,
    /// Bytes with their length before them.
    Bytes,
    /// Elements with their count before them.
    Array(&'static Kind),
    /// May be null, in the versions that the field says.
    Nullable(&'static Kind),
    /// The fields of another table.
    Struct(&'static Table),
}

/// A structure: its name in Kafka's definitions and its fields.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The structure's name.
    pub name: &'static str,
    /// The fields in the order in which they travel, tagged ones last and by tag.
    pub fields: &'static [&'static Field],
}

/// A field of a structure.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The structure that it belongs to.
    pub table: &'static str,
    /// Its name, Kafka's in snake case.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null, if its kind is nullable.
    pub nullable: Versions,
    /// Its tag, if it travels in the section of tagged fields.
    pub tag: Option<u32>,
    /// Whether a value is dropped in silence when the version has no place for it.
    pub ignorable: bool,
}

impl Field {
    pub(crate) const fn new(
        table: &'static str,
        name: &'static str,
        kind: Kind,
        versions: Versions,
    ) -> Self {
        Self {
            table,
            name,
            kind,
            versions,
            nullable: versions,
            tag: None,
            ignorable: false,
        }
    }

    pub(crate) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub(crate) const fn nullable(mut self, versions: Versions) -> Self {
        self.nullable = versions;
        self
    }

    pub(crate) const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }
}

/// The form that a message takes in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The version.
    pub version: i16,
    /// Whether lengths are variable and every structure ends with tagged fields (KIP-482).
    pub flexible: bool,
}

impl Layout {
    /// Whether this version has the field.
    #[inline]
    pub(crate) fn has(self, field: &Field) -> bool {
        field.versions.contains(self.version)
    }
}
