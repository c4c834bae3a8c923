//! The five codecs of the format, with limits.
//!
//! Gzip and zstd are their own formats, lz4 is the frame format, and snappy is raw blocks in the
//! framing of the xerial library, as Kafka's Java clients write it; raw snappy without framing is
//! read too, since librdkafka and others send it.
//!
//! Decompressing takes a limit from the caller and never produces more bytes than that. The output
//! grows with what was really decoded, whatever a header in the data declares; beside it a codec
//! keeps its own window: at most 8 MiB for lz4, and for zstd what the frame declares, at most 128 MiB
//! of address space of which no more is touched than was decoded. [`Compressor`] and [`Decompressor`] keep their contexts and buffers between batches,
//! because making one costs more than a small batch does; keep one a thread or connection.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use zstd::zstd_safe;

use crate::error::{BatchError, Compression, DecompressedTooLarge, Decompression};

/// How the records of a batch are compressed (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// Snappy in xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// All codecs, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id in the batch attributes.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its id in the batch attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Its name in Kafka's settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The level used when none is asked for: zstd 1, which on JSON events is as fast as lz4 and
    /// packs twice as tight; gzip 6, its own default. The others have no levels.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::Gzip => 6,
            Self::Zstd => 1,
            Self::None | Self::Snappy | Self::Lz4 => 0,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown codec {name:?}, expected none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCodecName {
    /// The name given.
    pub name: String,
}

impl FromStr for Codec {
    type Err = UnknownCodecName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCodecName {
                name: name.to_owned(),
            })
    }
}

/// Bytes a snappy block is made of, as in Java's `SnappyOutputStream`.
const SNAPPY_BLOCK_SIZE: usize = 32 * 1024;
/// Magic, version 1, oldest compatible version 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// The part of it that tells the framing from raw snappy.
const XERIAL_MAGIC_SIZE: usize = 8;
/// Snappy's best is a copy of 64 bytes in 3; a declared size beyond this many times the block's is
/// a lie.
const SNAPPY_RATIO_MAX: usize = 22;

/// Bytes an lz4 block is made of, as in Kafka's `Lz4BlockOutputStream`.
const LZ4_BLOCK_SIZE: usize = 64 * 1024;
/// Magic; version 1, independent blocks, no checksums; blocks of 64 KiB; checksum of the header.
const LZ4_FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Set in a block's size when the block is not compressed.
const LZ4_STORED_BIT: u32 = 1 << 31;

/// The first and the least step by which an output buffer grows.
const GROWTH_MIN: usize = 64 * 1024;
/// A codec's own word on its output's size is taken up to this many times the input's.
const TRUSTED_RATIO: usize = 32;
/// A buffer larger than this is given back after use.
const KEPT_BUFFER_MAX: usize = 4 * 1024 * 1024;

