//! What must hold, and what was seen so far.

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use conveyor_quorum::consensus::Committed;
use conveyor_quorum::{Body, Entry, EntryKind, LogPosition, Membership, Message, VoterId};

/// A stable hash (FNV-1a).
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = Fnv::default();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// All that nodes have said and done, as one who sees everything knows it.
#[derive(Debug)]
pub(crate) struct Oracle {
    /// The leader of each term.
    leaders: BTreeMap<u64, VoterId>,
    /// Content and predecessor's term of entries, by index and term.
    entries: BTreeMap<(u64, u64), (u64, u64)>,
    /// Term and content of what is committed, by index.
    committed: BTreeMap<u64, (u64, u64)>,
    /// The application's state after each index.
    states: BTreeMap<u64, u64>,
    /// The newest members, and since when.
    pub(crate) members: (u64, Membership),
    /// The last index that a client was told of.
    pub(crate) acknowledged: u64,
}

/// The first entry stands for the first members.
const FIRST: u64 = 1;

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            states: BTreeMap::from([(FIRST, 0)]),
            members: (0, Membership::default()),
            acknowledged: FIRST,
        }
    }

    pub(crate) fn last_committed(&self) -> u64 {
        self.committed.keys().next_back().copied().unwrap_or(FIRST)
    }

    pub(crate) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A node leads.
    pub(crate) fn leads(&mut self, term: u64, who: VoterId) -> Result<(), String> {
        match self.leaders.insert(term, who) {
            Some(other) if other != who => {
                Err(format!("voters {other} and {who} both lead term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// A node has come to lead `term`; `term_of` looks into its log.
    pub(crate) fn is_complete(
        &self,
        term: u64,
        last: LogPosition,
        term_of: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), String> {
        // What later leaders have committed it need not have.
        if self.leaders.range(term + 1..).next().is_some() {
            return Ok(());
        }
        let Some((index, (committed, _))) = self.committed.last_key_value() else {
            return Ok(());
        };
        let found = term_of(*index);
        if last.index >= *index && found.is_none_or(|found| found == *committed) {
            return Ok(());
        }
        Err(format!(
            "the leader of term {term} ends with {last:?} and has entry {index} of term {found:?}, but \
             that of term {committed} is committed"
        ))
    }

    /// A node sends entries.
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), String> {
        let Body::Append {
            previous, entries, ..
        } = &message.body
        else {
            return Ok(());
        };
        let mut before = previous.term;
        for entry in entries {
            let content = content(entry);
            let seen = (content, before);
            match self.entries.insert((entry.index, entry.term), seen) {
                Some(other) if other != seen => {
                    return Err(format!(
                        "two entries of index {} and term {}",
                        entry.index, entry.term
                    ));
                }
                _ => before = entry.term,
            }
        }
        Ok(())
    }

    /// A node hands out what follows `applied` and leads from `state` to what is returned.
    pub(crate) fn handed_out(
        &mut self,
        applied: u64,
        state: u64,
        committed: &Committed,
    ) -> Result<u64, String> {
        let LogPosition { term, index } = committed.position();
        if let Committed::Snapshot(snapshot) = committed {
            let found = read_state(&snapshot.data);
            return match self.states.get(&index) {
                Some(right) if *right == found && index >= applied => Ok(found),
                right => Err(format!(
                    "a snapshot of entry {index} has state {found:x}, right is {right:x?}, applied is {applied}"
                )),
            };
        }
        if index != applied + 1 {
            return Err(format!("entry {index} follows entry {applied}"));
        }
        let content = match committed {
            Committed::Entry(entry) => content(entry),
            Committed::Membership {
                membership,
                refused,
                ..
            } => {
                if index > self.members.0 {
                    self.members = (index, membership.clone());
                }
                let refused = [u8::from(refused.is_some())];
                hash(&[&membership.encode(), &refused])
            }
            Committed::Snapshot(_) => 0,
        };
        let right = *self.committed.entry(index).or_insert((term, content));
        if right != (term, content) {
            return Err(format!(
                "entry {index} is committed as ({term}, {content:x}) and as {right:x?}"
            ));
        }
        let next = hash(&[
            &state.to_be_bytes(),
            &term.to_be_bytes(),
            &content.to_be_bytes(),
        ]);
        let right = *self.states.entry(index).or_insert(next);
        if right != next {
            return Err(format!(
                "after entry {index} the state is {next:x}, right is {right:x}"
            ));
        }
        Ok(next)
    }

    /// A client is told that its proposal is committed.
    pub(crate) fn acknowledged(&mut self, position: LogPosition) -> Result<(), String> {
        let committed = self.committed.get(&position.index);
        if committed.map(|(term, _)| *term) != Some(position.term) {
            return Err(format!(
                "{position:?} is acknowledged, committed is {committed:x?}"
            ));
        }
        self.acknowledged = self.acknowledged.max(position.index);
        Ok(())
    }

    /// A client is told that another entry has taken its proposal's place.
    pub(crate) fn superseded(&self, position: LogPosition) -> Result<(), String> {
        match self.committed.get(&position.index) {
            Some((term, _)) if *term != position.term => Ok(()),
            other => Err(format!("{position:?} is called superseded by {other:x?}")),
        }
    }
}

fn content(entry: &Entry) -> u64 {
    let kind = [u8::from(entry.kind == EntryKind::Membership)];
    hash(&[&kind, &entry.data])
}

/// The application's snapshot: its state, and something to fill pages with.
pub(crate) fn write_state(state: u64, padding: usize) -> Vec<u8> {
    let mut data = state.to_be_bytes().to_vec();
    data.resize(8 + padding, 0x5a);
    data
}

pub(crate) fn read_state(data: &[u8]) -> u64 {
    // Empty before anything was applied.
    data.first_chunk()
        .map_or(0, |state| u64::from_be_bytes(*state))
}
