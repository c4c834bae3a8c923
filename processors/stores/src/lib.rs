//! Read-model stores: embedded SQLite.
#![forbid(unsafe_code)]
