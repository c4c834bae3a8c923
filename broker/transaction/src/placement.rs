//! Which `__transaction_state` partition keeps a transactional id: Apache Kafka's rule, so that
//! tools that compute it for themselves agree.

/// The partition of `__transaction_state` that keeps `transactional_id`, of `partitions` (at least
/// 1) there are: Java's `String.hashCode` over UTF-16 units, made positive, modulo the count.
pub fn partition_for_transactional_id(transactional_id: &str, partitions: i32) -> i32 {
    let hash = transactional_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka takes 0 for the one number whose absolute value does not exist.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_30_transactional_ids_lie_where_java_puts_them() {
        // "hello".hashCode() is 99162322, "abc".hashCode() is 96354.
        assert_eq!(partition_for_transactional_id("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_for_transactional_id("abc", 16), 96_354 % 16);
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_for_transactional_id("polygenelubricants", 16), 0);
        // U+1F600 is two UTF-16 units: 0xD83D * 31 + 0xDE00.
        assert_eq!(
            partition_for_transactional_id("\u{1F600}", i32::MAX),
            0xD83D * 31 + 0xDE00
        );
    }
}
