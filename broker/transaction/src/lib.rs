//! The transaction coordinator of one `__transaction_state` partition, as a pure state machine.
#![forbid(unsafe_code)]
