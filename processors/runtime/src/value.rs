//! The values that a row can hold. Few on purpose: every store can keep each of them exactly.

use std::fmt;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// A signed 64-bit number.
    Integer,
    /// A 64-bit float.
    Real,
    /// True or false.
    Boolean,
    /// A moment, in milliseconds since the Unix epoch. Stores keep it in their own readable form.
    Timestamp,
    /// Any JSON value.
    Json,
}

impl ColumnType {
    /// The name used in declarations that stores keep to notice a change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One cell of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing. Fits every column that is not part of the key.
    #[default]
    Null,
    /// See [`ColumnType::Text`].
    Text(String),
    /// See [`ColumnType::Integer`].
    Integer(i64),
    /// See [`ColumnType::Real`].
    Real(f64),
    /// See [`ColumnType::Boolean`].
    Boolean(bool),
    /// See [`ColumnType::Timestamp`].
    Timestamp(i64),
    /// See [`ColumnType::Json`].
    Json(serde_json::Value),
}

impl Value {
    /// A moment, from milliseconds since the Unix epoch.
    pub const fn timestamp_ms(timestamp_ms: i64) -> Self {
        Self::Timestamp(timestamp_ms)
    }

    /// Whether the value may stand in a column of this type.
    pub const fn fits(&self, column_type: ColumnType) -> bool {
        matches!(
            (self, column_type),
            (Self::Null, _)
                | (Self::Text(_), ColumnType::Text)
                | (Self::Integer(_), ColumnType::Integer)
                | (Self::Real(_), ColumnType::Real)
                | (Self::Boolean(_), ColumnType::Boolean)
                | (Self::Timestamp(_), ColumnType::Timestamp)
                | (Self::Json(_), ColumnType::Json)
        )
    }

    /// What a new row holds in a column of this type that nothing was set in: 0 for numbers, false,
    /// nothing for the rest. Counters can so be added to without a first step.
    pub const fn initial(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Integer => Self::Integer(0),
            ColumnType::Real => Self::Real(0.0),
            ColumnType::Boolean => Self::Boolean(false),
            ColumnType::Text | ColumnType::Timestamp | ColumnType::Json => Self::Null,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::Json(json)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One part of a row's key. Keys are compared and hashed, so only these two types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPart {
    /// For a [`ColumnType::Text`] column.
    Text(String),
    /// For a [`ColumnType::Integer`] column.
    Integer(i64),
}

impl KeyPart {
    /// Whether the part may stand in a key column of this type.
    pub const fn fits(&self, column_type: ColumnType) -> bool {
        matches!(
            (self, column_type),
            (Self::Text(_), ColumnType::Text) | (Self::Integer(_), ColumnType::Integer)
        )
    }
}

impl From<&KeyPart> for Value {
    fn from(part: &KeyPart) -> Self {
        match part {
            KeyPart::Text(text) => Self::Text(text.clone()),
            KeyPart::Integer(number) => Self::Integer(*number),
        }
    }
}

impl From<&str> for KeyPart {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for KeyPart {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for KeyPart {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for KeyPart {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<i32> for KeyPart {
    fn from(number: i32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
        }
    }
}
