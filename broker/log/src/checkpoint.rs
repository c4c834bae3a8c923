//! Small text files in Kafka's formats: offset checkpoints, `partition.metadata`, `meta.properties`.
//!
//! ```text
//! recovery-point-offset-checkpoint, log-start-offset-checkpoint:
//!     0                      version
//!     2                      number of lines that follow
//!     orders 0 1234          topic, partition, offset
//! leader-epoch-checkpoint:   the same with lines of epoch and start offset
//! partition.metadata:        version: 0 / topic_id: <uuid in URL-safe base64>
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use conveyor_record::{LeaderEpoch, Offset};
use uuid::Uuid;

use crate::disk::{Disk, read_small};
use crate::error::{DiskError, OpenError};
use crate::partition::TopicPartition;

/// Larger files of these kinds are refused: a million partitions fit.
const FILE_BYTES_MAX: usize = 256 << 20;

/// Offsets by partition, as a checkpoint file holds them.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, Offset>;

/// Reads a small text file; `None` if it is not there.
pub(crate) fn read_text(disk: &dyn Disk, path: &Path) -> Result<Option<String>, OpenError> {
    let bytes = read_small(disk, path, FILE_BYTES_MAX)
        .map_err(|error| DiskError::new("read", path, error))?;
    bytes
        .map(|bytes| {
            String::from_utf8(bytes).map_err(|_| invalid(path, "it is not text".to_owned()))
        })
        .transpose()
}

pub(crate) fn invalid(path: &Path, what: String) -> OpenError {
    OpenError::InvalidFile {
        path: path.to_path_buf(),
        what,
    }
}

/// Reads an offset checkpoint; empty if the file is not there.
pub fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<OffsetCheckpoint, OpenError> {
    let Some(text) = read_text(disk, path)? else {
        return Ok(OffsetCheckpoint::new());
    };
    parse_rows(&text, |row| {
        let [topic, partition, offset] = row else {
            return None;
        };
        let partition = TopicPartition::new(*topic, partition.parse().ok()?);
        Some((partition, Offset(offset.parse().ok()?)))
    })
    .map(|rows| rows.into_iter().collect())
    .map_err(|what| invalid(path, what))
}

/// The content of an offset checkpoint.
pub fn encode_offsets(offsets: &OffsetCheckpoint) -> Vec<u8> {
    encode_rows(
        offsets.iter().map(|(partition, offset)| {
            format!("{} {} {offset}", partition.topic, partition.partition)
        }),
    )
}

pub(crate) fn parse_epochs(text: &str) -> Result<Vec<(LeaderEpoch, Offset)>, String> {
    parse_rows(text, |row| {
        let [epoch, start] = row else { return None };
        Some((
            LeaderEpoch(epoch.parse().ok()?),
            Offset(start.parse().ok()?),
        ))
    })
}

pub(crate) fn encode_epochs(epochs: &[(LeaderEpoch, Offset)]) -> Vec<u8> {
    encode_rows(
        epochs
            .iter()
            .map(|(epoch, start)| format!("{epoch} {start}")),
    )
}

/// The rows of a checkpoint: version line, count line, then as many rows, all complete.
fn parse_rows<T>(text: &str, parse: impl Fn(&[&str]) -> Option<T>) -> Result<Vec<T>, String> {
    let mut lines = text.lines();
    match lines.next() {
        Some("0") => {}
        found => return Err(format!("version is {found:?}, expected 0")),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| "the number of rows is missing".to_owned())?;
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        rows.push(parse(&fields).ok_or_else(|| format!("cannot read row {line:?}"))?);
    }
    if rows.len() == count {
        Ok(rows)
    } else {
        Err(format!("it has {} rows of {count}", rows.len()))
    }
}

fn encode_rows(rows: impl ExactSizeIterator<Item = String>) -> Vec<u8> {
    let mut text = format!("0\n{}\n", rows.len());
    for row in rows {
        text.push_str(&row);
        text.push('\n');
    }
    text.into_bytes()
}

