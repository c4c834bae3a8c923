//! Input that lies: each gets its own error, and costs no more than the limit.

use std::io::Write;

use bytes::Bytes;
use conveyor_record::error::{
    DecompressedTooLarge, Decompression, InvalidHeader, InvalidRecord, TooLarge, TrailingBytes,
    UnsupportedCodec, UnsupportedMagic,
};
use conveyor_record::{
    AppendOrigin, BatchBuilder, BatchError, BatchOptions, Codec, Compressor, Decompressor,
    NewRecord, Offset, ProduceRules, ProducerEpoch, ProducerId, TimestampType, ValidatedBatch,
    validate_produce, validate_stored, validate_stored_deep,
};

const NOW_MS: i64 = 1_700_000_000_000;

fn rules() -> ProduceRules {
    ProduceRules {
        now_ms: NOW_MS,
        ..ProduceRules::default()
    }
}

fn validate(bytes: &Bytes, rules: &ProduceRules) -> Result<ValidatedBatch, BatchError> {
    validate_produce(bytes, rules, &mut Decompressor::new())
}

/// A batch of three records, a second apart, the second the latest.
fn batch(codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
        base_sequence: 0,
        ..BatchOptions::default()
    });
    for (timestamp_ms, key) in [
        (NOW_MS - 3000, Some(&b"a"[..])),
        (NOW_MS - 1000, None),
        (NOW_MS - 2000, Some(b"c")),
    ] {
        let record = NewRecord {
            timestamp_ms,
            key,
            value: Some(b"value"),
            headers: &[("h", None)],
        };
        builder.append(&record).expect("fits");
    }
    builder.build(&mut Compressor::new()).expect("builds")
}

/// The batch with other bytes at a place, and a CRC that fits.
fn forged(batch: &Bytes, place: usize, bytes: &[u8]) -> Bytes {
    let mut forged = batch.to_vec();
    forged[place..place + bytes.len()].copy_from_slice(bytes);
    with_crc(forged)
}

fn with_crc(mut batch: Vec<u8>) -> Bytes {
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = conveyor_record::checksum::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A batch of `count` records with this payload, and a CRC that fits.
fn with_payload(codec: Codec, count: i32, payload: &[u8]) -> Bytes {
    let mut bytes = batch(codec)[..61].to_vec();
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(payload);
    with_crc(bytes)
}

fn header_fault(result: Result<ValidatedBatch, BatchError>) -> &'static str {
    match result {
        Err(BatchError::InvalidHeader(InvalidHeader { field, .. })) => field,
        other => panic!("expected an invalid header, got {other:?}"),
    }
}

fn record_fault(result: Result<ValidatedBatch, BatchError>) -> (i32, &'static str) {
    match result {
        Err(BatchError::InvalidRecord(InvalidRecord { index, reason })) => (index, reason),
        other => panic!("expected an invalid record, got {other:?}"),
    }
}

#[test]
fn a_good_batch_passes_with_its_facts() {
    for codec in Codec::ALL {
        let valid = validate(&batch(codec), &rules()).expect("valid");
        assert_eq!(valid.restamped, None);
        let meta = valid.meta;
        assert_eq!(meta.record_count, 3);
        assert_eq!(meta.last_offset_delta, 2);
        assert_eq!(meta.max_timestamp_ms, NOW_MS - 1000);
        // Compressed records are not looked at: the last offset stands in, as in Kafka.
        let expected = if codec == Codec::None { 1 } else { 2 };
        assert_eq!(meta.max_timestamp_offset_delta, expected);
        assert_eq!(meta.last_sequence(), 2);
    }
}

#[test]
fn the_envelope_is_checked() {
    let good = batch(Codec::None);
    let size = good.len();

    let small = ProduceRules {
        max_message_bytes: size - 1,
        ..rules()
    };
    assert_eq!(
        validate(&good, &small),
        Err(TooLarge {
            size,
            limit: size - 1
        }
        .into())
    );

    let two = Bytes::from([&good[..], &good[..]].concat());
    assert_eq!(
        validate(&two, &rules()),
        Err(TrailingBytes {
            size,
            trailing: size
        }
        .into())
    );

    assert!(matches!(
        validate(&good.slice(..size - 1), &rules()),
        Err(BatchError::Truncated(_))
    ));
    let mut beyond = good.to_vec();
    beyond[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(
        validate(&beyond.into(), &rules()),
        Err(BatchError::Truncated(_))
    ));

    for magic in [0, 1, 3] {
        let old = forged(&good, 16, &[magic as u8]);
        assert_eq!(
            validate(&old, &rules()),
            Err(UnsupportedMagic { magic }.into())
        );
    }
    for codec_id in [5, 6, 7] {
        let unknown = forged(&good, 21, &[0, codec_id]);
        assert_eq!(
            validate(&unknown, &rules()),
            Err(UnsupportedCodec { codec_id }.into())
        );
    }

    let mut torn = good.to_vec();
    torn[size - 1] ^= 1;
    let error = validate(&torn.into(), &rules()).unwrap_err();
    assert!(matches!(error, BatchError::CorruptCrc(_)));
    assert!(error.is_retriable(), "the network may have done it");
}

