//! What the handlers of both protocols do with records: check what is produced, read what is
//! fetched and wait for more, find offsets, delete.
//!
//! Nothing here knows a protocol: a handler translates its request into these calls and their
//! results into its answer. So both refuse the same things with the same codes, and what one writes
//! the other reads.

pub(crate) mod delete;
pub(crate) mod offsets;
pub(crate) mod poll;
pub(crate) mod produce;
pub(crate) mod read;
