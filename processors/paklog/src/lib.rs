//! PakLog's events: decoder, aliases, state machines, workload, projections.
#![forbid(unsafe_code)]
