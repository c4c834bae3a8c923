//! Tx tests.
