//! Zigzag variable-length integers, as Kafka writes the lengths and deltas inside a record.
//!
//! Seven bits a byte, least significant first; the high bit says that more follow. At most 5 bytes
//! for 32 bits and 10 for 64; bits that do not fit are refused.

/// The most bytes a 32-bit varint takes.
pub const MAX_VARINT_SIZE: usize = 5;
/// The most bytes a 64-bit varlong takes.
pub const MAX_VARLONG_SIZE: usize = 10;

/// Reads a 32-bit varint at `*position` and moves the position behind it.
///
/// `None` if the bytes end within it or it does not fit 32 bits; the position is then unspecified.
#[inline]
pub fn read_varint(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let first = *bytes.get(*position)?;
    *position += 1;
    if first < 0x80 {
        return Some(decode_zigzag32(u32::from(first)));
    }
    let mut raw = u32::from(first & 0x7f);
    for shift in [7u32, 14, 21, 28] {
        let byte = *bytes.get(*position)?;
        *position += 1;
        if shift == 28 && byte > 0x0f {
            return None;
        }
        raw |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(decode_zigzag32(raw));
        }
    }
    None
}

/// Reads a 64-bit varlong at `*position` and moves the position behind it.
///
/// `None` if the bytes end within it or it does not fit 64 bits; the position is then unspecified.
#[inline]
pub fn read_varlong(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let first = *bytes.get(*position)?;
    *position += 1;
    if first < 0x80 {
        return Some(decode_zigzag64(u64::from(first)));
    }
    let mut raw = u64::from(first & 0x7f);
    let mut shift = 7u32;
    while shift <= 63 {
        let byte = *bytes.get(*position)?;
        *position += 1;
        if shift == 63 && byte > 0x01 {
            return None;
        }
        raw |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(decode_zigzag64(raw));
        }
        shift += 7;
    }
    None
}

/// Appends a 32-bit varint.
#[inline]
pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    let mut raw = encode_zigzag32(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Appends a 64-bit varlong.
#[inline]
pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = encode_zigzag64(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// The bytes that [`write_varint`] takes for `value`.
#[inline]
pub const fn varint_size(value: i32) -> usize {
    let bits = 32 - (encode_zigzag32(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// The bytes that [`write_varlong`] takes for `value`.
#[inline]
pub const fn varlong_size(value: i64) -> usize {
    let bits = 64 - (encode_zigzag64(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

const fn encode_zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn encode_zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn decode_zigzag32(raw: u32) -> i32 {
    ((raw >> 1) as i32) ^ -((raw & 1) as i32)
}

const fn decode_zigzag64(raw: u64) -> i64 {
    ((raw >> 1) as i64) ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded32(value: i32) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(&mut out, value);
        out
    }

    fn encoded64(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_varlong(&mut out, value);
        out
    }

    #[test]
    fn known_values() {
        assert_eq!(encoded32(0), [0x00]);
        assert_eq!(encoded32(-1), [0x01]);
        assert_eq!(encoded32(1), [0x02]);
        assert_eq!(encoded32(63), [0x7e]);
        assert_eq!(encoded32(-64), [0x7f]);
        assert_eq!(encoded32(64), [0x80, 0x01]);
        assert_eq!(encoded32(i32::MAX), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(encoded32(i32::MIN), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(
            encoded64(i64::MIN),
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
    }

    #[test]
    fn too_long_and_cut_short_are_refused() {
        assert_eq!(read_varint(&[], &mut 0), None);
        assert_eq!(read_varint(&[0x80], &mut 0), None);
        assert_eq!(read_varint(&[0xff; 11], &mut 0), None);
        assert_eq!(
            read_varint(&[0xff, 0xff, 0xff, 0xff, 0x1f], &mut 0),
            None,
            "bits beyond 32"
        );
        assert_eq!(read_varlong(&[0xff; 11], &mut 0), None);
        assert_eq!(
            read_varlong(
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
                &mut 0
            ),
            None,
            "bits beyond 64"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn varints_round_trip(value: i32) {
            let bytes = encoded32(value);
            prop_assert_eq!(bytes.len(), varint_size(value));
            let mut position = 0;
            prop_assert_eq!(read_varint(&bytes, &mut position), Some(value));
            prop_assert_eq!(position, bytes.len());
        }

        #[test]
        fn varlongs_round_trip(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let bytes = encoded64(value);
            prop_assert_eq!(bytes.len(), varlong_size(value));
            let mut position = 0;
            prop_assert_eq!(read_varlong(&bytes, &mut position), Some(value));
            prop_assert_eq!(position, bytes.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut position = 0;
            if read_varlong(&bytes, &mut position).is_some() {
                prop_assert!(position <= bytes.len());
            }
            position = 0;
            if read_varint(&bytes, &mut position).is_some() {
                prop_assert!(position <= bytes.len());
            }
        }
    }
}
