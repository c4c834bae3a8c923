//! Who commits offsets with a producer's transaction.

use std::sync::Arc;

use conveyor_grpc::ErrorCode;

use super::committer::MemberIdentity;
use crate::error::{Error, Result};

/// A group, and the member of it whose offsets are committed with a transaction; see
/// [`Consumer::group_metadata`](super::Consumer::group_metadata). Clones follow the same member.
///
/// The member's present epoch goes with the offsets, so that the group refuses them once it has given
/// the member's partitions to others. A member that was thrown out gives up its partitions at a poll
/// before it joins again: until that poll nothing of it is accepted.
#[derive(Debug, Clone)]
pub struct ConsumerGroupMetadata {
    of: Of,
}

#[derive(Debug, Clone)]
enum Of {
    Member(Arc<MemberIdentity>),
    Group(Arc<str>),
}

impl ConsumerGroupMetadata {
    /// A group whose partitions the caller has distributed by itself. Nothing but the transactional id
    /// guards such a consumer against its own ghost.
    pub fn for_group(group_id: impl Into<Arc<str>>) -> Self {
        Self {
            of: Of::Group(group_id.into()),
        }
    }

    pub(super) fn for_member(identity: Arc<MemberIdentity>) -> Self {
        Self {
            of: Of::Member(identity),
        }
    }

    /// The group.
    pub fn group_id(&self) -> &str {
        match &self.of {
            Of::Member(identity) => &identity.group_id,
            Of::Group(group_id) => group_id,
        }
    }

    /// Id and epoch of the member, as the request has them.
    pub(crate) fn member(&self) -> Result<(&str, i32)> {
        match &self.of {
            Of::Group(_) => Ok(("", -1)),
            Of::Member(identity) => match identity.epoch() {
                epoch @ 1.. => Ok((&identity.member_id, epoch)),
                // Without an epoch the group would not look whether it is a member.
                _ => Err(Error::Broker {
                    operation: "commit offsets of",
                    place: format!("group {}", identity.group_id),
                    code: ErrorCode::UnknownMemberId,
                    message: "this consumer is not a member of the group at the moment".to_owned(),
                }),
            },
        }
    }
}
