//! Projection runtime: driver, positions, stores' contract.
#![forbid(unsafe_code)]
