//! One batch, or a row of batches, where the bytes lie.
//!
//! [`BatchView`] borrows, [`Batch`] owns a slice of [`Bytes`]; both know that the bytes are exactly
//! one batch with a sound header, and neither has looked at the CRC or the records until asked.
//! [`Batches`] and [`OwnedBatches`] walk a buffer, as a fetch answer or a segment gives it, and
//! report a tail that is no whole batch as [`Truncated`] with its position.

use bytes::Bytes;

use crate::checksum::crc32c;
use crate::compression::{Codec, Decompressor};
use crate::error::{BatchError, CorruptCrc, Truncated};
use crate::header::{BatchHeader, CRC_START, HEADER_SIZE};
use crate::record::{RecordViews, Records};

/// A batch in borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// [`Truncated`] when the batch does not end within `bytes`, and what
    /// [`BatchHeader::parse`] finds.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let batch = bytes.get(..header.size()).ok_or_else(|| Truncated {
            position: 0,
            needed: header.size(),
            available: bytes.len(),
        })?;
        Ok(Self {
            header,
            bytes: batch,
        })
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, compressed as the attributes say.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_SIZE..]
    }

    /// Checks the CRC.
    ///
    /// # Errors
    /// [`CorruptCrc`] with both values.
    pub fn verify_crc(&self) -> Result<(), CorruptCrc> {
        verify_crc(&self.header, self.bytes)
    }

    /// The records, without copying if they are not compressed, otherwise from the decompressor's
    /// buffer.
    ///
    /// # Errors
    /// [`DecompressedTooLarge`](crate::error::DecompressedTooLarge) beyond `max_bytes`, or what the
    /// codec finds. A fault within a record is an item of the iterator.
    pub fn records<'b>(
        &self,
        decompressor: &'b mut Decompressor,
        max_bytes: usize,
    ) -> Result<RecordViews<'b>, BatchError>
    where
        'a: 'b,
    {
        let codec = self.header.codec()?;
        let payload = match codec {
            Codec::None => self.payload(),
            _ => decompressor.decompress(codec, self.payload(), max_bytes)?,
        };
        Ok(RecordViews::new(&self.header, payload))
    }
}

/// A batch in shared bytes; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch at the start of `bytes`; what follows it is dropped.
    ///
    /// # Errors
    /// As [`BatchView::parse`].
    pub fn parse(mut bytes: Bytes) -> Result<Self, BatchError> {
        Self::split_from(&mut bytes)
    }

    /// Takes the batch at the start of `bytes` and leaves what follows it there.
    ///
    /// # Errors
    /// As [`BatchView::parse`]; `bytes` is unchanged then.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let header = BatchView::parse(bytes)?.header;
        Ok(Self {
            header,
            bytes: bytes.split_to(header.size()),
        })
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, without the parsed header.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same batch, borrowed.
    pub fn view(&self) -> BatchView<'_> {
        BatchView {
            header: self.header,
            bytes: &self.bytes,
        }
    }

    /// Checks the CRC.
    ///
    /// # Errors
    /// [`CorruptCrc`] with both values.
    pub fn verify_crc(&self) -> Result<(), CorruptCrc> {
        verify_crc(&self.header, &self.bytes)
    }

    /// The records; keys and values are slices of this batch's bytes, or of the one buffer that
    /// they are decompressed into.
    ///
    /// # Errors
    /// [`DecompressedTooLarge`](crate::error::DecompressedTooLarge) beyond `max_bytes`, or what the
    /// codec finds. A fault within a record is an item of the iterator.
    pub fn records(
        &self,
        decompressor: &mut Decompressor,
        max_bytes: usize,
    ) -> Result<Records, BatchError> {
        let codec = self.header.codec()?;
        let payload = match codec {
            Codec::None => self.bytes.slice(HEADER_SIZE..),
            _ => decompressor.decompress_owned(codec, &self.bytes[HEADER_SIZE..], max_bytes)?,
        };
        Ok(Records::new(&self.header, payload))
    }
}

fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), CorruptCrc> {
    let computed = crc32c(&batch[CRC_START..]);
    if computed == header.crc {
        Ok(())
    } else {
        Err(CorruptCrc {
            stored: header.crc,
            computed,
        })
    }
}

/// The batches of a buffer, one after the other. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    buffer: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Walks `buffer` from its start.
    pub const fn new(buffer: &'a [u8]) -> Self {
        Self {
            buffer,
            position: 0,
            failed: false,
        }
    }

    /// Where the next batch begins; after an error, where the faulty one does.
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position == self.buffer.len() {
            return None;
        }
        let result = BatchView::parse(&self.buffer[self.position..]);
        match &result {
            Ok(batch) => self.position += batch.bytes.len(),
            Err(_) => self.failed = true,
        }
        Some(result.map_err(|error| at_position(error, self.position)))
    }
}

/// The batches of a shared buffer, one after the other. Ends after the first error.
#[derive(Debug, Clone)]
pub struct OwnedBatches {
    rest: Bytes,
    position: usize,
    failed: bool,
}

impl OwnedBatches {
    /// Walks `buffer` from its start.
    pub const fn new(buffer: Bytes) -> Self {
        Self {
            rest: buffer,
            position: 0,
            failed: false,
        }
    }

    /// Where the next batch begins; after an error, where the faulty one does.
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for OwnedBatches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let result = Batch::split_from(&mut self.rest);
        match &result {
            Ok(batch) => self.position += batch.bytes.len(),
            Err(_) => self.failed = true,
        }
        Some(result.map_err(|error| at_position(error, self.position)))
    }
}

fn at_position(error: BatchError, position: usize) -> BatchError {
    match error {
        BatchError::Truncated(truncated) => Truncated {
            position,
            ..truncated
        }
        .into(),
        other => other,
    }
}
