//! Kafka's flexible encoding, as metadata records use it: every length is checked against the bytes
//! that are left.

use thiserror::Error;
use uuid::Uuid;

/// The bytes of a record do not hold what its type says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("metadata record is malformed: {0}")]
pub struct MalformedRecord(pub(super) String);

/// A cursor over a record.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

type Result<T> = std::result::Result<T, MalformedRecord>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let left = self.bytes.len();
        let Some((taken, rest)) = self.bytes.split_at_checked(size) else {
            return Err(MalformedRecord(format!(
                "{size} bytes are expected, {left} are left"
            )));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn int8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub(super) fn int32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn int64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn float64(&mut self) -> Result<f64> {
        self.array().map(f64::from_be_bytes)
    }

    pub(super) fn boolean(&mut self) -> Result<bool> {
        self.int8().map(|byte| byte != 0)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    /// An unsigned number of seven bits a byte.
    pub(super) fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(MalformedRecord("a number is too long".to_owned()))
    }

    /// A length that may be missing.
    pub(super) fn length(&mut self) -> Result<Option<usize>> {
        let length_plus_one = self.varint()?;
        Ok(length_plus_one.checked_sub(1).map(|length| length as usize))
    }

    pub(super) fn nullable_text(&mut self) -> Result<Option<String>> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let bytes = self.take(length)?.to_vec();
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| MalformedRecord("a text is not UTF-8".to_owned()))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        self.nullable_text().map(Option::unwrap_or_default)
    }

    pub(super) fn numbers(&mut self) -> Result<Option<Vec<i32>>> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        // The bytes that are left bound the loop, not the count.
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(self.int32()?);
        }
        Ok(Some(numbers))
    }

    /// The section of tagged fields: `see` gets each tag with its value.
    pub(super) fn tagged(
        &mut self,
        mut see: impl FnMut(u32, &mut Reader<'a>) -> Result<()>,
    ) -> Result<()> {
        let count = self.varint()?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            see(tag, &mut Reader::new(self.take(size)?))?;
        }
        Ok(())
    }
}
