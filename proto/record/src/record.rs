//! Records inside a batch, read where they lie.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!   | key length varint | key | value length varint | value | header count varint
//!   | (header key length varint | key | value length varint | value)*
//! ```
//! A length of -1 is null. [`RecordViews`] lends slices, [`Records`] hands out [`Bytes`] that share
//! one buffer. Both yield a fault as an item and end after it. Invariant of every record handed out:
//! its parts fill its length exactly, headers included, so that walking them cannot fail.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{BatchError, InvalidRecord};
use crate::header::{BatchHeader, TimestampType};
use crate::ids::Offset;
use crate::varint::{read_varint, read_varlong};

/// What of the batch header a record needs to be understood.
#[derive(Debug, Clone, Copy)]
struct Frame {
    base_offset: Offset,
    base_timestamp_ms: i64,
    /// The append time if it overrides the records' own timestamps.
    append_time_ms: Option<i64>,
    record_count: i32,
}

impl Frame {
    fn of(header: &BatchHeader) -> Self {
        let append_time_ms = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp_ms),
        };
        Self {
            base_offset: header.base_offset,
            base_timestamp_ms: header.base_timestamp_ms,
            append_time_ms,
            record_count: header.record_count,
        }
    }

    fn timestamp_ms(&self, delta: i64) -> i64 {
        self.append_time_ms
            .unwrap_or_else(|| self.base_timestamp_ms.saturating_add(delta))
    }
}

/// The numbers of one record and where its parts lie in the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordLayout {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    /// Start and end of the key; equal to `None` when it is null.
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    header_count: i32,
    headers_start: usize,
    /// Where the next record begins.
    pub(crate) end: usize,
}

impl RecordLayout {
    pub(crate) const fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Reads the record at `start` of `payload`. Checks that its parts fill its length exactly.
#[inline]
pub(crate) fn read_layout(payload: &[u8], start: usize) -> Result<RecordLayout, &'static str> {
    let mut position = start;
    let length = read_varint(payload, &mut position).ok_or("length is cut short or too long")?;
    let length = usize::try_from(length).map_err(|_| "length is negative")?;
    if length > payload.len() - position {
        return Err("length goes beyond the batch");
    }
    let end = position + length;
    let body = &payload[..end];
    if position == end {
        return Err("record is empty");
    }
    position += 1; // attributes: no bit of them is in use
    let timestamp_delta = read_varlong(body, &mut position).ok_or("timestamp delta is broken")?;
    let offset_delta = read_varint(body, &mut position).ok_or("offset delta is broken")?;
    let key = read_nullable(body, &mut position).ok_or("key length is broken")?;
    let value = read_nullable(body, &mut position).ok_or("value length is broken")?;
    let header_count = read_varint(body, &mut position).ok_or("header count is broken")?;
    if header_count < 0 {
        return Err("header count is negative");
    }
    let headers_start = position;
    for _ in 0..header_count {
        read_nullable(body, &mut position)
            .flatten()
            .ok_or("header key is broken")?;
        read_nullable(body, &mut position).ok_or("header value is broken")?;
    }
    if position != end {
        return Err("record has bytes behind its headers");
    }
    Ok(RecordLayout {
        timestamp_delta,
        offset_delta,
        key,
        value,
        header_count,
        headers_start,
        end,
    })
}

/// Reads a length and skips as many bytes; the inner `None` is null.
#[inline]
#[allow(clippy::option_option, reason = "outer: cut short; inner: null")]
fn read_nullable(body: &[u8], position: &mut usize) -> Option<Option<(usize, usize)>> {
    let length = read_varint(body, position)?;
    if length < 0 {
        return (length == -1).then_some(None);
    }
    let start = *position;
    let length = length as usize;
    if length > body.len() - start {
        return None;
    }
    *position = start + length;
    Some(Some((start, *position)))
}

/// A record in borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp in ms since the epoch: the producer's, or the append time.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none marks a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    header_count: i32,
    headers: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The headers in the order of the producer, repeated keys kept.
    pub fn headers(&self) -> impl Iterator<Item = RecordHeaderView<'a>> + use<'a> {
        let headers = self.headers;
        let mut position = 0;
        (0..self.header_count).map_while(move |_| {
            let (key_start, key_end) = read_nullable(headers, &mut position).flatten()?;
            let value = read_nullable(headers, &mut position)?;
            Some(RecordHeaderView {
                key: &headers[key_start..key_end],
                value: value.map(|(start, end)| &headers[start..end]),
            })
        })
    }

    /// How many headers there are.
    pub const fn header_count(&self) -> i32 {
        self.header_count
    }

    /// The headers as they are encoded, without their count.
    pub(crate) const fn encoded_headers(&self) -> &'a [u8] {
        self.headers
    }
}

/// A record header in borrowed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeaderView<'a> {
    /// The key: UTF-8 by Kafka's rule, which nobody enforces.
    pub key: &'a [u8],
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeaderView<'a> {
    /// The key as text; what is not UTF-8 in it is replaced, as Kafka's clients do.
    pub fn key_str(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// The records of one batch, borrowed.
#[derive(Debug, Clone)]
pub struct RecordViews<'a> {
    payload: &'a [u8],
    cursor: Cursor,
}

