//! Changes of members: their two forms, and the stored form of the newer one.
//!
//! ```text
//! ConfChangeV2: transition u8 | number of changes u16 | changes | context to the end
//! change:       type u8 | member u64
//! ```
//! Numbers are big-endian. No bytes at all are the empty change, which leaves a joint
//! configuration: `raft` writes it so itself.

use std::borrow::Cow;

use bytes::Bytes;
use protobuf::{Message, ProtobufError, ProtobufResult};

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry,
};

const HEADER_BYTES: usize = 3;
const CHANGE_BYTES: usize = 9;
/// Type, term, index and lengths of an entry, about.
const ENTRY_BYTES: usize = 29;

/// A change of one member.
#[must_use]
pub fn new_conf_change_single(node_id: u64, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle {
        change_type,
        node_id,
    }
}

/// Either form of a change.
pub trait ConfChangeI {
    /// The change in its newer form.
    fn into_v2(self) -> ConfChangeV2;

    /// The change seen in its newer form.
    fn as_v2(&self) -> Cow<'_, ConfChangeV2>;

    /// The older form, if it is that one.
    fn as_v1(&self) -> Option<&ConfChange>;
}

impl ConfChangeI for ConfChange {
    fn into_v2(self) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto,
            changes: vec![new_conf_change_single(self.node_id, self.change_type)],
            context: self.context,
        }
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Owned(self.clone().into_v2())
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        Some(self)
    }
}

impl ConfChangeI for ConfChangeV2 {
    fn into_v2(self) -> ConfChangeV2 {
        self
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Borrowed(self)
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        None
    }
}

impl ConfChangeV2 {
    /// `Some` if it goes through a joint configuration; the value says whether that ends by itself.
    #[must_use]
    pub fn enter_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Explicit => Some(false),
        }
    }

    /// Whether it leaves a joint configuration.
    #[must_use]
    pub fn leave_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}

fn unreadable(reason: &'static str) -> ProtobufError {
    ProtobufError {
        message: "a change of members",
        reason,
    }
}

impl Message for ConfChangeV2 {
    fn compute_size(&self) -> u32 {
        (HEADER_BYTES + self.changes.len() * CHANGE_BYTES + self.context.len()) as u32
    }

    fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>> {
        let count =
            u16::try_from(self.changes.len()).map_err(|_| unreadable("too many changes"))?;
        let mut out = Vec::with_capacity(self.compute_size() as usize);
        out.push(match self.transition {
            ConfChangeTransition::Auto => 0,
            ConfChangeTransition::Implicit => 1,
            ConfChangeTransition::Explicit => 2,
        });
        out.extend_from_slice(&count.to_be_bytes());
        for change in &self.changes {
            out.push(match change.change_type {
                ConfChangeType::AddNode => 0,
                ConfChangeType::RemoveNode => 1,
                ConfChangeType::AddLearnerNode => 2,
            });
            out.extend_from_slice(&change.node_id.to_be_bytes());
        }
        out.extend_from_slice(&self.context);
        Ok(out)
    }

    fn merge_from_bytes(&mut self, bytes: &[u8]) -> ProtobufResult<()> {
        *self = if bytes.is_empty() {
            Self::default()
        } else {
            read(bytes)?
        };
        Ok(())
    }
}

fn read(bytes: &[u8]) -> ProtobufResult<ConfChangeV2> {
    let (header, mut rest) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| unreadable("it ends in its header"))?;
    let transition = match header[0] {
        0 => ConfChangeTransition::Auto,
        1 => ConfChangeTransition::Implicit,
        2 => ConfChangeTransition::Explicit,
        _ => return Err(unreadable("its transition is not known")),
    };
    let count = usize::from(u16::from_be_bytes([header[1], header[2]]));
    let mut changes = Vec::with_capacity(count.min(rest.len() / CHANGE_BYTES));
    for _ in 0..count {
        let (change, after) = rest
            .split_first_chunk::<CHANGE_BYTES>()
            .ok_or_else(|| unreadable("it ends in its changes"))?;
        let [change_type, node_id @ ..] = *change;
        let change_type = match change_type {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::RemoveNode,
            2 => ConfChangeType::AddLearnerNode,
            _ => return Err(unreadable("the type of a change is not known")),
        };
        changes.push(new_conf_change_single(
            u64::from_be_bytes(node_id),
            change_type,
        ));
        rest = after;
    }
    Ok(ConfChangeV2 {
        transition,
        changes,
        context: Bytes::copy_from_slice(rest),
    })
}

impl Message for ConfChange {
    fn compute_size(&self) -> u32 {
        (CHANGE_BYTES + self.context.len()) as u32
    }

    fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>> {
        Err(unreadable("its older form is not written"))
    }

    fn merge_from_bytes(&mut self, _: &[u8]) -> ProtobufResult<()> {
        Err(unreadable("its older form is not read"))
    }
}

impl Message for Entry {
    fn compute_size(&self) -> u32 {
        (ENTRY_BYTES + self.data.len() + self.context.len()) as u32
    }

    fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>> {
        Err(ProtobufError {
            message: "an entry",
            reason: "it is stored by the application",
        })
    }

    fn merge_from_bytes(&mut self, _: &[u8]) -> ProtobufResult<()> {
        Err(ProtobufError {
            message: "an entry",
            reason: "it is stored by the application",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = ConfChangeV2> {
        let transition = prop_oneof![
            Just(ConfChangeTransition::Auto),
            Just(ConfChangeTransition::Implicit),
            Just(ConfChangeTransition::Explicit),
        ];
        let change_type = prop_oneof![
            Just(ConfChangeType::AddNode),
            Just(ConfChangeType::RemoveNode),
            Just(ConfChangeType::AddLearnerNode),
        ];
        let single =
            (any::<u64>(), change_type).prop_map(|(id, of)| new_conf_change_single(id, of));
        (
            transition,
            prop::collection::vec(single, 0..9),
            any::<Vec<u8>>(),
        )
            .prop_map(|(transition, changes, context)| ConfChangeV2 {
                transition,
                changes,
                context: context.into(),
            })
    }

    proptest! {
        #[test]
        fn changes_go_there_and_back(change in change()) {
            let bytes = change.write_to_bytes().unwrap();
            prop_assert_eq!(bytes.len(), change.compute_size() as usize);
            let mut read = ConfChangeV2::default();
            read.merge_from_bytes(&bytes).unwrap();
            prop_assert_eq!(read, change);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let mut read = ConfChangeV2::default();
            if read.merge_from_bytes(&bytes).is_ok() && !bytes.is_empty() {
                prop_assert_eq!(read.write_to_bytes().unwrap(), bytes);
            }
        }
    }

    #[test]
    fn nothing_is_the_change_that_leaves_a_joint_configuration() {
        let mut read = ConfChangeV2::default();
        read.merge_from_bytes(&[]).unwrap();
        assert!(read.leave_joint());
        assert_eq!(read.enter_joint(), None);
    }

    #[test]
    fn several_changes_go_through_a_joint_configuration() {
        let mut change = ConfChangeV2::default();
        change
            .changes
            .push(new_conf_change_single(1, ConfChangeType::AddNode));
        assert_eq!(change.enter_joint(), None);
        change
            .changes
            .push(new_conf_change_single(2, ConfChangeType::RemoveNode));
        assert_eq!(change.enter_joint(), Some(true));
    }
}
