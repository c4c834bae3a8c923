//! The primitive encodings of Kafka's stored records, written and read within bounds.
//!
//! Keys use the plain forms (16-bit lengths); values use the flexible ones (unsigned varints, where
//! a length is stored plus one and 0 means null, and tagged fields at the end of each structure).
//! A reader never allocates by a length it has not yet found the bytes for.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::record::DecodeError;

/// Appends primitives to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn version(version: i16) -> Self {
        Self {
            bytes: version.to_be_bytes().to_vec(),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A string behind a 16-bit length. Handlers refuse longer ones before they become records.
    pub(crate) fn string(&mut self, value: &str) {
        let length = i16::try_from(value.len());
        assert!(
            length.is_ok(),
            "a string of {} bytes reached the record codec",
            value.len()
        );
        self.bytes
            .extend_from_slice(&length.unwrap_or(i16::MAX).to_be_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A string behind a 16-bit length, -1 for none.
    pub(crate) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.bytes.extend_from_slice(&(-1_i16).to_be_bytes()),
        }
    }

    /// Bytes behind a 32-bit length. Handlers refuse more than fits before it becomes a record.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.int32(value.len() as i32);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn compact_string(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn compact_nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.compact_string(value),
            None => self.unsigned_varint(0),
        }
    }

    /// The length of a compact string or array.
    pub(crate) fn length(&mut self, length: usize) {
        self.unsigned_varint(length as u32 + 1);
    }

    pub(crate) fn int32_set(&mut self, values: &BTreeSet<i32>) {
        self.length(values.len());
        for value in values {
            self.int32(*value);
        }
    }

    /// The end of a flexible structure without tagged fields.
    pub(crate) fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }
}

/// Takes primitives off a slice.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
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

    pub(crate) fn int8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub(crate) fn int16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn int64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.array(field).map(Uuid::from_bytes)
    }

    pub(crate) fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
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

    pub(crate) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = usize::try_from(self.int16(field)?).map_err(|_| DecodeError::Invalid {
            field,
            reason: "null where text must be",
        })?;
        self.text(length, field)
    }

    /// A string behind a 16-bit length, negative for none.
    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<String>, DecodeError> {
        match usize::try_from(self.int16(field)?) {
            Ok(length) => self.text(length, field).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Bytes behind a 32-bit length.
    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.int32_length(1, field)?;
        self.take(length, field)
    }

    /// Bytes behind a varint length plus one.
    pub(crate) fn compact_bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.length(1, field)?;
        self.take(length, field)
    }

    /// The 32-bit length of an array whose elements have `element_size` bytes at least.
    pub(crate) fn int32_length(
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

    pub(crate) fn compact_nullable_string(
        &mut self,
        field: &'static str,
    ) -> Result<Option<String>, DecodeError> {
        match self.unsigned_varint(field)?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.text(length as usize, field).map(Some),
        }
    }

    pub(crate) fn compact_string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.compact_nullable_string(field)?
            .ok_or(DecodeError::Invalid {
                field,
                reason: "null where text must be",
            })
    }

    /// The length of a compact array whose elements have `element_size` bytes at least.
    pub(crate) fn length(
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

    pub(crate) fn int32_set(&mut self, field: &'static str) -> Result<BTreeSet<i32>, DecodeError> {
        let length = self.length(4, field)?;
        (0..length).map(|_| self.int32(field)).collect()
    }

    /// Passes over tagged fields, which newer versions may have added.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        const FIELD: &str = "tagged fields";
        for _ in 0..self.unsigned_varint(FIELD)? {
            self.unsigned_varint(FIELD)?;
            let size = self.unsigned_varint(FIELD)?;
            self.take(size as usize, FIELD)?;
        }
        Ok(())
    }

    /// Checks that everything was read.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes {
                left: self.rest.len(),
            })
        }
    }
}