impl<'a> RecordViews<'a> {
    /// The records in `payload`, which is what follows `header`, decompressed.
    pub fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        Self {
            payload,
            cursor: Cursor::new(header),
        }
    }
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let payload = self.payload;
        let layout = match self.cursor.advance(payload)? {
            Ok(layout) => layout,
            Err(fault) => return Some(Err(fault.into())),
        };
        let slice = |(start, end): (usize, usize)| &payload[start..end];
        Some(Ok(RecordView {
            offset: self.cursor.frame.base_offset + i64::from(layout.offset_delta),
            offset_delta: layout.offset_delta,
            timestamp_ms: self.cursor.frame.timestamp_ms(layout.timestamp_delta),
            key: layout.key.map(slice),
            value: layout.value.map(slice),
            header_count: layout.header_count,
            headers: &payload[layout.headers_start..layout.end],
        }))
    }
}

/// A record whose parts share the buffer of their batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp in ms since the epoch: the producer's, or the append time.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; none marks a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in the order of the producer, repeated keys kept.
    pub headers: Vec<RecordHeader>,
}

impl Record {
    /// The value of the last header with this key, as Kafka's `lastHeader`. The inner `None` is a
    /// header without a value.
    #[allow(
        clippy::option_option,
        reason = "outer: no such header; inner: null value"
    )]
    pub fn last_header(&self, key: &str) -> Option<Option<&Bytes>> {
        let header = self.headers.iter().rev().find(|header| header.key == key)?;
        Some(header.value.as_ref())
    }
}

/// A record header that shares the buffer of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key: UTF-8 by Kafka's rule, which nobody enforces.
    pub key: Bytes,
    /// The value, if it has one.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// The key as text; what is not UTF-8 in it is replaced, as Kafka's clients do.
    pub fn key_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// The records of one batch, owned.
#[derive(Debug, Clone)]
pub struct Records {
    payload: Bytes,
    cursor: Cursor,
}

impl Records {
    /// The records in `payload`, which is what follows `header`, decompressed.
    pub fn new(header: &BatchHeader, payload: Bytes) -> Self {
        Self {
            payload,
            cursor: Cursor::new(header),
        }
    }

    fn headers(&self, layout: &RecordLayout) -> Vec<RecordHeader> {
        let mut position = layout.headers_start;
        let body = &self.payload[..layout.end];
        let slice = |(start, end): (usize, usize)| self.payload.slice(start..end);
        (0..layout.header_count)
            .map_while(|_| {
                let key = read_nullable(body, &mut position).flatten()?;
                let value = read_nullable(body, &mut position)?;
                Some(RecordHeader {
                    key: slice(key),
                    value: value.map(slice),
                })
            })
            .collect()
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let layout = match self.cursor.advance(&self.payload)? {
            Ok(layout) => layout,
            Err(fault) => return Some(Err(fault.into())),
        };
        let slice = |(start, end): (usize, usize)| self.payload.slice(start..end);
        Some(Ok(Record {
            offset: self.cursor.frame.base_offset + i64::from(layout.offset_delta),
            timestamp_ms: self.cursor.frame.timestamp_ms(layout.timestamp_delta),
            key: layout.key.map(slice),
            value: layout.value.map(slice),
            headers: self.headers(&layout),
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.cursor.size_hint(self.payload.len())
    }
}

/// A place in a payload; shared by the borrowed and the owned iterator.
#[derive(Debug, Clone)]
struct Cursor {
    frame: Frame,
    index: i32,
    position: usize,
    failed: bool,
}

/// The least bytes a record takes: length, attributes, two deltas, two nulls, header count.
pub(crate) const MIN_RECORD_SIZE: usize = 7;

impl Cursor {
    fn new(header: &BatchHeader) -> Self {
        Self {
            frame: Frame::of(header),
            index: 0,
            position: 0,
            failed: false,
        }
    }

    fn advance(&mut self, payload: &[u8]) -> Option<Result<RecordLayout, InvalidRecord>> {
        if self.failed {
            return None;
        }
        let index = self.index;
        if index == self.frame.record_count {
            if self.position == payload.len() {
                return None;
            }
            self.failed = true;
            return Some(Err(InvalidRecord {
                index,
                reason: "bytes follow the last record",
            }));
        }
        match read_layout(payload, self.position) {
            Ok(layout) => {
                self.index += 1;
                self.position = layout.end;
                Some(Ok(layout))
            }
            Err(reason) => {
                self.failed = true;
                Some(Err(InvalidRecord { index, reason }))
            }
        }
    }

    /// At most as many records as the bytes can hold: the count may lie.
    fn size_hint(&self, payload_size: usize) -> (usize, Option<usize>) {
        let declared = (self.frame.record_count - self.index) as usize;
        let possible = (payload_size - self.position) / MIN_RECORD_SIZE;
        (0, Some(declared.min(possible) + 1))
    }
}
