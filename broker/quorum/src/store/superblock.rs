//! The superblock: term, vote, who this node is, and how far the log is vouched for.
//!
//! ```text
//! quorum-state: four slots of 4096 bytes
//!     slots 0, 1    two copies of the newest even generation
//!     slots 2, 3    two copies of the newest odd generation
//!
//! slot: magic "CVQS" | version int16 | generation int64 | cluster id uuid | node id int32
//!       | voter id | term | vote | commit int64
//!       | log file int64 | log end: position, index, term int64, checksum int32
//!       | snapshot: index, term int64 | crc32
//! ```
//! Numbers are big-endian; the CRC-32 is over everything before it.
//!
//! A new generation is written over the older pair and synced, so a crash in the middle leaves the
//! newer pair as it was. There are two copies because a single one could rot: then the other pair,
//! whole and older, would bring back a term and vote that the node has left behind, and it could
//! vote twice. With two, one rotten copy changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log_file::LogEnd;
use super::{Identity, OpenError, StoreError};
use crate::entry::{HardState, LogPosition};
use crate::membership::{VoterId, number};
use crate::mutant::{self, Mutant};
use conveyor_log::disk::{Disk, DiskFile, OpenMode, write_atomically};
use conveyor_record::NodeId;
use conveyor_record::fields::{DecodeError, Reader, Writer};

pub(super) const FILE_NAME: &str = "quorum-state";
const MAGIC: i32 = i32::from_be_bytes(*b"CVQS");
/// The newest version of the slot that this program reads, and the one it writes.
pub(super) const VERSION: i16 = 0;
pub(super) const SLOT_BYTES: usize = 4096;
const SLOTS: usize = 4;
const CRC_BYTES: usize = 4;
const CONTENT_BYTES: usize = 118;

/// What the superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "Raft calls it the hard state")]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) identity: Identity,
    pub(super) hard_state: HardState,
    /// The number of the log file in use.
    pub(super) log: u64,
    /// Up to where that file was synced when this was written.
    pub(super) log_end: LogEnd,
    /// The snapshot in use; index 0 for none.
    pub(super) snapshot: LogPosition,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.int32(MAGIC);
        writer.int16(VERSION);
        writer.int64(self.generation as i64);
        writer.uuid(self.identity.cluster_id);
        writer.int32(self.identity.node_id.0);
        writer.int64(self.identity.voter_id.0 as i64);
        writer.int64(self.hard_state.term as i64);
        writer.int64(self.hard_state.vote as i64);
        writer.int64(self.hard_state.commit as i64);
        writer.int64(self.log as i64);
        writer.int64(self.log_end.position as i64);
        writer.int64(self.log_end.last.index as i64);
        writer.int64(self.log_end.last.term as i64);
        writer.int32(self.log_end.checksum as i32);
        writer.int64(self.snapshot.index as i64);
        writer.int64(self.snapshot.term as i64);
        let mut slot = writer.finish();
        slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        reader.int32("magic")?;
        reader.int16("version")?;
        Ok(Self {
            generation: number(&mut reader, "generation")?,
            identity: Identity {
                cluster_id: reader.uuid("cluster id")?,
                node_id: NodeId(reader.int32("node id")?),
                voter_id: VoterId(number(&mut reader, "voter id")?),
            },
            hard_state: HardState {
                term: number(&mut reader, "term")?,
                vote: number(&mut reader, "vote")?,
                commit: number(&mut reader, "commit")?,
            },
            log: number(&mut reader, "log file")?,
            log_end: LogEnd {
                position: number(&mut reader, "log end")?,
                last: read_position(&mut reader)?,
                checksum: reader.int32("log checksum")? as u32,
            },
            snapshot: read_position(&mut reader)?,
        })
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, DecodeError> {
    let index = number(reader, "index")?;
    let term = number(reader, "term")?;
    Ok(LogPosition { term, index })
}

/// What one slot turns out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// A state whose checksum is right.
    State(State),
    /// Nothing that makes sense: never written, torn, or damaged.
    Unreadable,
    /// A later version wrote it.
    Newer(i16),
}

