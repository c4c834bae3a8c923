//! A batch from a client or from disk: whatever the bytes, an error or a batch that keeps its word.
#![no_main]

use bytes::Bytes;
use conveyor_record::batch::Batches;
use conveyor_record::checksum::crc32c;
use conveyor_record::{
    BatchView, Compressor, Decompressor, HEADER_SIZE, ProduceRules, RebuildOptions, Rebuilt,
    rebuild_batch, validate_produce,
};
use libfuzzer_sys::fuzz_target;

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const OPENED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    for batch in Batches::new(data) {
        if batch.is_err() {
            break;
        }
    }
    // Most mutations fail the CRC; mend it and the length, so that the rest is reached.
    let mut mended = data.to_vec();
    if mended.len() >= HEADER_SIZE {
        let length = (mended.len() - 12) as i32;
        mended[8..12].copy_from_slice(&length.to_be_bytes());
        mended[16] = 2;
        let crc = crc32c(&mended[ATTRIBUTES_AT..]);
        mended[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    }
    let bytes = Bytes::from(mended);
    let mut decompressor = Decompressor::new();
    for deep_check in [false, true] {
        let rules = ProduceRules {
            deep_check,
            require_keys: deep_check,
            now_ms: 1_700_000_000_000,
            max_decompressed_bytes: OPENED_BYTES_MAX,
            ..ProduceRules::default()
        };
        let Ok(valid) = validate_produce(&bytes, &rules, &mut decompressor) else { continue };
        let mut stored = valid.header(&bytes).to_vec();
        stored.extend_from_slice(&bytes[HEADER_SIZE..]);
        let view = BatchView::parse(&stored).expect("a validated batch parses");
        view.verify_crc().expect("its header carries the right CRC");
        if deep_check {
            rebuild(&view, &mut decompressor);
        }
    }
});

/// Compaction of a batch that has passed every check must not fail, nor grow it.
fn rebuild(view: &BatchView<'_>, decompressor: &mut Decompressor) {
    let options = RebuildOptions {
        delete_horizon_ms: None,
        keep_empty: true,
        max_decompressed_bytes: OPENED_BYTES_MAX,
    };
    let mut nth = 0;
    let rebuilt = rebuild_batch(view, &options, decompressor, &mut Compressor::new(), |_| {
        nth += 1;
        nth % 2 == 0
    });
    if let Ok(Rebuilt::Changed(bytes)) = rebuilt {
        BatchView::parse(&bytes).expect("a rebuilt batch parses").verify_crc().expect("CRC");
    }
}