#[test]
fn what_only_brokers_set_is_refused() {
    let good = batch(Codec::None);
    let attributes = |bits: i16| forged(&good, 21, &bits.to_be_bytes());
    assert_eq!(
        header_fault(validate(&attributes(1 << 3), &rules())),
        "attributes"
    );
    assert_eq!(
        header_fault(validate(&attributes(1 << 5), &rules())),
        "attributes"
    );
    assert_eq!(
        header_fault(validate(&attributes(1 << 6), &rules())),
        "attributes"
    );
    let coordinator = ProduceRules {
        origin: AppendOrigin::Coordinator,
        ..rules()
    };
    assert!(validate(&attributes(1 << 5), &coordinator).is_ok());

    let placed = forged(&good, 0, &7_i64.to_be_bytes());
    assert_eq!(header_fault(validate(&placed, &rules())), "base offset");
}

#[test]
fn producer_fields_must_fit_together() {
    let good = batch(Codec::None);
    let no_sequence = forged(&good, 53, &(-1_i32).to_be_bytes());
    assert_eq!(
        header_fault(validate(&no_sequence, &rules())),
        "base sequence"
    );
    let no_epoch = forged(&good, 51, &(-1_i16).to_be_bytes());
    assert_eq!(
        header_fault(validate(&no_epoch, &rules())),
        "producer epoch"
    );
    let strange = forged(&good, 43, &(-2_i64).to_be_bytes());
    assert_eq!(header_fault(validate(&strange, &rules())), "producer id");

    let plain = forged(&good, 43, &(-1_i64).to_be_bytes());
    assert!(validate(&plain, &rules()).is_ok());
    let transactional = forged(&plain, 21, &(1_i16 << 4).to_be_bytes());
    assert_eq!(
        header_fault(validate(&transactional, &rules())),
        "attributes"
    );
}

#[test]
fn counts_must_agree_with_the_records() {
    for codec in Codec::ALL {
        let good = batch(codec);
        let none = forged(&good, 57, &0_i32.to_be_bytes());
        assert_eq!(header_fault(validate(&none, &rules())), "record count");
        let less = forged(&good, 57, &2_i32.to_be_bytes());
        assert_eq!(header_fault(validate(&less, &rules())), "record count");
        let delta = forged(&good, 23, &9_i32.to_be_bytes());
        assert_eq!(header_fault(validate(&delta, &rules())), "record count");

        // Header fields that agree with each other and lie about the records.
        for (count, fault) in [
            (2, (2, "bytes follow the last record")),
            (4, (3, "length is cut short or too long")),
            (i32::MAX, (3, "length is cut short or too long")),
        ] {
            let lie = forged(&good, 23, &(count - 1_i32).to_be_bytes());
            let lie = forged(&lie, 57, &count.to_be_bytes());
            let deep = ProduceRules {
                deep_check: true,
                ..rules()
            };
            assert_eq!(record_fault(validate(&lie, &deep)), fault, "{codec}");
        }
    }
}

#[test]
fn records_must_fill_their_length() {
    // length | attributes | timestamp delta | offset delta | key | value | header count
    let cases: [(&[u8], &str); 9] = [
        (&[0x01], "length is negative"),
        (&[0x7e, 0], "length goes beyond the batch"),
        (&[0xff; 9], "length is cut short or too long"),
        (&[0x00], "record is empty"),
        (&[0x0c, 0, 0, 0, 0x03, 0x01, 0], "key length is broken"),
        (&[0x0c, 0, 0, 0, 0x7e, 0x01, 0], "key length is broken"),
        (
            &[0x0c, 0, 0, 0, 0x01, 0x01, 0x01],
            "header count is negative",
        ),
        (&[0x0c, 0, 0, 0, 0x01, 0x01, 0x7e], "header key is broken"),
        (
            &[0x0e, 0, 0, 0, 0x01, 0x01, 0, 0],
            "record has bytes behind its headers",
        ),
    ];
    for (payload, fault) in cases {
        let bytes = with_payload(Codec::None, 1, payload);
        assert_eq!(
            record_fault(validate(&bytes, &rules())),
            (0, fault),
            "{payload:x?}"
        );
    }
    let repeated = with_payload(Codec::None, 1, &[0x0c, 0, 0, 0x02, 0x01, 0x01, 0]);
    assert_eq!(
        record_fault(validate(&repeated, &rules())),
        (0, "offset delta is not the record's place in the batch")
    );
}

