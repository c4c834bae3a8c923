//! Pure group coordinator: membership, assignment, offsets.
#![forbid(unsafe_code)]
