//! Generated gRPC contracts and conversions.
#![forbid(unsafe_code)]
