//! Criterion benches beside raw limits; instruction counts.
#![forbid(unsafe_code)]
