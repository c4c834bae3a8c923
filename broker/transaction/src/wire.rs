//! The primitive encodings of Kafka's stored records, written and read within bounds.
//!
//! Plain strings have a 16-bit length; flexible versions use unsigned varints, where a length is
//! stored plus one and 0 means null, and tagged fields at the end of each structure. A reader never
//! allocates by a length it has not yet found the bytes for.

use crate::record::DecodeError;

/// Appends primitives to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn version(version: i16) -> Self {
        let mut writer = Self::default();
        writer.int16(version);
        writer
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
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
        self.int16(length.unwrap_or(i16::MAX));
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn compact_string(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// The length of a compact string or array.
    pub(crate) fn length(&mut self, length: usize) {
        self.unsigned_varint(length as u32 + 1);
    }

    /// A tagged field.
    pub(crate) fn tagged(&mut self, tag: u32, value: &[u8]) {
        self.unsigned_varint(tag);
        self.unsigned_varint(value.len() as u32);
        self.bytes.extend_from_slice(value);
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
        let length = usize::try_from(self.int16(field)?).map_err(|_| null(field))?;
        self.text(length, field)
    }

    pub(crate) fn compact_string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = self
            .unsigned_varint(field)?
            .checked_sub(1)
            .ok_or_else(|| null(field))?;
        self.text(length as usize, field)
    }

    /// The length of a nullable array whose elements have `element_size` bytes at least: behind a
    /// varint when `flexible`, else behind 32 bits. Null counts as empty.
    pub(crate) fn length(
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

    /// Calls `take` with the tag and the bytes of each tagged field.
    pub(crate) fn tagged_fields(
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

fn null(field: &'static str) -> DecodeError {
    DecodeError::Invalid {
        field,
        reason: "null where text must be",
    }
}
