//! The codec of every message in every version: against an encoder driven by the tables, against
//! other implementations, and against hostile bytes.

mod differential;
mod hostile;
mod round_trip;
mod sample;
mod tshark;
