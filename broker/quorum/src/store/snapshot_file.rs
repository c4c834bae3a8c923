//! A snapshot: the members and the application's state up to one entry.
//!
//! ```text
//! quorum-snapshot-<index, 20 digits>-<term, 20 digits>:
//!     magic "CVQN" | version int16 | cluster id uuid | index int64 | term int64
//!     | members bytes | state bytes | crc32
//! ```
//! Numbers are big-endian; `bytes` are an int32 length and as many bytes; the CRC-32 is over
//! everything before it. It is written to a temporary file, synced and renamed, and comes into use by
//! the superblock that names it, never by being there.

use std::io::IoSlice;
use std::path::Path;

use bytes::Bytes;
use conveyor_log::disk::{Disk, OpenMode, read_small};
use conveyor_record::fields::{DecodeError, Reader, Writer};
use uuid::Uuid;

use super::{OpenError, StoreError};
use crate::entry::{LogPosition, SNAPSHOT_BYTES_MAX, Snapshot};
use crate::membership::{Membership, check_version, number};
use crate::mutant::{self, Mutant};

const MAGIC: i32 = i32::from_be_bytes(*b"CVQN");
const VERSION: i16 = 0;
const NAME_PREFIX: &str = "quorum-snapshot-";
const CRC_BYTES: usize = 4;
/// State, members and the rest.
const FILE_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX + (1 << 20);

pub(super) fn file_name(last: LogPosition) -> String {
    format!("{NAME_PREFIX}{:020}-{:020}", last.index, last.term)
}

pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(NAME_PREFIX)
}

fn head(cluster_id: Uuid, snapshot: &Snapshot) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.int32(MAGIC);
    writer.int16(VERSION);
    writer.uuid(cluster_id);
    writer.int64(snapshot.last.index as i64);
    writer.int64(snapshot.last.term as i64);
    writer.bytes(&snapshot.membership.encode());
    writer.int32(snapshot.data.len() as i32);
    writer.finish()
}

/// Writes the file and syncs it, though not its name.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    cluster_id: Uuid,
    snapshot: &Snapshot,
) -> Result<(), StoreError> {
    let path = dir.join(file_name(snapshot.last));
    let fail = |error: &_| StoreError::new("write", &path, error);
    let temporary = path.with_extension("tmp");
    let file = disk
        .open(&temporary, OpenMode::Truncate)
        .map_err(|error| fail(&error))?;
    let head = head(cluster_id, snapshot);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(&snapshot.data);
    let crc = hasher.finalize().to_be_bytes();
    let parts = &mut [
        IoSlice::new(&head),
        IoSlice::new(&snapshot.data),
        IoSlice::new(&crc),
    ];
    file.write_vectored_at(0, parts)
        .map_err(|error| fail(&error))?;
    if !mutant::active(Mutant::SnapshotNotSynced) {
        super::sync(&*file).map_err(|error| fail(&error))?;
    }
    disk.rename(&temporary, &path).map_err(|error| fail(&error))
}

/// Reads the snapshot that stands for everything up to `last`.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    cluster_id: Uuid,
    last: LogPosition,
) -> Result<Snapshot, OpenError> {
    let path = dir.join(file_name(last));
    let damaged = |what: String| OpenError::Damaged {
        path: path.clone(),
        what,
    };
    let bytes = read_small(disk, &path, FILE_BYTES_MAX)
        .map_err(|error| OpenError::io("read", &path, error))?
        .ok_or_else(|| damaged("it is missing, though the superblock names it".to_owned()))?;
    let (of, snapshot) = match decode(&bytes.into()) {
        Err(DecodeError::UnsupportedVersion {
            version, supported, ..
        }) => {
            return Err(OpenError::NewerVersion {
                path,
                found: version,
                supported,
            });
        }
        decoded => decoded.map_err(|error| damaged(error.to_string()))?,
    };
    if of != cluster_id || snapshot.last != last {
        return Err(damaged(
            "it is another snapshot than its name says".to_owned(),
        ));
    }
    Ok(snapshot)
}

/// Reads a snapshot and the cluster it belongs to; its state shares the memory of `bytes`.
pub(super) fn decode(bytes: &Bytes) -> Result<(Uuid, Snapshot), DecodeError> {
    let invalid = |reason| DecodeError::Invalid {
        field: "snapshot",
        reason,
    };
    let (content, crc) = bytes
        .split_last_chunk::<CRC_BYTES>()
        .ok_or_else(|| invalid("fewer bytes than a checksum"))?;
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return Err(invalid("a wrong checksum"));
    }
    let mut reader = Reader::new(content);
    if reader.int32("magic")? != MAGIC {
        return Err(invalid("something else"));
    }
    check_version(&mut reader, "snapshot", VERSION)?;
    let cluster_id = reader.uuid("cluster id")?;
    let index = number(&mut reader, "index")?;
    let term = number(&mut reader, "term")?;
    let membership = Membership::decode(reader.bytes("members")?)?;
    let data = bytes.slice_ref(reader.bytes("state")?);
    reader.finish()?;
    let snapshot = Snapshot {
        last: LogPosition { term, index },
        membership,
        data,
    };
    Ok((cluster_id, snapshot))
}
