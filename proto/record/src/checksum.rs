//! CRC-32C (Castagnoli), the checksum of a batch.
//!
//! The CRC covers the attributes and everything behind them. When the broker sets the max timestamp
//! or the timestamp type, only 40 bytes of a batch change; CRCs are linear, so the new value comes
//! from the old one, the CRCs of the old and new 40 bytes, and the length of what follows
//! ([`replace_prefix`]), without another pass over the records.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `x^(2^n)` modulo the polynomial, for n from 0 to 31.
const POWERS: [u32; 32] = powers();

/// The CRC-32C of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of two pieces in a row, from the CRC of each and the size of the second.
pub fn combine(first: u32, second: u32, second_size: usize) -> u32 {
    shift(first, second_size) ^ second
}

/// The CRC-32C of bytes whose beginning was replaced by one of the same length.
///
/// `whole` is the CRC before; `old` and `new` are the CRCs of the beginning before and after;
/// `rest_size` counts the bytes that follow it.
pub fn replace_prefix(whole: u32, old: u32, new: u32, rest_size: usize) -> u32 {
    whole ^ shift(old ^ new, rest_size)
}

/// `crc` times `x^(8 * bytes)`: what appending that many zero bytes does to a CRC without its
/// initial and final inversion.
fn shift(crc: u32, bytes: usize) -> u32 {
    let mut result = crc;
    // x^8 is x^(2^3): bit n of the byte count stands for x^(2^(n+3)). x^(2^32) is x^2, since the
    // order of x divides 2^31 - 1 for this field, so the table repeats with a period of 31.
    let mut remaining = bytes as u64;
    let mut power = 3;
    while remaining != 0 {
        if remaining & 1 == 1 {
            result = multiply(POWERS[power], result);
        }
        remaining >>= 1;
        power = if power == 31 { 1 } else { power + 1 };
    }
    result
}

/// The product of two polynomials modulo ours, bits reversed (bit 31 is `x^0`).
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 {
            b >> 1
        } else {
            (b >> 1) ^ POLYNOMIAL
        };
        bit >>= 1;
    }
    product
}

const fn powers() -> [u32; 32] {
    let mut table = [0; 32];
    table[0] = 1 << 30;
    let mut n = 1;
    while n < 32 {
        table[n] = multiply(table[n - 1], table[n - 1]);
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, straight from the definition.
    fn slow_crc32c(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 0 {
                    crc >> 1
                } else {
                    (crc >> 1) ^ POLYNOMIAL
                };
            }
        }
        !crc
    }

    #[test]
    fn check_value_of_the_polynomial() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(slow_crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn combine_holds_for_sizes_around_powers_of_two() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
        for size in [0, 1, 2, 255, 256, 257, 4095, 65_535, 65_536, 69_999] {
            let (first, second) = bytes.split_at(bytes.len() - size);
            assert_eq!(
                combine(crc32c(first), crc32c(second), size),
                crc32c(&bytes),
                "{size}"
            );
        }
    }

    #[test]
    fn long_shifts_agree_with_the_library() {
        for size in [
            1_u64 << 28,
            (1 << 31) - 1,
            1 << 31,
            (1 << 31) + 12_345,
            1 << 33,
        ] {
            let expected = crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc32Iscsi,
                0x1234_5678,
                0x9abc_def0,
                size,
            );
            assert_eq!(
                u64::from(combine(0x1234_5678, 0x9abc_def0, size as usize)),
                expected
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(crc32c(&bytes), slow_crc32c(&bytes));
        }

        #[test]
        fn a_replaced_prefix_needs_no_second_pass(
            old: [u8; 16],
            new: [u8; 16],
            rest in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let whole = |prefix: &[u8; 16]| slow_crc32c(&[prefix.as_slice(), &rest].concat());
            prop_assert_eq!(
                replace_prefix(whole(&old), crc32c(&old), crc32c(&new), rest.len()),
                whole(&new)
            );
        }
    }
}
