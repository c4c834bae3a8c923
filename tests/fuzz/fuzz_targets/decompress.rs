//! Compressed records from a client: never more memory than the caller allows.
#![no_main]

use conveyor_record::{Codec, Decompressor};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 18;

fuzz_target!(|data: &[u8]| {
    let Some((&first, input)) = data.split_first() else { return };
    let codec = match first % 5 {
        0 => Codec::None,
        1 => Codec::Gzip,
        2 => Codec::Snappy,
        3 => Codec::Lz4,
        _ => Codec::Zstd,
    };
    if let Ok(output) = Decompressor::new().decompress(codec, input, LIMIT) {
        assert!(output.len() <= LIMIT, "the limit holds");
    }
});
