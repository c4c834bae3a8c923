//! Where messages are written: small parts side by side in one buffer, large byte strings as they
//! are, so that records go from the log or the network to the socket without a copy.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// Byte strings from this size on are kept as pieces of their own.
const SHARED_FROM: usize = 1024;

/// A list of buffers under construction.
#[derive(Debug, Default)]
pub struct Gather {
    buffer: BytesMut,
    pieces: Vec<Piece>,
    /// Where the part of `buffer` begins that no piece covers yet.
    open: usize,
    /// Bytes in shared pieces.
    shared: usize,
}

#[derive(Debug)]
enum Piece {
    Buffer(Range<usize>),
    Shared(Bytes),
}

impl Gather {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.shared
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes in.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Takes bytes over, without a copy when they are many.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_FROM {
            self.put(bytes);
            return;
        }
        self.close_piece();
        self.shared += bytes.len();
        self.pieces.push(Piece::Shared(bytes.clone()));
    }

    /// An unsigned integer of seven bits a byte, least significant first.
    pub(crate) fn put_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// All pieces of another list.
    pub(crate) fn append(&mut self, other: Self) {
        for piece in other.into_pieces() {
            self.put_shared(&piece);
        }
    }

    /// Overwrites four bytes at the start, which must have been put before anything else.
    pub(crate) fn set_prefix(&mut self, prefix: [u8; 4]) {
        self.buffer[..4].copy_from_slice(&prefix);
    }

    fn close_piece(&mut self) {
        let end = self.buffer.len();
        if self.open < end {
            self.pieces.push(Piece::Buffer(self.open..end));
            self.open = end;
        }
    }

    /// The buffers in order, none of them empty, for one vectored write.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.close_piece();
        let buffer = self.buffer.freeze();
        let pieces = self.pieces.into_iter().map(|piece| match piece {
            Piece::Buffer(range) => buffer.slice(range),
            Piece::Shared(bytes) => bytes,
        });
        pieces.collect()
    }

    /// Everything in one buffer: a copy, unless there is only one piece.
    pub fn into_bytes(self) -> Bytes {
        let mut pieces = self.into_pieces();
        match pieces.len() {
            1 => pieces.remove(0),
            _ => pieces.concat().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_byte_strings_are_not_copied() {
        let records = Bytes::from(vec![7; SHARED_FROM]);
        let mut out = Gather::new();
        out.put(b"before");
        out.put_shared(&records);
        out.put(b"after");
        assert_eq!(out.len(), 11 + SHARED_FROM);
        let pieces = out.into_pieces();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), records.as_ptr());
        assert_eq!(
            (&pieces[0][..], &pieces[2][..]),
            (&b"before"[..], &b"after"[..])
        );
    }

    #[test]
    fn small_byte_strings_lie_in_one_buffer() {
        let mut out = Gather::new();
        out.put(b"a");
        out.put_shared(&Bytes::from_static(b"b"));
        out.put_shared(&Bytes::new());
        assert_eq!(out.into_pieces(), [Bytes::from_static(b"ab")]);
        assert!(Gather::new().into_pieces().is_empty());
    }
}
