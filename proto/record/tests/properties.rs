//! What holds for every batch: it reads back as written, damage is found or harmless, and bytes from
//! anywhere cause errors, never panics.

mod samples;

use bytes::Bytes;
use conveyor_record::{
    Batch, BatchError, BatchView, Batches, Codec, Decompressor, LeaderEpoch, Offset, OwnedBatches,
    ProduceRules, Record, RecordView, stamp_header, validate_produce, validate_stored,
    validate_stored_deep,
};
use proptest::collection::vec;
use proptest::prelude::*;
use samples::{NOW_MS, Sample, build, codec, sample, samples};

const LIMIT: usize = 1 << 20;

fn rules() -> ProduceRules {
    ProduceRules {
        now_ms: NOW_MS,
        ..ProduceRules::default()
    }
}

fn of_record(record: Record) -> Sample {
    Sample {
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(Into::into),
        value: record.value.map(Into::into),
        headers: record
            .headers
            .into_iter()
            .map(|header| (header.key_str().into_owned(), header.value.map(Into::into)))
            .collect(),
    }
}

fn of_view(record: RecordView<'_>) -> Sample {
    Sample {
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers()
            .map(|header| {
                (
                    header.key_str().into_owned(),
                    header.value.map(<[u8]>::to_vec),
                )
            })
            .collect(),
    }
}

