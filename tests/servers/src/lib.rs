//! Real servers for tests, without containers: processes on free ports with temporary folders, one of
//! each kind for a test process, or a given one by `CONVEYOR_TEST_{POSTGRES,REDIS,MONGODB}_URL`. And
//! the choices of tests that hurt them ([`chance`]).
//!
//! A server ends with the process that started it, however that ends. A server that cannot be found
//! fails the test that needs it: everything here panics with the reason.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "for tests only"
)]

pub mod chance;
pub mod elasticsearch;
pub mod mongodb;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod tls;
