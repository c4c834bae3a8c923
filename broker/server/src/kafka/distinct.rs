//! Names that a request repeats count once, as with Kafka: an answer is in proportion to what there
//! is, not to how often a request asks for it.

use std::collections::HashSet;
use std::hash::Hash;

/// The items with distinct keys, each in its first place.
pub(super) fn distinct_by<T, K: Eq + Hash>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    // Mostly there is one, or none.
    if items.len() < 2 {
        return items;
    }
    let mut seen = HashSet::with_capacity(items.len());
    let distinct = items.into_iter().filter(|item| seen.insert(key(item)));
    distinct.collect()
}

/// The distinct items, each in its first place.
pub(super) fn distinct<T: Clone + Eq + Hash>(items: Vec<T>) -> Vec<T> {
    distinct_by(items, T::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_keeps_its_place() {
        assert_eq!(distinct(vec![3, 1, 3, 2, 1]), [3, 1, 2]);
        let by_length = distinct_by(vec!["bb", "a", "cc"], |text| text.len());
        assert_eq!(by_length, ["bb", "a"]);
        assert!(distinct(Vec::<i32>::new()).is_empty());
    }
}