/// Reads everything there is in a batch, by both iterators, and checks that they agree.
fn read_all(bytes: &Bytes) -> Result<Vec<Sample>, BatchError> {
    let batch = Batch::parse(bytes.clone())?;
    let mut decompressor = Decompressor::new();
    let owned: Result<Vec<_>, _> = batch
        .records(&mut decompressor, LIMIT)?
        .map(|record| record.map(of_record))
        .collect();
    let lent: Result<Vec<_>, _> = batch
        .view()
        .records(&mut decompressor, LIMIT)?
        .map(|record| record.map(of_view))
        .collect();
    assert_eq!(owned, lent);
    owned
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_batch_reads_back_as_written(samples in samples(), codec in codec()) {
        let bytes = build(&samples, codec);
        let meta = validate_produce(&bytes, &rules(), &mut Decompressor::new()).unwrap();
        prop_assert_eq!(meta.restamped, None);
        let greatest = samples.iter().map(|sample| sample.timestamp_ms).max().unwrap();
        prop_assert_eq!(meta.meta.max_timestamp_ms, greatest);
        prop_assert_eq!(meta.meta.record_count as usize, samples.len());
        prop_assert_eq!(read_all(&bytes), Ok(samples));
    }

    #[test]
    fn the_offset_of_the_greatest_timestamp_is_found(samples in samples(), codec in codec()) {
        let bytes = build(&samples, codec);
        let deep = ProduceRules { deep_check: true, ..rules() };
        let meta = validate_produce(&bytes, &deep, &mut Decompressor::new()).unwrap().meta;
        let stored =
            validate_stored_deep(&bytes, Offset::ZERO, &mut Decompressor::new(), LIMIT).unwrap();
        let greatest = samples.iter().map(|sample| sample.timestamp_ms).max().unwrap();
        let first = samples.iter().position(|sample| sample.timestamp_ms == greatest).unwrap();
        prop_assert_eq!(meta.max_timestamp_offset_delta as usize, first);
        prop_assert_eq!(stored.max_timestamp_offset_delta as usize, first);
    }

    #[test]
    fn every_flipped_bit_is_found_or_outside_the_checksum(
        samples in vec(sample(), 1..6),
        codec in codec(),
        place: prop::sample::Index,
        bit in 0..8,
    ) {
        let good = build(&samples, codec);
        let mut bad = good.to_vec();
        let place = place.index(bad.len());
        bad[place] ^= 1_u8 << bit;
        let bad = Bytes::from(bad);
        let produced = validate_produce(&bad, &rules(), &mut Decompressor::new());
        let stored = validate_stored(&bad, Offset::ZERO);
        if (12..16).contains(&place) {
            // The leader epoch is overwritten by every append.
            prop_assert!(produced.is_ok());
            prop_assert_eq!(read_all(&bad), Ok(samples));
        } else if place < 8 {
            prop_assert!(produced.is_err(), "a base offset other than 0 is not for clients");
            prop_assert_eq!(stored.is_err(), place == 0 && bit == 7);
        } else {
            prop_assert!(produced.is_err());
            prop_assert!(stored.is_err());
        }
    }

    #[test]
    fn a_cut_batch_is_truncated(samples in vec(sample(), 1..6), cut: prop::sample::Index) {
        let good = build(&samples, Codec::None);
        let cut = cut.index(good.len());
        let result = BatchView::parse(&good[..cut]);
        prop_assert!(matches!(result, Err(BatchError::Truncated(_))));
    }

    #[test]
    fn a_row_of_batches_ends_at_its_torn_tail(
        rows in vec(vec(sample(), 1..4), 1..4),
        codec in codec(),
        cut: prop::sample::Index,
    ) {
        let batches: Vec<_> = rows.iter().map(|row| build(row, codec)).collect();
        let mut buffer = batches.concat();
        let whole = buffer.len();
        let last = batches.last().unwrap();
        buffer.extend_from_slice(&last[..cut.index(last.len())]);

        let mut walk = Batches::new(&buffer);
        for batch in &batches {
            prop_assert_eq!(walk.next().unwrap().unwrap().bytes(), batch);
        }
        let tail = walk.next();
        prop_assert_eq!(walk.position(), whole);
        prop_assert_eq!(tail.is_some(), buffer.len() > whole);
        if let Some(tail) = tail {
            let Err(BatchError::Truncated(torn)) = tail else { panic!("{tail:?}") };
            prop_assert_eq!(torn.position, whole);
            prop_assert_eq!(torn.available, buffer.len() - whole);
        }
        prop_assert!(walk.next().is_none());
        let owned = OwnedBatches::new(buffer.into()).filter_map(Result::ok).count();
        prop_assert_eq!(owned, batches.len());
    }

    #[test]
    fn stamping_keeps_the_batch_valid(
        samples in vec(sample(), 1..4),
        codec in codec(),
        base_offset in 0..i64::MAX - 100,
        epoch in 0..i32::MAX,
    ) {
        let mut bytes = build(&samples, codec).to_vec();
        let stamp = stamp_header(&bytes, Offset(base_offset), LeaderEpoch(epoch));
        bytes[..stamp.len()].copy_from_slice(&stamp);
        let meta = validate_stored(&bytes, Offset(base_offset)).unwrap();
        prop_assert_eq!(meta.base_offset, Offset(base_offset));
        prop_assert_eq!(meta.leader_epoch, LeaderEpoch(epoch));
        prop_assert_eq!(meta.next_offset() - meta.base_offset, samples.len() as i64);
        prop_assert!(validate_stored(&bytes, Offset(base_offset + 1)).is_err());
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let mut decompressor = Decompressor::new();
        drop(read_all(&bytes));
        drop(validate_produce(&bytes, &rules(), &mut decompressor));
        for codec in Codec::ALL {
            drop(decompressor.decompress(codec, &bytes, 1000));
        }
    }

    /// Damage with a CRC that fits it, as a hostile client sends it.
    #[test]
    fn hostile_batches_never_panic(
        samples in vec(sample(), 1..6),
        codec in codec(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = build(&samples, codec).to_vec();
        for (place, byte) in damage {
            let place = 21 + place.index(bytes.len() - 21);
            bytes[place] = byte;
        }
        let crc = conveyor_record::checksum::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let bytes = Bytes::from(bytes);
        let rules = ProduceRules { deep_check: true, max_decompressed_bytes: LIMIT, ..rules() };
        let mut decompressor = Decompressor::new();
        let read = read_all(&bytes);
        if validate_produce(&bytes, &rules, &mut decompressor).is_ok() {
            prop_assert!(read.is_ok(), "accepted after a deep check, yet unreadable: {:?}", read);
        }
        drop(validate_stored_deep(&bytes, Offset::ZERO, &mut decompressor, LIMIT));
    }

    #[test]
    fn damaged_compressed_bytes_never_panic(
        input in vec(0..4_u8, 0..2000),
        codec in codec(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut compressor = conveyor_record::Compressor::new();
        let mut bytes = compressor.compress(codec, None, &input).unwrap().to_vec();
        for (place, byte) in damage {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        if let Ok(output) = Decompressor::new().decompress(codec, &bytes, 4000) {
            prop_assert!(output.len() <= 4000);
        }
    }
}
