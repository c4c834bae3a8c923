//! Which `__consumer_offsets` partition keeps a group: Apache Kafka's rule, so that tools that
//! compute it for themselves agree.

/// The partition of `__consumer_offsets` that keeps `group_id`, of `partitions` (at least 1) there
/// are: Java's `String.hashCode` over UTF-16 units, made positive, modulo the count.
pub fn partition_for_group(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka takes 0 for the one number whose absolute value does not exist.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_where_java_puts_them() {
        // "hello".hashCode() is 99162322, "abc".hashCode() is 96354.
        assert_eq!(partition_for_group("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_for_group("abc", 16), 96_354 % 16);
        assert_eq!(partition_for_group("", 16), 0);
    }

    #[test]
    fn negative_and_minimal_hashes_are_made_positive() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_for_group("polygenelubricants", 16), 0);
        // "hello world!".hashCode() is negative.
        assert!((0..16).contains(&partition_for_group("hello world!", 16)));
    }

    #[test]
    fn characters_beyond_the_basic_plane_count_as_two_units() {
        // U+1F600 is D83D DE00: 0xD83D * 31 + 0xDE00.
        assert_eq!(
            partition_for_group("\u{1F600}", i32::MAX),
            0xD83D * 31 + 0xDE00
        );
    }
}
