//! The fields of the records that coordinators store, in Kafka's primitive encodings.
//!
//! Keys use the plain forms (16-bit lengths); values use the flexible ones (unsigned varints, where
//! a length is stored plus one and 0 means null, and tagged fields at the end of each structure).
//! A reader never allocates by a length it has not yet found the bytes for.
//!
//! What the records mean is known to the crates that keep them.

use std::collections::BTreeSet;

use uuid::Uuid;

/// A record's bytes, to be stored as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// The key, by which the topic is compacted.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Why the bytes of a record make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early.
    #[error("{field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// The bytes it needs.
        needed: usize,
        /// The bytes there are.
        left: usize,
    },
    /// A field holds what it must not.
    #[error("{field} holds {reason}")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something follows the last field.
    #[error("{left} bytes follow the record's last field")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A value of a version this one cannot read.
    #[error("value of {kind} has version {version}, up to {supported} can be read")]
    UnsupportedVersion {
        /// The kind of record.
        kind: &'static str,
        /// Its version.
        version: i16,
        /// The highest known.
        supported: i16,
    },
}

/// Appends primitives to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins with the version of what follows.
    pub fn version(version: i16) -> Self {
        let mut writer = Self::default();
        writer.int16(version);
        writer
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes.
    pub fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Seven bits a byte, the lowest first.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A string behind a 16-bit length. Handlers refuse longer ones before they become records.
    pub fn string(&mut self, value: &str) {
        let length = i16::try_from(value.len());
        assert!(
            length.is_ok(),
            "a string of {} bytes reached the record codec",
            value.len()
        );
        self.int16(length.unwrap_or(i16::MAX));
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A string behind a 16-bit length, -1 for none.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.int16(-1),
        }
    }

    /// Bytes behind a 32-bit length. Handlers refuse more than fits before it becomes a record.
    pub fn bytes(&mut self, value: &[u8]) {
        self.int32(value.len() as i32);
        self.bytes.extend_from_slice(value);
    }

    /// A string behind a varint length plus one.
    pub fn compact_string(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A string behind a varint length plus one, 0 for none.
    pub fn compact_nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.compact_string(value),
            None => self.unsigned_varint(0),
        }
    }

    /// The length of a compact string or array.
    pub fn length(&mut self, length: usize) {
        self.unsigned_varint(length as u32 + 1);
    }

    /// Bytes behind a varint length plus one.
    pub fn compact_bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// A compact array of numbers.
    pub fn int32_set(&mut self, values: &BTreeSet<i32>) {
        self.length(values.len());
        for value in values {
            self.int32(*value);
        }
    }

    /// A tagged field; how many there are stands before the first.
    pub fn tagged(&mut self, tag: u32, value: &[u8]) {
        self.unsigned_varint(tag);
        self.unsigned_varint(value.len() as u32);
        self.bytes.extend_from_slice(value);
    }

    /// The end of a flexible structure without tagged fields.
    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }
}

/// Takes primitives off a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated {
                field,
                needed: count,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, field)?);
        Ok(bytes)
    }

    /// One byte.
    pub fn int8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.array(field).map(i8::from_be_bytes)
    }

    /// Two bytes.
    pub fn int16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Four bytes.
    pub fn int32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn int64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.array(field).map(Uuid::from_bytes)
    }

    /// Seven bits a byte, the lowest first.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid {
            field,
            reason: "a varint of more than 32 bits",
        })
    }

    fn text(&mut self, length: usize, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.take(length, field)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::Invalid {
                field,
                reason: "text that is not UTF-8",
            }),
        }
    }

    /// A string behind a 16-bit length.
    pub fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.nullable_string(field)?.ok_or_else(|| null_text(field))
    }

    /// A string behind a 16-bit length, negative for none.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, DecodeError> {
        match usize::try_from(self.int16(field)?) {
            Ok(length) => self.text(length, field).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Bytes behind a 32-bit length.
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.int32_length(1, field)?;
        self.take(length, field)
    }

    /// Bytes behind a varint length plus one.
    pub fn compact_bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.length(1, field)?;
        self.take(length, field)
    }

    /// The 32-bit length of an array whose elements have `element_size` bytes at least.
    pub fn int32_length(
        &mut self,
        element_size: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let length = usize::try_from(self.int32(field)?).map_err(|_| DecodeError::Invalid {
            field,
            reason: "null where a list must be",
        })?;
        self.bounded(length, element_size, field)
    }

    /// Checks that so many elements can be there.
    fn bounded(
        &self,
        length: usize,
        element_size: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let needed = length.saturating_mul(element_size);
        if needed > self.rest.len() {
            return Err(DecodeError::Truncated {
                field,
                needed,
                left: self.rest.len(),
            });
        }
        Ok(length)
    }

    /// A string behind a varint length plus one, 0 for none.
    pub fn compact_nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<String>, DecodeError> {
        match self.unsigned_varint(field)?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.text(length as usize, field).map(Some),
        }
    }

    /// A string behind a varint length plus one.
    pub fn compact_string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.compact_nullable_string(field)?
            .ok_or_else(|| null_text(field))
    }

    /// The length of a compact array whose elements have `element_size` bytes at least.
    pub fn length(
        &mut self,
        element_size: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let length = self
            .unsigned_varint(field)?
            .checked_sub(1)
            .ok_or(DecodeError::Invalid {
                field,
                reason: "null where a list must be",
            })? as usize;
        self.bounded(length, element_size, field)
    }

    /// A compact array of numbers.
    pub fn int32_set(&mut self, field: &'static str) -> Result<BTreeSet<i32>, DecodeError> {
        let length = self.length(4, field)?;
        (0..length).map(|_| self.int32(field)).collect()
    }

    /// The length of a nullable array whose elements have `element_size` bytes at least: behind a
    /// varint when `flexible`, else behind 32 bits. Null counts as empty.
    pub fn nullable_length(
        &mut self,
        flexible: bool,
        element_size: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let length = if flexible {
            self.unsigned_varint(field)?.saturating_sub(1) as usize
        } else {
            usize::try_from(self.int32(field)?).unwrap_or(0)
        };
        self.bounded(length, element_size, field)
    }

    /// Calls `take` with the tag and the bytes of each tagged field.
    pub fn tagged_fields(
        &mut self,
        mut take: impl FnMut(u32, Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        const FIELD: &str = "tagged fields";
        for _ in 0..self.unsigned_varint(FIELD)? {
            let tag = self.unsigned_varint(FIELD)?;
            let size = self.unsigned_varint(FIELD)?;
            take(tag, Reader::new(self.take(size as usize, FIELD)?))?;
        }
        Ok(())
    }

    /// Passes over tagged fields, which newer versions may have added.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// Checks that everything was read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes {
                left: self.rest.len(),
            })
        }
    }
}

fn null_text(field: &'static str) -> DecodeError {
    DecodeError::Invalid {
        field,
        reason: "null where text must be",
    }
}