/// Compresses one batch after another, with contexts and buffer reused.
#[derive(Default)]
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    snappy: Option<snap::raw::Encoder>,
    lz4: Option<lz4_flex::block::CompressTable>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor without contexts; each is made when its codec is first used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses `input` into the own buffer and lends it. `level` is the codec's own scale,
    /// [`Codec::default_level`] if none.
    ///
    /// # Errors
    /// [`Compression`] when the codec refuses, as for a level it does not know.
    pub fn compress(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        input: &[u8],
    ) -> Result<&[u8], BatchError> {
        if self.buffer.capacity() > KEPT_BUFFER_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        let level = level.unwrap_or_else(|| codec.default_level());
        match codec {
            Codec::None => self.buffer.extend_from_slice(input),
            Codec::Gzip => self.gzip(level, input)?,
            Codec::Snappy => self.snappy(input)?,
            Codec::Lz4 => self.lz4(input)?,
            Codec::Zstd => self.zstd(level, input)?,
        }
        Ok(&self.buffer)
    }

    fn gzip(&mut self, level: i32, input: &[u8]) -> Result<(), BatchError> {
        let level = u32::try_from(level)
            .ok()
            .filter(|level| *level <= 9)
            .ok_or_else(|| refused(Codec::Gzip, "level is not within 0 to 9"))?;
        let mut encoder = GzEncoder::new(&mut self.buffer, flate2::Compression::new(level));
        encoder
            .write_all(input)
            .and_then(|()| encoder.try_finish())
            .map_err(|error| refused(Codec::Gzip, error))
    }

    fn snappy(&mut self, input: &[u8]) -> Result<(), BatchError> {
        let encoder = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
        let out = &mut self.buffer;
        out.extend_from_slice(&XERIAL_HEADER);
        for block in input.chunks(SNAPPY_BLOCK_SIZE) {
            let start = out.len() + 4;
            out.resize(start + snap::raw::max_compress_len(block.len()), 0);
            let size = encoder
                .compress(block, &mut out[start..])
                .map_err(|error| refused(Codec::Snappy, error))?;
            out[start - 4..start].copy_from_slice(&(size as u32).to_be_bytes());
            out.truncate(start + size);
        }
        Ok(())
    }

    fn lz4(&mut self, input: &[u8]) -> Result<(), BatchError> {
        let table = self
            .lz4
            .get_or_insert_with(lz4_flex::block::CompressTable::large);
        let out = &mut self.buffer;
        out.extend_from_slice(&LZ4_FRAME_HEADER);
        for block in input.chunks(LZ4_BLOCK_SIZE) {
            let start = out.len() + 4;
            let bound = lz4_flex::block::get_maximum_output_size(block.len());
            out.resize(start + bound, 0);
            let size = lz4_flex::block::compress_into_with_table(block, &mut out[start..], table)
                .map_err(|error| refused(Codec::Lz4, error))?;
            let (size, flag) = if size < block.len() {
                (size, 0)
            } else {
                out[start..start + block.len()].copy_from_slice(block);
                (block.len(), LZ4_STORED_BIT)
            };
            out[start - 4..start].copy_from_slice(&(size as u32 | flag).to_le_bytes());
            out.truncate(start + size);
        }
        out.extend_from_slice(&0_u32.to_le_bytes()); // end mark
        Ok(())
    }

    fn zstd(&mut self, level: i32, input: &[u8]) -> Result<(), BatchError> {
        let failed = |error| refused(Codec::Zstd, error);
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Compressor::new(level).map_err(failed)?);
        }
        let Some(compressor) = &mut self.zstd else {
            return Ok(());
        };
        compressor.set_compression_level(level).map_err(failed)?;
        self.buffer.reserve(zstd_safe::compress_bound(input.len()));
        compressor
            .compress_to_buffer(input, &mut self.buffer)
            .map_err(failed)?;
        Ok(())
    }
}

