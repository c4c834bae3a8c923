//! What can be wrong with bytes that are read, and with messages that are written.

use crate::schema::{Field, Versions};

/// Bytes that are not the message they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {position}, {table}.{field}: {fault}")]
pub struct DecodeError {
    /// What is wrong.
    pub fault: Fault,
    /// The structure that was being read.
    pub table: &'static str,
    /// Its field.
    pub field: &'static str,
    /// How many bytes of the frame lie before the place.
    pub position: usize,
}

/// What is wrong at a place of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end too early.
    #[error("{needed} bytes are needed, {left} are left")]
    Ends {
        /// Bytes that the value takes.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// More elements than bytes.
    #[error("{count} elements are announced, {left} bytes are left")]
    Count {
        /// Elements announced.
        count: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// More elements than the memory that a frame of this size may take.
    #[error("{count} elements, which take too much memory for a frame of this size")]
    Memory {
        /// Elements announced.
        count: usize,
    },
    /// A length below -1.
    #[error("a length of {0}")]
    NegativeLength(i32),
    /// Null where this version allows none.
    #[error("null, which version {0} does not allow")]
    Null(i16),
    /// Not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A variable-length integer of more than 32 bits.
    #[error("a variable-length integer of more than 32 bits")]
    Varint,
    /// The value of a tagged field is shorter than its announced size.
    #[error("a tagged field with {0} bytes too many")]
    TaggedSize(usize),
    /// A key that Kafka does not know.
    #[error("unknown API key {0}")]
    UnknownApi(i16),
    /// A version that the tables do not have.
    #[error("version {version} is not one of {versions}")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// Those that exist.
        versions: Versions,
    },
}

impl DecodeError {
    pub(crate) fn new(fault: Fault, field: &'static Field, position: usize) -> Self {
        Self {
            fault,
            table: field.table,
            field: field.name,
            position,
        }
    }
}

/// A message that has no form in the version asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The tables do not have the version.
    #[error("{message} has no version {version}, only {versions}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
        /// Those that exist.
        versions: Versions,
    },
    /// A value that the version has no place for, and that must not be lost.
    #[error("{table}.{field} is set, but version {version} has no place for it")]
    NoPlace {
        /// The structure.
        table: &'static str,
        /// Its field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null where this version allows none.
    #[error("{table}.{field} is null, which version {version} does not allow")]
    Null {
        /// The structure.
        table: &'static str,
        /// Its field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A text, byte string or array beyond what its length field can say.
    #[error("{table}.{field} has a length of {length}, which its length field cannot hold")]
    TooLong {
        /// The structure.
        table: &'static str,
        /// Its field.
        field: &'static str,
        /// Bytes or elements.
        length: usize,
    },
}

impl EncodeError {
    pub(crate) fn no_place(field: &'static Field, version: i16) -> Self {
        Self::NoPlace {
            table: field.table,
            field: field.name,
            version,
        }
    }

    pub(crate) fn null(field: &'static Field, version: i16) -> Self {
        Self::Null {
            table: field.table,
            field: field.name,
            version,
        }
    }

    pub(crate) fn too_long(field: &'static Field, length: usize) -> Self {
        Self::TooLong {
            table: field.table,
            field: field.name,
            length,
        }
    }
}

/// A length before a frame that cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length below zero: the peer speaks something else.
    #[error("a frame of {0} bytes is announced; is this Kafka's protocol?")]
    Negative(i32),
    /// A length above the limit.
    #[error("a frame of {size} bytes is announced, at most {max} are allowed")]
    TooLarge {
        /// Bytes announced.
        size: usize,
        /// The limit.
        max: usize,
    },
}
