//! The numbers that name things in a log: offsets, epochs, producers, nodes.
//!
//! Each is a newtype so that an epoch cannot be passed where an offset is meant. They lie here
//! because their formats do; every crate above uses them. They hold whatever the format can hold,
//! `-1` ("none") included; checks are made where bytes enter.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// `-1`, which Kafka's formats use for "none" or "unknown".
            pub const NONE: Self = Self(-1);

            /// The plain number.
            pub const fn value(self) -> $inner {
                self.0
            }

            /// Whether this names something, that is, is not negative.
            pub const fn is_some(self) -> bool {
                self.0 >= 0
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// The position of a record in its partition, counted in records from 0.
    ///
    /// Arithmetic saturates: an offset read from damaged bytes must not bring the process down.
    Offset(i64)
}

id! {
    /// The term of a partition's leader; grows with every change of leadership.
    LeaderEpoch(i32)
}

id! {
    /// The number that a broker gave to an idempotent or transactional producer.
    ProducerId(i64)
}

id! {
    /// The incarnation of a producer id; an older one is fenced.
    ProducerEpoch(i16)
}

id! {
    /// The number of a node in its cluster.
    NodeId(i32)
}

id! {
    /// The incarnation of a broker: given by the controller at each registration, larger than all
    /// before it (KIP-631). What an earlier incarnation says is refused.
    BrokerEpoch(i64)
}

id! {
    /// The version of a partition's record in the metadata; grows with every change of it (KIP-497).
    PartitionEpoch(i32)
}

impl Offset {
    /// The first offset of a new partition.
    pub const ZERO: Self = Self(0);

    /// The offset that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Add<i64> for Offset {
    type Output = Self;

    fn add(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl AddAssign<i64> for Offset {
    fn add_assign(&mut self, count: i64) {
        *self = *self + count;
    }
}

impl Sub<i64> for Offset {
    type Output = Self;

    fn sub(self, count: i64) -> Self {
        Self(self.0.saturating_sub(count))
    }
}

impl Sub for Offset {
    type Output = i64;

    /// The number of records between two offsets.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_records() {
        assert_eq!(Offset(5) + 3, Offset(8));
        assert_eq!(Offset(8) - Offset(5), 3);
        assert_eq!(Offset(8) - 3, Offset(5));
        assert_eq!(Offset(7).next(), Offset(8));
        assert_eq!(Offset(i64::MAX).next(), Offset(i64::MAX));
        assert_eq!(Offset(41).to_string(), "41");
    }

    #[test]
    fn minus_one_is_none() {
        assert!(!ProducerId::NONE.is_some());
        assert!(LeaderEpoch(0).is_some());
        assert_eq!(ProducerEpoch::NONE.value(), -1);
    }
}