pub(super) fn read_slot(slot: &[u8]) -> Slot {
    let Some((header, _)) = slot.split_first_chunk::<6>() else {
        return Slot::Unreadable;
    };
    let [m0, m1, m2, m3, v0, v1] = *header;
    if i32::from_be_bytes([m0, m1, m2, m3]) != MAGIC {
        return Slot::Unreadable;
    }
    let version = i16::from_be_bytes([v0, v1]);
    if version > VERSION {
        // Where a later version keeps its checksum is not known; a damaged version number of ours
        // would be one rotten copy of two.
        return Slot::Newer(version);
    }
    let Some((content, rest)) = slot.split_at_checked(CONTENT_BYTES) else {
        return Slot::Unreadable;
    };
    let sound = rest
        .first_chunk::<CRC_BYTES>()
        .map(|crc| u32::from_be_bytes(*crc))
        == Some(crc32fast::hash(content));
    match State::decode(content) {
        Ok(state) if sound => Slot::State(state),
        _ => Slot::Unreadable,
    }
}

/// The open superblock. It remembers the newest generation, and writes the next one.
#[derive(Debug)]
pub(super) struct Superblock {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    state: State,
}

impl Superblock {
    /// Whether the folder has one.
    pub(super) fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
        let path = dir.join(FILE_NAME);
        let info = disk.info(&path);
        Ok(info
            .map_err(|error| OpenError::io("look for", &path, error))?
            .is_some())
    }

    /// Creates it with its first state in one step: it is there whole or not at all.
    pub(super) fn create(disk: &dyn Disk, dir: &Path, state: State) -> Result<Self, OpenError> {
        let path = dir.join(FILE_NAME);
        let slot = state.encode();
        let mut bytes = vec![0; SLOTS * SLOT_BYTES];
        for copy in copies(state.generation) {
            bytes[copy..copy + SLOT_BYTES].copy_from_slice(&slot);
        }
        write_atomically(disk, &path, &bytes)
            .map_err(|error| OpenError::io("create", &path, error))?;
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(|error| OpenError::io("open", &path, error))?;
        Ok(Self { file, path, state })
    }

    /// Reads it. Before anything is built on it, [`Self::renew`] must be called.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE_NAME);
        let io = |action, error| OpenError::io(action, &path, error);
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(|error| io("open", error))?;
        let mut bytes = Vec::new();
        file.read_at(0, &mut bytes, SLOTS * SLOT_BYTES)
            .map_err(|error| io("read", error))?;
        let slots: Vec<Slot> = bytes.chunks(SLOT_BYTES).map(read_slot).collect();
        let state = newest(&slots).ok_or_else(|| newer_or_damaged(&slots, &path))?;
        Ok(Self { file, path, state })
    }

    /// Writes the state that was found once more, and syncs it: it may have come from the page cache,
    /// from a sync that failed, and must be on the platter before the other pair is overwritten.
    pub(super) fn renew(&self) -> Result<(), StoreError> {
        if mutant::active(Mutant::FoundStateTrusted) {
            return Ok(());
        }
        self.put(&self.state)
            .map_err(|error| StoreError::new("write", &self.path, &error))
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Writes the next generation and syncs it.
    pub(super) fn write(&mut self, mut state: State) -> Result<(), StoreError> {
        state.generation = self.state.generation + 1;
        self.put(&state)
            .map_err(|error| StoreError::new("write", &self.path, &error))?;
        self.state = state;
        Ok(())
    }

    fn put(&self, state: &State) -> io::Result<()> {
        let slot = state.encode();
        let copies = copies(state.generation).into_iter();
        let count = if mutant::active(Mutant::OneCopy) {
            1
        } else {
            2
        };
        for position in copies.take(count) {
            self.file.write_at(position as u64, &slot)?;
        }
        let same_log = state.log_end == self.state.log_end;
        if mutant::active(Mutant::VoteNotSynced) && same_log {
            return Ok(());
        }
        super::sync(&*self.file)
    }
}

/// Where the copies of a generation lie.
fn copies(generation: u64) -> [usize; 2] {
    let first = (generation % 2) as usize * 2 * SLOT_BYTES;
    [first, first + SLOT_BYTES]
}

fn newest(slots: &[Slot]) -> Option<State> {
    let states = slots.iter().filter_map(|slot| match slot {
        Slot::State(state) => Some(*state),
        Slot::Unreadable | Slot::Newer(_) => None,
    });
    let newest = states.max_by_key(|state| state.generation)?;
    // Only a later version writes whole pairs that we cannot read.
    let newer = |pair: &[Slot]| pair.iter().all(|slot| matches!(slot, Slot::Newer(_)));
    (!slots.chunks(2).any(newer)).then_some(newest)
}

