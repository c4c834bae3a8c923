//! Wireshark's Kafka dissector as a third reader: every request and response that it knows, as
//! packets of a capture file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Command;

use conveyor_kafka::{ApiKey, Input, RequestHeader, ResponseHeader, frame};
use conveyor_record::{BatchBuilder, BatchOptions, Compressor, NewRecord};

use crate::sample::{Case, Shape};

const BROKER_PORT: u16 = 9092;
const FIRST_CLIENT_PORT: u16 = 20_000;

/// A conversation of one request and its response.
struct Exchange {
    key: ApiKey,
    version: i16,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Exchange {
    fn new(key: ApiKey, version: i16, correlation_id: i32) -> Self {
        let body = |is_request| {
            let case = Case {
                key,
                is_request,
                version,
            };
            let shape = Shape {
                bytes: Some(content(key)),
                never_null: true,
                ..Shape::default()
            };
            let sample = case.sample_with(correlation_id as u64, &shape).bytes;
            let message = case
                .decode(&mut Input::new(sample.into()))
                .expect("it is whole");
            message
                .encode(version)
                .expect("it can be written")
                .into_bytes()
        };
        let header = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id,
            client_id: Some("conveyor".into()),
        };
        let request = frame::frame(|out| {
            header.encode(out)?;
            out.put(&body(true));
            Ok(())
        });
        let response = frame::frame(|out| {
            ResponseHeader { correlation_id }.encode(key, version, out);
            out.put(&body(false));
            Ok(())
        });
        let bytes = |frame: Result<conveyor_kafka::Gather, _>| frame.expect("fits").into_bytes();
        Self {
            key,
            version,
            request: bytes(request).to_vec(),
            response: bytes(response).to_vec(),
        }
    }
}

/// What the dissector looks into: record batches, and what consumers tell each other.
fn content(key: ApiKey) -> Vec<u8> {
    match key {
        ApiKey::Produce | ApiKey::Fetch => record_batch(),
        // Version 0, one topic "t" (with partition 0, if it is an assignment), no user data.
        ApiKey::JoinGroup => b"\0\0\0\0\0\x01\0\x01t\0\0\0\0".to_vec(),
        ApiKey::SyncGroup | ApiKey::DescribeGroups => {
            b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec()
        }
        _ => b"opaque".to_vec(),
    }
}

fn record_batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let record = NewRecord {
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"key"),
        value: Some(b"value"),
        headers: &[],
    };
    builder.append(&record).expect("it fits");
    let batch = builder.build(&mut Compressor::new());
    batch.expect("it can be built").to_vec()
}

/// A capture file of raw IPv4 packets, one a frame.
fn capture(exchanges: &[Exchange]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_be_bytes());
    file.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(0x0004_0000_u32.to_be_bytes());
    file.extend(101_u32.to_be_bytes());
    for (port, exchange) in (FIRST_CLIENT_PORT..).zip(exchanges) {
        let answered = 1 + exchange.request.len() as u32;
        let packets = [
            packet([port, BROKER_PORT], [1, 1], &exchange.request),
            packet([BROKER_PORT, port], [1, answered], &exchange.response),
        ];
        for packet in packets {
            file.extend([0; 8]);
            file.extend((packet.len() as u32).to_be_bytes());
            file.extend((packet.len() as u32).to_be_bytes());
            file.extend(packet);
        }
    }
    file
}

/// An IPv4 packet of a TCP segment between `[source, destination]` ports with
/// `[sequence, acknowledgement]` numbers; checksums are left out.
fn packet(ports: [u16; 2], numbers: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let size = u16::try_from(40 + payload.len()).expect("frames are small enough for one packet");
    let mut packet = vec![0x45, 0];
    packet.extend(size.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    packet.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    packet.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// A line of what the dissector prints.
struct Dissected {
    port: u16,
    is_request: bool,
    key: Option<i16>,
    version: Option<i16>,
    complaint: String,
}

fn dissect(file: &std::path::Path) -> Vec<Dissected> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields"])
        .args(["tcp.srcport", "tcp.dstport"].map(|field| format!("-e{field}")))
        .args(["kafka.api_key", "kafka.api_version"].map(|field| format!("-e{field}")))
        .args(["_ws.malformed", "_ws.expert.message"].map(|field| format!("-e{field}")))
        .output()
        .expect("tshark is missing: `.ci/packages test` installs it");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let line = |line: &str| {
        let [from, to, key, version, malformed, expert] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("six fields expected: {line}");
        };
        let port = |text: &str| text.parse::<u16>().expect("a port");
        let is_request = port(to) == BROKER_PORT;
        Dissected {
            port: port(if is_request { from } else { to }),
            is_request,
            key: key.parse().ok(),
            version: version.parse().ok(),
            complaint: format!("{malformed} {expert}").trim().to_owned(),
        }
    };
    text.lines().map(line).collect()
}

/// APIs of which Wireshark 4.0 misreads some version that it claims to know; Kafka's own clients and
/// the second codec read them as we do. (It takes the length of a byte string for two bytes shorter
/// than it is, and does not expect arrays within some arrays.)
const MISREAD: [ApiKey; 11] = [
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteAcls,
    ApiKey::SaslAuthenticate,
    ApiKey::CreatePartitions,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
];

#[test]
fn wireshark_reads_what_we_write() {
    let cases = Case::all().filter(|case| case.is_request);
    let exchanges: Vec<_> = (0..)
        .zip(cases)
        .map(|(n, case)| Exchange::new(case.key, case.version, n))
        .collect();
    let mut file = tempfile::NamedTempFile::new().expect("a file of its own");
    file.write_all(&capture(&exchanges))
        .expect("it can be written");

    let mut read = BTreeMap::new();
    let mut misread = BTreeSet::new();
    for packet in dissect(file.path()) {
        let exchange = &exchanges[usize::from(packet.port - FIRST_CLIENT_PORT)];
        let Exchange { key, version, .. } = exchange;
        let unknown = ["Unsupported", "Unknown", "Request missing"];
        if unknown.iter().any(|word| packet.complaint.contains(word)) {
            continue;
        }
        if !packet.complaint.is_empty() {
            let kind = if packet.is_request {
                "request"
            } else {
                "response"
            };
            let complaint = &packet.complaint;
            assert!(MISREAD.contains(key), "{key} {kind} {version}: {complaint}");
            misread.insert(*key);
            continue;
        }
        assert_eq!(packet.key, Some(key.code()));
        if packet.is_request {
            assert_eq!(packet.version, Some(*version));
        }
        *read.entry((*key, packet.is_request)).or_insert(0) += 1;
    }
    assert_eq!(
        misread,
        BTreeSet::from(MISREAD),
        "an API that is read well needs no exception"
    );
    let messages: u32 = read.values().sum();
    assert!(
        read.len() >= 65 && messages >= 220,
        "only {messages} messages of {} kinds",
        read.len()
    );
}
