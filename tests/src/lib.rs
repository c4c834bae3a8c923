//! Harness and system tests over real processes.
#![forbid(unsafe_code)]
