//! The writing side of a connection: replies as lists of buffers, written many at a time.
//!
//! Records stand in the buffers they were read into until the socket has taken them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use conveyor_kafka::Gather;
use tokio::net::TcpStream;

/// Buffers given to the system at a time.
const SLICES_MAX: usize = 64;

/// Bytes that the socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbound {
    /// Adds a reply.
    pub(super) fn push(&mut self, reply: Gather) {
        self.bytes += reply.len();
        self.pieces.extend(reply.into_pieces());
    }

    /// Bytes waiting.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether all is written.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes as much as the socket takes, waiting until it takes something. Cancel-safe.
    pub(super) async fn write_some(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.is_empty() {
            match self.write_now(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_now(&self, stream: &TcpStream) -> io::Result<usize> {
        if self.pieces.len() == 1 {
            return stream.try_write(&self.pieces[0]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.pieces.len().min(SLICES_MAX);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        stream.try_write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > written {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        // What carried a large reply is not kept for small ones.
        if self.pieces.capacity() > SLICES_MAX {
            self.pieces = VecDeque::new();
        }
    }
}
