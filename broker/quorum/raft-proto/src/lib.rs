//! The messages of the crate `raft` as plain Rust structures.
//!
//! The published `raft-proto` 0.7.0 generates these types when it is built: by a `protoc` binary it
//! brings along or compiles from C++ sources, and always on top of `protobuf` 2, which has an open
//! advisory. `raft` itself needs neither: it wants fields, accessors, defaults, and the stored form
//! of one message, [`eraftpb::ConfChangeV2`]. The workspace's `[patch.crates-io]` puts this crate in
//! its place.
//!
//! Nothing here ever meets bytes from a peer: `conveyor-quorum` has its own bounded wire format and
//! builds these structures from messages that it has checked.
#![forbid(unsafe_code)]

use std::borrow::Cow;

mod accessors;
mod conf_change;
pub mod eraftpb;

pub use conf_change::{ConfChangeI, new_conf_change_single};

/// What `raft` re-exports under its own `prelude`.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
        ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Conversions, under the path of the published crate.
pub mod util {
    use crate::eraftpb::ConfState;

    impl<Voters, Learners> From<(Voters, Learners)> for ConfState
    where
        Voters: IntoIterator<Item = u64>,
        Learners: IntoIterator<Item = u64>,
    {
        fn from((voters, learners): (Voters, Learners)) -> Self {
            Self {
                voters: voters.into_iter().collect(),
                learners: learners.into_iter().collect(),
                ..Self::default()
            }
        }
    }
}

/// Whether two configurations have the same members in the same parts, in any order.
#[must_use]
pub fn conf_state_eq(left: &eraftpb::ConfState, right: &eraftpb::ConfState) -> bool {
    fn sorted(ids: &[u64]) -> Cow<'_, [u64]> {
        if ids.is_sorted() {
            return Cow::Borrowed(ids);
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        Cow::Owned(ids)
    }
    sorted(&left.voters) == sorted(&right.voters)
        && sorted(&left.learners) == sorted(&right.learners)
        && sorted(&left.voters_outgoing) == sorted(&right.voters_outgoing)
        && sorted(&left.learners_next) == sorted(&right.learners_next)
        && left.auto_leave == right.auto_leave
}
