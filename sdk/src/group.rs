//! The member's side of consumer groups.
//!
//! [`membership`] decides and knows neither sockets nor clocks; `consumer::group_session` performs
//! what it says.

pub(crate) mod membership;
#[cfg(test)]
mod simulation;
