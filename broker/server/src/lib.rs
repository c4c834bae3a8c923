//! The shell: listeners, handlers, partition actors, flushers, coordinators' hosts.
#![forbid(unsafe_code)]
