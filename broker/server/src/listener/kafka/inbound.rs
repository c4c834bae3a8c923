//! The reading side of a connection: bytes in, whole frames out.
//!
//! An idle connection has no buffer. What arrives is read into one that may hold many small frames,
//! which are slices of it; a large frame that has not arrived whole gets memory of its own, of the
//! right size, after the node's [`RequestMemory`] has room for it. A length is checked against
//! `socket.request.max.bytes` before anything is done about it.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use conveyor_kafka::frame::{PREFIX_SIZE, frame_size};
use conveyor_kafka::{ApiKey, FrameError};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::pace::Pace;
use crate::request_memory::{LargeFrame, RequestMemory};

/// What a buffer starts with.
const BUFFER_MIN: usize = 8 * 1024;
/// What it grows to while the client sends more than fits.
const BUFFER_MAX: usize = 64 * 1024;
/// Frames up to this size may wait for their end in the buffer.
const SMALL_MAX: usize = BUFFER_MAX / 2;
/// Largest frame that is no produced batch, whatever `socket.request.max.bytes` allows: the lists in
/// it take many times its size once they are read. Offsets of 100,000 partitions fit.
const LISTS_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one connection that are not frames yet.
#[derive(Debug)]
pub(super) struct Inbound {
    buffer: BytesMut,
    /// How much the next read may bring at once.
    capacity: usize,
    /// A frame that does not fit the buffer, while it arrives.
    large: Option<Arriving>,
    frame_bytes_max: usize,
}

/// A large frame, and how fast it comes.
#[derive(Debug)]
struct Arriving {
    frame: LargeFrame,
    pace: Pace,
}

impl Inbound {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            capacity: BUFFER_MIN,
            large: None,
            frame_bytes_max,
        }
    }

    /// Whether part of a large frame has arrived, which holds memory that others may need.
    pub(super) fn is_within_large_frame(&self) -> bool {
        self.large.is_some()
    }

    /// Whether others wait for the memory of a frame that comes too slowly.
    pub(super) fn is_in_the_way(&mut self) -> bool {
        self.large.as_mut().is_some_and(|Arriving { frame, pace }| {
            pace.is_slow(frame.missing(), Instant::now()) && frame.is_in_demand()
        })
    }

    /// The next frame that has arrived whole, without its length; `None` if there is none.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(large) = self.large.take_if(|large| large.frame.missing() == 0) {
            return Ok(Some(large.frame.into_bytes()));
        }
        match self.announced()? {
            Some(size) if self.buffer.len() >= PREFIX_SIZE + size => {
                self.buffer.advance(PREFIX_SIZE);
                Ok(Some(self.buffer.split_to(size).freeze()))
            }
            _ => Ok(None),
        }
    }

    /// Whether a whole frame has arrived.
    pub(super) fn holds_frame(&self) -> Result<bool, FrameError> {
        if let Some(large) = &self.large {
            return Ok(large.frame.missing() == 0);
        }
        let announced = self.announced()?;
        Ok(announced.is_some_and(|size| self.buffer.len() >= PREFIX_SIZE + size))
    }

    /// The size of the frame at the front of the buffer, once its length is there.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        if self.large.is_some() {
            return Ok(None);
        }
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_SIZE>() else {
            return Ok(None);
        };
        let size = frame_size(*prefix, self.frame_bytes_max)?;
        if size <= LISTS_MAX {
            return Ok(Some(size));
        }
        let key = self.buffer[PREFIX_SIZE..].first_chunk::<2>();
        match key.map(|key| i16::from_be_bytes(*key)) {
            // What it is will come in a moment.
            None => Ok(None),
            Some(key) if key == ApiKey::Produce.code() => Ok(Some(size)),
            Some(_) => Err(FrameError::TooLarge {
                size,
                max: LISTS_MAX,
            }),
        }
    }

    /// Waits for more bytes; false at the end of the stream. Cancel-safe.
    pub(super) async fn fill(
        &mut self,
        stream: &TcpStream,
        memory: &RequestMemory,
    ) -> io::Result<bool> {
        if let Ok(Some(size)) = self.announced()
            && size > SMALL_MAX
            && size > self.buffer.len() - PREFIX_SIZE
        {
            let mut frame = memory.frame(size).await;
            self.buffer.advance(PREFIX_SIZE);
            frame.bytes.put_slice(&self.buffer);
            self.buffer = BytesMut::new();
            let pace = Pace::begin(size, Instant::now());
            self.large = Some(Arriving { frame, pace });
        }
        loop {
            // Waits without a buffer: that is what an idle connection does.
            self.release();
            stream.readable().await?;
            match self.read_now(stream) {
                Ok(bytes) => return Ok(bytes > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_now(&mut self, stream: &TcpStream) -> io::Result<usize> {
        if let Some(Arriving { frame, .. }) = &mut self.large {
            let missing = frame.missing();
            return stream.try_read_buf(&mut (&mut frame.bytes).limit(missing));
        }
        let room = self.capacity.saturating_sub(self.buffer.len());
        let room = room.max(BUFFER_MIN);
        self.buffer.reserve(room);
        let bytes = stream.try_read_buf(&mut (&mut self.buffer).limit(room))?;
        if bytes == room {
            self.capacity = BUFFER_MAX;
        } else if bytes < BUFFER_MIN {
            self.capacity = BUFFER_MIN;
        }
        Ok(bytes)
    }

    /// Gives the buffer back if there is nothing in it.
    fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}
