//! The controller of the simulated cluster: the real rules of `conveyor-controller`, on one node.
//!
//! [`node`] hosts them as a quorum would: decisions one after the other, each an entry of a log that is
//! on disk before anybody hears of it. [`view`] is the metadata as the rest of the simulation needs it.

mod decision_log;
pub mod node;
pub mod view;

pub use conveyor_controller::{MetadataImage as Image, MetadataRecord as Record};
pub use node::ControllerNode;
pub use view::Placed;