fn newer_or_damaged(slots: &[Slot], path: &Path) -> OpenError {
    let newer = slots.iter().find_map(|slot| match slot {
        Slot::Newer(version) => Some(*version),
        _ => None,
    });
    match newer {
        Some(found) => OpenError::NewerVersion {
            path: path.to_path_buf(),
            found,
            supported: VERSION,
        },
        None => OpenError::Damaged {
            path: path.to_path_buf(),
            what: "none of its four slots can be read".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use conveyor_log::disk::{Crash, SimDisk};
    use uuid::Uuid;

    use super::*;

    fn state(term: u64) -> State {
        State {
            generation: 1,
            identity: Identity {
                cluster_id: Uuid::from_u128(9),
                node_id: NodeId(4),
                voter_id: VoterId(2),
            },
            hard_state: HardState {
                term,
                vote: 3,
                commit: 17,
            },
            log: 5,
            log_end: LogEnd {
                position: 77,
                last: LogPosition { term: 1, index: 20 },
                checksum: 0xdead_beef,
            },
            snapshot: LogPosition { term: 1, index: 10 },
        }
    }

    fn dir() -> &'static Path {
        Path::new("/quorum")
    }

    fn created(disk: &SimDisk) -> Superblock {
        disk.create_dir(dir()).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Superblock::create(disk, dir(), state(1)).unwrap()
    }

    #[test]
    fn a_slot_goes_there_and_back() {
        let slot = state(7).encode();
        assert_eq!(slot.len(), SLOT_BYTES);
        assert_eq!(read_slot(&slot), Slot::State(state(7)));
        assert_eq!(read_slot(&[0; SLOT_BYTES]), Slot::Unreadable);
        assert_eq!(read_slot(&slot[..100]), Slot::Unreadable);
    }

    #[test]
    fn any_one_bit_makes_a_slot_unreadable() {
        let slot = state(7).encode();
        for bit in 0..(CONTENT_BYTES + CRC_BYTES) * 8 {
            let mut bad = slot.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read_slot(&bad), Slot::State(_)), "bit {bit}");
        }
    }

    #[test]
    fn one_rotten_copy_does_not_bring_back_an_older_term() {
        for copy in 0..2 {
            let disk = SimDisk::new(copy);
            let mut superblock = created(&disk);
            for term in 2..6 {
                superblock.write(state(term)).unwrap();
            }
            let generation = superblock.state().generation;
            let position = copies(generation)[copy as usize] as u64 + 50;
            assert!(disk.flip_bit(&dir().join(FILE_NAME), position, 3));
            let found = Superblock::open(&disk, dir()).unwrap();
            assert_eq!(found.state().hard_state.term, 5);
        }
    }

    #[test]
    fn a_power_cut_in_the_middle_leaves_this_state_or_the_one_before() {
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            let mut superblock = created(&disk);
            superblock.write(state(2)).unwrap();
            disk.halt_after(1 + seed % 3);
            let written = superblock.write(state(3)).is_ok();
            disk.crash(Crash::Power);
            let term = Superblock::open(&disk, dir())
                .unwrap()
                .state()
                .hard_state
                .term;
            assert!(term == 3 || (term == 2 && !written), "seed {seed}: {term}");
        }
    }

    #[test]
    fn what_was_read_after_a_failed_sync_survives_the_next_power_cut() {
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            let mut superblock = created(&disk);
            superblock.write(state(2)).unwrap();
            disk.fail_next_syncs(1);
            superblock.write(state(3)).unwrap_err();
            disk.crash(Crash::Process);
            let mut found = Superblock::open(&disk, dir()).unwrap();
            found.renew().unwrap();
            let term = found.state().hard_state.term;
            disk.halt_after(1);
            found.write(state(4)).unwrap_err();
            disk.crash(Crash::Power);
            let found = Superblock::open(&disk, dir()).unwrap();
            assert!(found.state().hard_state.term >= term, "seed {seed}");
        }
    }

    #[test]
    fn a_later_version_and_a_damaged_file_are_told_apart() {
        let disk = SimDisk::new(0);
        drop(created(&disk));
        let path = dir().join(FILE_NAME);
        let mut bytes = disk.content(&path).unwrap();
        for copy in copies(1) {
            bytes[copy + 5] = 1;
        }
        disk.set_content(&path, &bytes);
        assert!(matches!(
            Superblock::open(&disk, dir()),
            Err(OpenError::NewerVersion { found: 1, .. })
        ));
        disk.set_content(&path, &vec![0; SLOTS * SLOT_BYTES]);
        assert!(matches!(
            Superblock::open(&disk, dir()),
            Err(OpenError::Damaged { .. })
        ));
    }
}
