//! A real node in this process, over real sockets, spoken to by plain gRPC clients.

mod admin;
mod fetch;
mod groups;
mod harness;
mod operations;
mod produce;
mod restart;