/// The content of `partition.metadata`.
pub(crate) fn encode_partition_metadata(topic_id: Uuid) -> Vec<u8> {
    format!("version: 0\ntopic_id: {}\n", encode_uuid(topic_id)).into_bytes()
}

pub(crate) fn parse_partition_metadata(text: &str) -> Option<Uuid> {
    let properties = parse_properties(text, ':');
    (properties.get("version").map(String::as_str) == Some("0")).then_some(())?;
    decode_uuid(properties.get("topic_id")?)
}

/// Lines of `key=value` (or another separator); comments and blank lines left out.
pub fn parse_properties(text: &str, separator: char) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once(separator))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Lines of `key=value`.
pub fn encode_properties(properties: &[(&str, &str)]) -> Vec<u8> {
    let lines: Vec<String> = properties
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    lines.concat().into_bytes()
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's way to write a topic id: URL-safe base64 without padding, 22 characters.
pub fn encode_uuid(id: Uuid) -> String {
    let bits = u128::from_be_bytes(*id.as_bytes());
    let digit = |index: u32| {
        // 22 digits hold 132 bits: the last digit carries two bits and four zeros.
        let shifted = if index == 21 {
            bits << 4
        } else {
            bits >> (122 - 6 * index)
        };
        char::from(BASE64_URL[(shifted & 0x3f) as usize])
    };
    (0..22).map(digit).collect()
}

/// Reads an id that [`encode_uuid`] has written.
pub fn decode_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (index, byte) in text.bytes().enumerate() {
        let digit = BASE64_URL.iter().position(|known| *known == byte)? as u128;
        bits = if index == 21 {
            (bits << 2) | (digit >> 4)
        } else {
            (bits << 6) | digit
        };
    }
    Some(Uuid::from_bytes(bits.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafka_writes_them() {
        // Pairs of Kafka's own Uuid class: zero, one, and all bits set.
        assert_eq!(encode_uuid(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(encode_uuid(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(
            encode_uuid(Uuid::from_u128(u128::MAX)),
            "_____________________w"
        );
        for bits in [0, 1, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978, u128::MAX] {
            let id = Uuid::from_u128(bits);
            assert_eq!(decode_uuid(&encode_uuid(id)), Some(id));
            assert_eq!(
                parse_partition_metadata(&format!("version: 0\ntopic_id: {}", encode_uuid(id))),
                Some(id)
            );
        }
        assert_eq!(decode_uuid("short"), None);
        assert_eq!(decode_uuid("AAAAAAAAAAAAAAAAAAAA!Q"), None);
    }

    #[test]
    fn offset_checkpoints_go_there_and_back() {
        let offsets = OffsetCheckpoint::from([
            (TopicPartition::new("orders", 0), Offset(12)),
            (TopicPartition::new("a.b-c", 11), Offset(0)),
        ]);
        let bytes = encode_offsets(&offsets);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            "0\n2\na.b-c 11 0\norders 0 12\n"
        );
        let disk = crate::disk::SimDisk::new(0).shared();
        crate::disk::write_atomically(&*disk, Path::new("/offsets"), &bytes).unwrap();
        assert_eq!(
            read_offsets(&*disk, Path::new("/offsets")).unwrap(),
            offsets
        );
        assert_eq!(
            read_offsets(&*disk, Path::new("/none")).unwrap(),
            OffsetCheckpoint::new()
        );
    }

    #[test]
    fn damaged_checkpoints_are_refused() {
        for text in [
            "",
            "1\n0\n",
            "0\n",
            "0\nx\n",
            "0\n2\n3 4\n",
            "0\n1\n3\n",
            "0\n1\n3 x\n",
        ] {
            assert!(parse_epochs(text).is_err(), "{text:?} was taken");
        }
        let epochs = vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(3), Offset(40))];
        let text = String::from_utf8(encode_epochs(&epochs)).unwrap();
        assert_eq!(parse_epochs(&text).unwrap(), epochs);
    }
}
