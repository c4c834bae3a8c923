//! The `conveyor` binary.
#![forbid(unsafe_code)]

fn main() {}
