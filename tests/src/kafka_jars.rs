//! Apache Kafka's own code as a child process: its encoder, decoder, partitioner and dump tool.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where `make interop` puts the class path of Kafka's jars.
const CLASS_PATH: &str = "interop/target/classpath.txt";

/// Runs `tests/interop/Interop.java` with these arguments and gives back what it prints.
pub fn interop(arguments: &[&str], input: &[u8]) -> Result<String> {
    let program = tests_folder().join("interop/Interop.java");
    let mut command = java("256m")?;
    command.arg(program).args(arguments);
    run(command, input)
}

/// Runs `tests/interop/Client.java`, a session of Kafka's clients, against a broker, and gives back
/// what it prints: one line for each thing that a client refused to do.
pub fn client_session(bootstrap: std::net::SocketAddr, name: &str) -> Result<String> {
    let mut command = java("256m")?;
    let program = tests_folder().join("interop/Client.java");
    command.arg(program).arg(bootstrap.to_string()).arg(name);
    run(command, b"")
}

/// Runs Kafka's `DumpLogSegments` with these arguments and gives back what it prints.
pub fn dump_log_segments(arguments: &[&str]) -> Result<String> {
    let mut command = java("256m")?;
    command
        .arg("org.apache.kafka.tools.DumpLogSegments")
        .args(arguments);
    run(command, b"")
}

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A JVM with Kafka's jars and a heap of at most this size.
pub(crate) fn java(heap: &str) -> Result<Command> {
    let path = tests_folder().join(CLASS_PATH);
    let class_path = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} is missing: `make interop` resolves Apache Kafka's jars",
            path.display()
        )
    })?;
    let mut command = Command::new("java");
    command.args([
        &format!("-Xmx{heap}"),
        "-XX:TieredStopAtLevel=1",
        "-cp",
        class_path.trim(),
    ]);
    Ok(command)
}

fn run(mut command: Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start java: install a JDK of version 17 or newer")?;
    child
        .stdin
        .take()
        .context("standard input is piped")?
        .write_all(input)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// One line of `Interop.java read`: bytes as base64, null as `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaRecord {
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp in ms.
    pub timestamp_ms: i64,
    /// Key, if any.
    pub key: Option<Vec<u8>>,
    /// Value, if any.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Codec, producer id, producer epoch, base sequence, leader epoch, data or control, max
    /// timestamp of the batch, joined by `/`.
    pub batch: String,
}

/// Every record that Kafka's code reads in `file`, each batch's CRC checked by it.
pub fn read_records(file: &Path) -> Result<Vec<KafkaRecord>> {
    let path = file.to_str().context("path is UTF-8")?;
    interop(&["read", path], b"")?
        .lines()
        .map(parse_record)
        .collect()
}

fn parse_record(line: &str) -> Result<KafkaRecord> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [offset, timestamp, key, value, headers, batch] = fields[..] else {
        bail!("six fields expected: {line}");
    };
    let headers = headers.split(',').filter(|h| !h.is_empty()).map(|header| {
        let (name, value) = header.split_once('=').context("name=value expected")?;
        Ok((name.to_owned(), from_base64(value)?))
    });
    Ok(KafkaRecord {
        offset: offset.parse()?,
        timestamp_ms: timestamp.parse()?,
        key: from_base64(key)?,
        value: from_base64(value)?,
        headers: headers.collect::<Result<_>>()?,
        batch: batch.to_owned(),
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The bytes of standard base64 with padding; `-` is none.
pub fn from_base64(text: &str) -> Result<Option<Vec<u8>>> {
    if text == "-" {
        return Ok(None);
    }
    let digits = text.bytes().filter(|b| *b != b'=').map(|byte| {
        ALPHABET
            .iter()
            .position(|a| *a == byte)
            .with_context(|| format!("not base64: {text}"))
    });
    let digits: Vec<usize> = digits.collect::<Result<_>>()?;
    let bytes = digits.chunks(4).flat_map(|chunk| {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0, |bits, (i, d)| bits | d << (18 - 6 * i));
        let all = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        all.into_iter().take(chunk.len().saturating_sub(1))
    });
    Ok(Some(bytes.collect()))
}

#[cfg(test)]
mod tests {
    use super::{from_base64, to_base64};

    #[test]
    fn base64_goes_both_ways() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
            let encoded = to_base64(text.as_bytes());
            assert_eq!(
                from_base64(&encoded).expect("decodes"),
                Some(text.as_bytes().to_vec())
            );
        }
        assert_eq!(to_base64(b"fooba"), "Zm9vYmE=");
    }
}