/// Decompresses one batch after another, with context and buffer reused.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<zstd_safe::DCtx<'static>>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decompressor without context or buffer; both are made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses `input` into the own buffer and lends it.
    ///
    /// # Errors
    /// [`DecompressedTooLarge`] as soon as there are more than `max_bytes`, [`Decompression`] for
    /// input that the codec does not take.
    pub fn decompress(
        &mut self,
        codec: Codec,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<&[u8], BatchError> {
        self.trim();
        self.buffer.clear();
        match codec {
            Codec::None => {
                check_limit(codec, input.len(), max_bytes)?;
                self.buffer.extend_from_slice(input);
            }
            Codec::Gzip => self.read_all(codec, MultiGzDecoder::new(input), max_bytes)?,
            Codec::Snappy => self.snappy(input, max_bytes)?,
            Codec::Lz4 => {
                self.read_all(codec, lz4_flex::frame::FrameDecoder::new(input), max_bytes)?;
            }
            Codec::Zstd => self.zstd(input, max_bytes)?,
        }
        Ok(&self.buffer)
    }

    /// Gives back a buffer that an unusually large batch has left, so that one who keeps this for
    /// long does not keep that too. [`Self::decompress`] does so itself at its next use.
    pub fn trim(&mut self) {
        if self.buffer.capacity() > KEPT_BUFFER_MAX {
            self.buffer = Vec::new();
        }
    }

    /// As [`Self::decompress`], into bytes of their own that take no more memory than needed.
    ///
    /// # Errors
    /// As [`Self::decompress`].
    pub fn decompress_owned(
        &mut self,
        codec: Codec,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<Bytes, BatchError> {
        self.decompress(codec, input, max_bytes)
            .map(Bytes::copy_from_slice)
    }

    fn read_all(
        &mut self,
        codec: Codec,
        reader: impl Read,
        max_bytes: usize,
    ) -> Result<(), BatchError> {
        reader
            .take((max_bytes as u64).saturating_add(1))
            .read_to_end(&mut self.buffer)
            .map_err(|error| broken(codec, error))?;
        check_limit(codec, self.buffer.len(), max_bytes)
    }

    fn snappy(&mut self, input: &[u8], max_bytes: usize) -> Result<(), BatchError> {
        if !input.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_SIZE]) {
            return self.snappy_block(input, max_bytes);
        }
        let mut rest = input
            .get(XERIAL_HEADER.len()..)
            .ok_or_else(|| broken(Codec::Snappy, "framing header is cut short"))?;
        while let Some((size, behind)) = rest.split_first_chunk::<4>() {
            let size = u32::from_be_bytes(*size) as usize;
            let block = behind
                .get(..size)
                .ok_or_else(|| broken(Codec::Snappy, "block goes beyond the batch"))?;
            self.snappy_block(block, max_bytes)?;
            rest = &behind[size..];
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(broken(Codec::Snappy, "block size is cut short"))
        }
    }

    fn snappy_block(&mut self, block: &[u8], max_bytes: usize) -> Result<(), BatchError> {
        let failed = |error| broken(Codec::Snappy, error);
        let size = snap::raw::decompress_len(block).map_err(failed)?;
        if size > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(broken(
                Codec::Snappy,
                "block declares more than it can hold",
            ));
        }
        let start = self.buffer.len();
        check_limit(Codec::Snappy, start.saturating_add(size), max_bytes)?;
        self.buffer.resize(start + size, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut self.buffer[start..])
            .map_err(failed)?;
        self.buffer.truncate(start + written);
        Ok(())
    }

    fn zstd(&mut self, input: &[u8], max_bytes: usize) -> Result<(), BatchError> {
        let failed = |code| broken(Codec::Zstd, zstd_safe::get_error_name(code));
        let context = self.zstd.get_or_insert_with(zstd_safe::DCtx::create);
        context
            .reset(zstd_safe::ResetDirective::SessionOnly)
            .map_err(failed)?;
        let out = &mut self.buffer;
        out.reserve(zstd_first_capacity(input, max_bytes));
        let mut source = zstd_safe::InBuffer::around(input);
        loop {
            let start = out.len();
            let mut sink = zstd_safe::OutBuffer::around_pos(out, start);
            let hint = context
                .decompress_stream(&mut sink, &mut source)
                .map_err(failed)?;
            check_limit(Codec::Zstd, out.len(), max_bytes)?;
            let consumed = source.pos() == input.len();
            if hint == 0 && consumed {
                return Ok(());
            }
            if out.len() < out.capacity() {
                // There was room left, so it stopped at the end of a frame or of the input.
                if consumed {
                    return Err(broken(Codec::Zstd, "frame is cut short"));
                }
            } else {
                let room = max_bytes.saturating_add(1) - out.len();
                out.reserve(out.len().max(GROWTH_MIN).min(room));
            }
        }
    }
}

/// The frame's own size if it is credible, so that the codec can write it in one go.
fn zstd_first_capacity(input: &[u8], max_bytes: usize) -> usize {
    let declared = match zstd_safe::get_frame_content_size(input) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) | Err(_) => input.len().saturating_mul(4),
    };
    let credible = input.len().saturating_mul(TRUSTED_RATIO).max(GROWTH_MIN);
    declared.min(credible).min(max_bytes).max(1)
}

fn check_limit(codec: Codec, size: usize, limit: usize) -> Result<(), BatchError> {
    if size > limit {
        return Err(DecompressedTooLarge { codec, limit }.into());
    }
    Ok(())
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "codecs' errors come by value"
)]
fn broken(codec: Codec, reason: impl ToString) -> BatchError {
    Decompression {
        codec,
        reason: reason.to_string(),
    }
    .into()
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "codecs' errors come by value"
)]
fn refused(codec: Codec, reason: impl ToString) -> BatchError {
    Compression {
        codec,
        reason: reason.to_string(),
    }
    .into()
}
