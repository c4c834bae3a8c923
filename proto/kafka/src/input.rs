//! A cursor over a frame. Nothing is believed: every length and count is checked against the bytes
//! that are left before anything is allocated for it.

use bytes::Bytes;

use crate::error::{DecodeError, Fault};
use crate::schema::{Field, Layout};

/// The bytes of a frame, and how far they have been read.
///
/// Byte strings and texts that are taken out are slices of the frame, not copies.
#[derive(Debug, Clone)]
pub struct Input {
    bytes: Bytes,
    position: usize,
    end: usize,
    /// Bytes that the elements of arrays may still take in memory.
    budget: usize,
}

/// What the elements of arrays may take in memory, as a multiple of the frame: real requests take
/// one to three times their size, empty texts and structures made up for the purpose fifty times.
const BUDGET_FACTOR: usize = 8;
/// What they may take in any case.
const BUDGET_MIN: usize = 1 << 20;

impl From<Bytes> for Input {
    fn from(bytes: Bytes) -> Self {
        let end = bytes.len();
        Self {
            bytes,
            position: 0,
            end,
            budget: BUDGET_MIN.max(end.saturating_mul(BUDGET_FACTOR)),
        }
    }
}

impl Input {
    /// A cursor at the first byte.
    pub fn new(bytes: Bytes) -> Self {
        Self::from(bytes)
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    pub(crate) fn error(&self, fault: Fault, field: &'static Field) -> DecodeError {
        DecodeError::new(fault, field, self.position)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static Field,
    ) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.position..self.end];
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(self.ends(N, field));
        };
        let taken = *taken;
        self.position += N;
        Ok(taken)
    }

    /// The next `size` bytes as a slice of the frame.
    pub(crate) fn slice(
        &mut self,
        size: usize,
        field: &'static Field,
    ) -> Result<Bytes, DecodeError> {
        if size > self.remaining() {
            return Err(self.ends(size, field));
        }
        let taken = self.bytes.slice(self.position..self.position + size);
        self.position += size;
        Ok(taken)
    }

    /// A cursor over the next `size` bytes alone, which are skipped here.
    fn split(&mut self, size: usize, field: &'static Field) -> Result<Self, DecodeError> {
        if size > self.remaining() {
            return Err(self.ends(size, field));
        }
        let part = Self {
            bytes: self.bytes.clone(),
            position: self.position,
            end: self.position + size,
            budget: self.budget,
        };
        self.position += size;
        Ok(part)
    }

    fn ends(&self, needed: usize, field: &'static Field) -> DecodeError {
        let left = self.remaining();
        self.error(Fault::Ends { needed, left }, field)
    }

    /// An unsigned integer of seven bits a byte, least significant first.
    pub(crate) fn varint(&mut self, field: &'static Field) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(field)?;
            if shift == 28 && byte > 0x0f {
                return Err(self.error(Fault::Varint, field));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// The length of a text, 16 bits in old layouts. `None` is null.
    pub(crate) fn text_length(
        &mut self,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<usize>, DecodeError> {
        if layout.flexible {
            self.compact_length(field)
        } else {
            let length = i16::from_be_bytes(self.array(field)?);
            self.fixed_length(i32::from(length), field)
        }
    }

    /// The length of a byte string or the count of an array, 32 bits in old layouts. `None` is null.
    pub(crate) fn length(
        &mut self,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<usize>, DecodeError> {
        if layout.flexible {
            self.compact_length(field)
        } else {
            let length = i32::from_be_bytes(self.array(field)?);
            self.fixed_length(length, field)
        }
    }

    fn compact_length(&mut self, field: &'static Field) -> Result<Option<usize>, DecodeError> {
        let length_plus_one = self.varint(field)?;
        Ok(length_plus_one.checked_sub(1).map(|length| length as usize))
    }

    fn fixed_length(
        &self,
        length: i32,
        field: &'static Field,
    ) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| self.error(Fault::NegativeLength(length), field)),
        }
    }

    /// The count of an array whose elements take `element_size` bytes each in memory. On the wire
    /// an element takes a byte or more, so there are no more of them than bytes.
    pub(crate) fn count(
        &mut self,
        element_size: usize,
        layout: Layout,
        field: &'static Field,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(layout, field)? else {
            return Ok(None);
        };
        let left = self.remaining();
        if count > left {
            return Err(self.error(Fault::Count { count, left }, field));
        }
        match self.budget.checked_sub(count.saturating_mul(element_size)) {
            Some(budget) => self.budget = budget,
            None => return Err(self.error(Fault::Memory { count }, field)),
        }
        Ok(Some(count))
    }

    /// The section of tagged fields. `known` reads the value of a tag that it knows and says so;
    /// the values of other tags are skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        known: &mut dyn FnMut(u32, &mut Input) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        const FIELD: &Field = &Field::new(
            "tagged fields",
            "section",
            crate::schema::Kind::Bytes,
            crate::schema::Versions::since(0),
        );
        let count = self.varint(FIELD)? as usize;
        let left = self.remaining();
        if count > left {
            return Err(self.error(Fault::Count { count, left }, FIELD));
        }
        for _ in 0..count {
            let tag = self.varint(FIELD)?;
            let size = self.varint(FIELD)? as usize;
            let mut value = self.split(size, FIELD)?;
            if known(tag, &mut value)? && value.remaining() > 0 {
                return Err(value.error(Fault::TaggedSize(value.remaining()), FIELD));
            }
            self.budget = value.budget;
        }
        Ok(())
    }
}
