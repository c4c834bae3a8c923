//! What hostile frames cost in memory, measured at the allocator. The only test of its process, so
//! that nothing else allocates beside it.

#[path = "codec/sample.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod sample;

use bytes::Bytes;
use conveyor_kafka::Input;
use peak_alloc::PeakAlloc;
use sample::Case;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What decoding takes beside its input at its peak.
fn peak_of(case: Case, bytes: Bytes) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    drop(case.decode(&mut Input::new(bytes)));
    ALLOCATOR.peak_usage().saturating_sub(before)
}

/// A frame of this size may take this much: its budget, and a little for the error.
fn bound(size: usize) -> usize {
    (8 * size).max(1 << 20) + 4096
}

#[test]
fn memory_is_bounded_by_the_size_of_the_frame() {
    let mut lies_told = 0u32;
    for case in Case::all() {
        for seed in 0..2 {
            let sample = case.sample(seed);
            for length in &sample.lengths {
                for lie in sample.lies(*length) {
                    let bytes = sample.with_length(*length, &lie);
                    let bound = bound(bytes.len());
                    let peak = peak_of(case, bytes.into());
                    assert!(peak <= bound, "{case:?}: {peak} bytes of memory");
                    lies_told += 1;
                }
            }
        }
        // Frames full of the smallest elements there are, behind counts that are true.
        for byte in [0, 1, 2] {
            let mut bytes = vec![byte; 600_000];
            for count in [&[0, 8, 0, 0][..], &sample::varint(500_000)] {
                for position in [0, 1, 2, 4, 8, 12] {
                    bytes[position..position + count.len()].copy_from_slice(count);
                    let bound = bound(bytes.len());
                    let peak = peak_of(case, bytes.clone().into());
                    assert!(peak <= bound, "{case:?}: {peak} bytes of memory");
                    bytes.fill(byte);
                }
            }
        }
    }
    assert!(lies_told > 10_000, "only {lies_told} lies");
}