#[test]
fn compacted_topics_need_keys() {
    for codec in Codec::ALL {
        let compacted = ProduceRules {
            require_keys: true,
            ..rules()
        };
        let (index, _) = record_fault(validate(&batch(codec), &compacted));
        assert_eq!(index, 1, "{codec}");
    }
}

#[test]
fn timestamps_stay_within_the_limits() {
    for codec in Codec::ALL {
        let good = batch(codec);
        let fails = |rules: ProduceRules| {
            matches!(
                validate(&good, &rules),
                Err(BatchError::InvalidTimestamp(_))
            )
        };
        assert!(fails(ProduceRules {
            timestamp_before_max_ms: 2999,
            ..rules()
        }));
        assert!(!fails(ProduceRules {
            timestamp_before_max_ms: 3000,
            ..rules()
        }));
        assert!(fails(ProduceRules {
            now_ms: NOW_MS - 3_600_000 - 1001,
            ..rules()
        }));
        assert!(!fails(ProduceRules {
            now_ms: NOW_MS - 3_600_000 - 1000,
            ..rules()
        }));

        let year_200000 = forged(&good, 35, &6_248_000_000_000_000_i64.to_be_bytes());
        let ancient = forged(&good, 27, &(-5_000_000_000_000_i64).to_be_bytes());
        let deep = ProduceRules {
            deep_check: true,
            ..rules()
        };
        if codec != Codec::None {
            assert!(matches!(
                validate(&year_200000, &rules()),
                Err(BatchError::InvalidTimestamp(_))
            ));
        }
        for rules in [rules(), deep] {
            assert!(matches!(
                validate(&ancient, &rules),
                Err(BatchError::InvalidTimestamp(_))
            ));
        }
    }
}

#[test]
fn a_wrong_max_timestamp_is_set_right_under_a_new_crc() {
    for codec in Codec::ALL {
        let unset = forged(&batch(codec), 35, &(-1_i64).to_be_bytes());
        let valid = validate(&unset, &rules()).expect("valid");
        assert_eq!(valid.meta.max_timestamp_ms, NOW_MS - 1000);
        assert_eq!(valid.meta.max_timestamp_offset_delta, 1);
        let restamped = valid.restamped.expect("restamped");
        assert_eq!(valid.header(&unset), restamped);
        // The corrected batch is the one that an exact client would have sent.
        let corrected = Bytes::from([&restamped[..], &unset[61..]].concat());
        assert!(corrected == batch(codec), "{codec}");
    }
    let wrong = forged(
        &batch(Codec::None),
        35,
        &6_248_000_000_000_000_i64.to_be_bytes(),
    );
    let valid = validate(&wrong, &rules()).expect("valid");
    assert_eq!(valid.meta.max_timestamp_ms, NOW_MS - 1000);
    assert!(valid.restamped.is_some());
}

#[test]
fn log_append_time_replaces_the_producers() {
    for codec in Codec::ALL {
        let append_time = ProduceRules {
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_max_ms: 0,
            now_ms: NOW_MS + 5,
            ..rules()
        };
        let bytes = batch(codec);
        let valid = validate(&bytes, &append_time).expect("valid");
        assert_eq!(valid.meta.max_timestamp_ms, NOW_MS + 5);
        let stored = Bytes::from([valid.header(&bytes), &bytes[61..]].concat());
        let meta = validate_stored(&stored, Offset::ZERO).expect("crc fits");
        assert_eq!(meta.timestamp_type, TimestampType::LogAppendTime);
        let batch = conveyor_record::Batch::parse(stored).expect("parses");
        for record in batch
            .records(&mut Decompressor::new(), 1 << 20)
            .expect("opens")
        {
            assert_eq!(record.expect("reads").timestamp_ms, NOW_MS + 5);
        }
    }
}

#[test]
fn stored_batches_may_have_gaps_but_not_more_records_than_offsets() {
    let good = batch(Codec::None);
    let fewer = forged(&good, 23, &9_i32.to_be_bytes());
    assert!(validate_stored(&fewer, Offset::ZERO).is_ok());
    let more = forged(&good, 57, &4_i32.to_be_bytes());
    assert!(matches!(
        validate_stored(&more, Offset::ZERO),
        Err(BatchError::InvalidHeader(_))
    ));
    let mut bare = good[..61].to_vec();
    bare[57..61].fill(0);
    let bare = with_crc(bare);
    assert!(validate_stored(&bare, Offset::ZERO).is_ok());
    let deep = validate_stored_deep(&bare, Offset::ZERO, &mut Decompressor::new(), 100);
    assert_eq!(deep.map(|meta| meta.record_count), Ok(0));

    assert!(matches!(
        validate_stored(&good, Offset(1)),
        Err(BatchError::OffsetOutOfOrder(_))
    ));
    let mut last = good.to_vec();
    last[..8].copy_from_slice(&(i64::MAX - 1).to_be_bytes());
    assert!(
        validate_stored(&last, Offset::ZERO).is_err(),
        "offsets must not overflow"
    );
}

