//! Producer, consumer, admin client and CloudEvents for Conveyor.
#![forbid(unsafe_code)]
