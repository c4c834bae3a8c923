//! Messages as Kafka's own Java client and broker wrote them, version by version: we read each and
//! write the same bytes.
//!
//! `tests/golden/kafka-4.3.1.txt` was recorded by the ignored test below, which runs sessions of
//! Kafka's clients against Kafka's broker through a proxy that makes the broker look older and older.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conveyor_kafka::api::{AnyRequest, AnyResponse};
use conveyor_kafka::{ApiKey, Gather, Input, RequestHeader, ResponseHeader};
use conveyor_tests::kafka_broker::KafkaBroker;
use conveyor_tests::kafka_jars::{client_session, from_base64, to_base64};
use conveyor_tests::recorder::{Kind, Recorder};

/// How many versions older the broker looks in the last session than it is.
const OLDEST: i16 = 14;
/// Of the messages of a version, the largest up to this size is kept.
const SIZE_WANTED: usize = 600;

fn golden_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/kafka-4.3.1.txt")
}

#[test]
fn what_kafka_wrote_is_read_and_written_again_bit_for_bit() -> Result<()> {
    let text = std::fs::read_to_string(golden_file())?;
    let mut versions: BTreeMap<&str, BTreeSet<(ApiKey, i16)>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [side, name, version, frame] = fields[..] else {
            panic!("four fields expected: {line}");
        };
        let key = ApiKey::ALL
            .iter()
            .find(|key| key.name() == name)
            .context("a known API")?;
        let version = version.parse()?;
        let frame = Bytes::from(from_base64(frame)?.context("a frame")?);
        let again = match side {
            "request" => request_again(frame.clone()),
            _ => response_again(*key, version, frame.clone()),
        };
        let again = again.with_context(|| format!("{side} {name} {version}"))?;
        ensure!(
            again == frame,
            "{side} {name} {version} is written otherwise"
        );
        versions.entry(side).or_default().insert((*key, version));
    }
    let apis: BTreeSet<_> = versions["request"].iter().map(|(key, _)| *key).collect();
    assert!(apis.len() >= 50 && versions["request"].len() >= 215);
    assert_eq!(versions["request"], versions["response"]);
    Ok(())
}

fn request_again(frame: Bytes) -> Result<Bytes> {
    let mut input = Input::new(frame);
    let header = RequestHeader::decode(&mut input)?;
    let request = AnyRequest::decode(header.api_key, header.api_version, &mut input);
    let request = request.context("it has tables")??;
    ensure!(
        input.remaining() == 0,
        "{} bytes are left over",
        input.remaining()
    );
    let mut out = Gather::new();
    header.encode(&mut out)?;
    request.encode(header.api_version, &mut out)?;
    Ok(out.into_bytes())
}

fn response_again(key: ApiKey, version: i16, frame: Bytes) -> Result<Bytes> {
    let mut input = Input::new(frame);
    let header = ResponseHeader::decode(key, version, &mut input)?;
    let response = AnyResponse::decode(key, version, &mut input).context("it has tables")??;
    ensure!(
        input.remaining() == 0,
        "{} bytes are left over",
        input.remaining()
    );
    let mut out = Gather::new();
    header.encode(key, version, &mut out);
    response.encode(version, &mut out)?;
    Ok(out.into_bytes())
}

#[test]
#[ignore = "writes the golden file anew; takes minutes"]
fn record() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let recorder = Recorder::start()?;
    let one_partition = [
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
    ];
    let broker = KafkaBroker::start(folder.path(), Some(recorder.address()), &one_partition)?;
    recorder.connect_to(broker.address());
    for lowered in 0..=OLDEST {
        recorder.lower_versions(lowered);
        let refused = client_session(recorder.address(), &format!("golden-{lowered}"))?;
        println!("--- versions lowered by {lowered}\n{refused}");
    }
    let mut text = String::new();
    for (Kind { side, key, version }, mut frames) in recorder.messages() {
        if key
            .versions()
            .is_none_or(|versions| !versions.contains(version))
        {
            continue;
        }
        frames.sort_by_key(Bytes::len);
        let fitting = frames.iter().rfind(|frame| frame.len() <= SIZE_WANTED);
        let frame = to_base64(fitting.unwrap_or(&frames[0]));
        writeln!(text, "{side}\t{key}\t{version}\t{frame}")?;
    }
    std::fs::create_dir_all(golden_file().parent().context("it lies in a folder")?)?;
    std::fs::write(golden_file(), text)?;
    Ok(())
}