/// The bomb holds 64 MiB of zeros; the limit is 1 MiB.
const BOMB_SIZE: usize = 64 * 1024 * 1024;
const LIMIT: usize = 1024 * 1024;

fn bomb(codec: Codec) -> Vec<u8> {
    let zeros = vec![0; BOMB_SIZE];
    Compressor::new()
        .compress(codec, None, &zeros)
        .expect("compresses")
        .to_vec()
}

#[test]
fn bombs_stop_at_the_limit() {
    for codec in Codec::ALL {
        let bomb = bomb(codec);
        let mut decompressor = Decompressor::new();
        assert_eq!(
            decompressor.decompress(codec, &bomb, LIMIT),
            Err(DecompressedTooLarge {
                codec,
                limit: LIMIT
            }
            .into())
        );
        let bytes = with_payload(codec, 1, &bomb);
        if codec != Codec::None {
            let deep = ProduceRules {
                deep_check: true,
                max_message_bytes: BOMB_SIZE,
                max_decompressed_bytes: LIMIT,
                ..rules()
            };
            assert_eq!(
                validate_produce(&bytes, &deep, &mut decompressor),
                Err(DecompressedTooLarge {
                    codec,
                    limit: LIMIT
                }
                .into())
            );
        }
        // The decompressor is good for the next batch.
        let valid = batch(codec);
        assert!(
            decompressor.decompress(codec, &valid[61..], LIMIT).is_ok(),
            "{codec}"
        );
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let input = vec![7; 100_000];
    for codec in Codec::ALL {
        let packed = Compressor::new()
            .compress(codec, None, &input)
            .unwrap()
            .to_vec();
        let mut decompressor = Decompressor::new();
        assert_eq!(
            decompressor.decompress(codec, &packed, input.len()),
            Ok(&input[..])
        );
        assert!(
            decompressor
                .decompress(codec, &packed, input.len() - 1)
                .is_err()
        );
    }
}

#[test]
fn snappy_chunks_of_2_gib_are_refused() {
    let reason =
        |input: &[u8]| match Decompressor::new().decompress(Codec::Snappy, input, usize::MAX) {
            Err(BatchError::Decompression(Decompression { reason, .. })) => reason,
            other => panic!("{other:?}"),
        };
    let framing = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    let chunk = [&framing[..], &0x7fff_ffff_u32.to_be_bytes(), b"x"].concat();
    assert_eq!(reason(&chunk), "block goes beyond the batch");
    // A block that declares 2 GiB - 1 of output in its own header.
    let declared = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    assert_eq!(reason(&declared), "block declares more than it can hold");
    assert_eq!(reason(&framing[..12]), "framing header is cut short");
    assert_eq!(
        reason(&[&framing[..], &[0, 0]].concat()),
        "block size is cut short"
    );
}

#[test]
fn snappy_without_framing_is_read_too() {
    let packed = snap::raw::Encoder::new()
        .compress_vec(b"raw as librdkafka sends it")
        .unwrap();
    assert_eq!(
        Decompressor::new().decompress(Codec::Snappy, &packed, 100),
        Ok(&b"raw as librdkafka sends it"[..])
    );
}

#[test]
fn zstd_frames_may_be_many_and_of_unknown_size() {
    let part = |text: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let long = vec![b'x'; 300_000];
    let packed = [part(b"first, "), part(&long)].concat();
    let mut decompressor = Decompressor::new();
    let output = decompressor
        .decompress(Codec::Zstd, &packed, 1 << 20)
        .unwrap();
    assert_eq!(output.len(), 7 + long.len());
    assert!(output.starts_with(b"first, xxx"));
    assert!(
        decompressor
            .decompress(Codec::Zstd, &packed[..packed.len() - 1], 1 << 20)
            .is_err(),
        "cut short"
    );
    assert!(decompressor.decompress(Codec::Zstd, &[], 10).is_err());
}

#[test]
fn gzip_members_may_be_many() {
    let part = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let packed = [part(b"first, "), part(b"second")].concat();
    assert_eq!(
        Decompressor::new().decompress(Codec::Gzip, &packed, 100),
        Ok(&b"first, second"[..])
    );
}

#[test]
fn levels_that_do_not_exist_are_refused() {
    let mut compressor = Compressor::new();
    assert!(matches!(
        compressor.compress(Codec::Gzip, Some(10), b"x"),
        Err(BatchError::Compression(_))
    ));
    assert!(compressor.compress(Codec::Gzip, Some(9), b"x").is_ok());
    assert!(compressor.compress(Codec::Zstd, Some(-5), b"x").is_ok());
    assert!(compressor.compress(Codec::Zstd, Some(19), b"x").is_ok());
}
