//! The sink into S3, on a stand-in that keeps everything in memory (it is not restarted, the way to
//! it is cut) and in a folder. Objects are read by other code than wrote them: JSON lines by `zstd`
//! and `serde_json`, Parquet by `pyarrow`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::process::free_port;
use conveyor_test_servers::proxy::Proxy;
use conveyor_test_servers::s3::S3;
use conveyor_test_servers::tls::TlsServer;
use serde_json::Value;

use super::{Sent, Stage, answering, report_of};
use crate::node::eventually;

/// One sink; small parts, so that there are many.
fn config(url: &str, more: &str) -> String {
    format!(
        "[sinks.archive]\n\
         topics = ['orders']\ndecode = 'json'\n\
         batch = {{ records_max = 40, wait_ms = 400 }}\n\
         s3 = {{ url = '{url}' {more} }}\n"
    )
}

/// The settings of a bucket on the stand-in.
fn bucket(port: u16) -> String {
    format!(
        ", endpoint = 'http://127.0.0.1:{port}', access_key_id = 'id', secret_access_key = 'key'"
    )
}

/// Credentials that the stand-in takes: it looks whether there are some.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 \
    Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

fn ask(port: u16, method: &str, path: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(
        socket,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\
         Authorization: {AUTHORIZATION}\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer[end + 4..].to_vec())
}

/// All objects of a bucket, by name.
fn objects_of(port: u16, bucket: &str) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/{bucket}?list-type=2&start-after={after}");
        let (_, listing) = ask(port, "GET", &path);
        let listing = String::from_utf8(listing).unwrap();
        let names: Vec<_> = listing
            .split("<Key>")
            .skip(1)
            .map(|part| part.split_once("</Key>").unwrap().0.to_owned())
            .collect();
        let Some(last) = names.last() else {
            return objects;
        };
        after.clone_from(last);
        for name in names {
            let (head, body) = ask(port, "GET", &format!("/{bucket}/{name}"));
            assert!(head.contains(" 200 "), "{name}: {head}");
            objects.insert(name, body);
        }
    }
}

/// All files of a folder, by their name within it.
fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Each record that objects of JSON lines hold, as often as it stands there; and that each stands
/// where its name says.
fn lines_of(objects: &BTreeMap<String, Vec<u8>>, prefix: &str) -> Vec<Sent> {
    let mut lines = Vec::new();
    for (name, object) in objects {
        let Some(place) = name
            .strip_prefix(prefix)
            .filter(|name| name.starts_with("topic="))
        else {
            continue;
        };
        let text = zstd::decode_all(&object[..]).unwrap();
        for line in String::from_utf8(text).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let sent = Sent {
                partition: line["partition"].as_i64().unwrap(),
                offset: line["offset"].as_i64().unwrap(),
                key: line["key"].as_str().unwrap().to_owned(),
                value: line.get("value").cloned(),
            };
            assert_in_place(place, &line);
            lines.push(sent);
        }
    }
    lines
}

/// `topic=orders/dt=2026-11-23/hour=04/partition=3/FIRST-LAST.jsonl.zst`
fn assert_in_place(name: &str, line: &Value) {
    let parts: Vec<_> = name.split('/').collect();
    let [topic, _, _, partition, range] = parts[..] else {
        panic!("{name}");
    };
    assert_eq!(topic, "topic=orders");
    assert_eq!(partition, format!("partition={}", line["partition"]));
    let (first, last) = range.split_once('.').unwrap().0.split_once('-').unwrap();
    let (first, last): (i64, i64) = (first.parse().unwrap(), last.parse().unwrap());
    let offset = line["offset"].as_i64().unwrap();
    assert!((first..=last).contains(&offset), "{offset} in {name}");
}

fn assert_each_once(mut lines: Vec<Sent>, mut log: Vec<Sent>) {
    let place = |sent: &Sent| (sent.partition, sent.offset);
    lines.sort_by_key(place);
    log.sort_by_key(place);
    let doubled = lines
        .windows(2)
        .filter(|two| place(&two[0]) == place(&two[1]))
        .count();
    assert_eq!(doubled, 0, "records that stand in two objects");
    assert_eq!(lines.len(), log.len());
    assert_eq!(lines, log);
}

#[test]
fn each_record_stands_in_one_object_of_a_bucket_whatever_is_killed() {
    let server = S3::start();
    ask(server.port, "PUT", "/archive");
    let proxy = Proxy::start(server.port);
    let mut chance = Chance::new();
    let mut lasting = Chance::new();
    let mut stage = Stage::new(&config("s3://archive/a/b", &bucket(proxy.port)));
    stage.play(10, &mut chance, || {
        proxy.cut(Duration::from_millis(100 + lasting.below(900)));
    });
    stage.finish();
    let objects = objects_of(server.port, "archive");
    println!("{} objects", objects.len());
    assert_each_once(lines_of(&objects, "a/b/"), stage.log());
    assert!(objects.contains_key("a/b/_conveyor/topic=orders/partition=3.json"));
}

#[test]
fn each_record_stands_in_one_file_of_a_folder_whatever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut chance = Chance::new();
    let url = format!("file://{}", folder.path().display());
    let mut stage = Stage::new(&config(&url, ""));
    // There is no server to hurt.
    stage.play(10, &mut chance, || {});
    stage.finish();
    assert_each_once(lines_of(&files_of(folder.path()), ""), stage.log());
}

/// Prints partition, offset, key and value of all rows of the Parquet files of a folder, as JSON
/// lines.
const READ_PARQUET: &str = "
import json, sys, pathlib
import pyarrow.parquet as parquet
for path in sorted(pathlib.Path(sys.argv[1]).rglob('*.parquet')):
    for row in parquet.ParquetFile(path).read().to_pylist():
        print(json.dumps([row['partition'], row['offset'], row['key'], row['value'],
                          row['timestamp'].tzinfo is not None]))
";

#[test]
fn parquet_is_read_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut chance = Chance::new();
    let url = format!("file://{}", folder.path().display());
    let mut stage = Stage::new(&config(&url, ", format = 'parquet'"));
    stage.produce(300, &mut chance);
    stage.node.run_with_input(
        &["topic", "produce", "orders", "-k", "a", "-q"],
        "no json\n",
    );
    let report = stage.finish();
    let shown = report_of(&report, "archive");
    assert_eq!(shown["records_rejected"], 1, "{report}");

    let output = std::process::Command::new("python3")
        .env(
            "PYTHONPATH",
            conveyor_test_servers::process::package("pyarrow-26.0.1"),
        )
        .args(["-c", READ_PARQUET, folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = String::from_utf8(output.stdout).unwrap();
    let rows = rows.lines().map(|row| {
        let row: Value = serde_json::from_str(row).unwrap();
        assert_eq!(row[4], true, "a time has its zone");
        Sent {
            partition: row[0].as_i64().unwrap(),
            offset: row[1].as_i64().unwrap(),
            key: row[2].as_str().unwrap().to_owned(),
            value: row[3]
                .as_str()
                .map(|value| serde_json::from_str(value).unwrap()),
        }
    });
    let mut log = stage.log();
    log.retain(|sent| sent.value != Some(Value::Null));
    assert_each_once(rows.collect(), log);
}

#[test]
fn wrong_settings_are_told_by_name() {
    let told = |url: &str, more: &str| Stage::new(&config(url, more)).refused();
    let scheme = told("http://b", "");
    assert!(
        scheme.contains("s3.url: write s3://BUCKET/PREFIX"),
        "{scheme}"
    );
    let ca = told("s3://b", ", ca = '/no/such/file'");
    assert!(ca.contains("s3.ca: /no/such/file cannot be read"), "{ca}");

    let server = S3::start();
    let missing = told("s3://missing", &bucket(server.port));
    assert!(
        missing.contains("there is no such bucket: mend s3.url"),
        "{missing}"
    );
    let plain = bucket(server.port).replace("http:", "https:");
    let tls = told("s3://missing", &plain);
    assert!(tls.contains("write http:// in s3.endpoint"), "{tls}");

    let denied = told("s3://b", &bucket(answering("403 Forbidden")));
    assert!(
        denied.contains("mend s3.access_key_id and s3.secret_access_key"),
        "{denied}"
    );
    let server = TlsServer::start();
    let endpoint = bucket(server.port).replace("http://127.0.0.1", "https://localhost");
    let unknown = told("s3://b", &endpoint);
    assert!(unknown.contains("certificate with s3.ca"), "{unknown}");

    // A server that is away is waited for.
    let stage = Stage::new(&config("s3://b", &bucket(free_port())));
    let mut instance = stage.start(0);
    let log = stage.node.file("instance-0.log");
    eventually("a warning", || {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("are s3.url and s3.endpoint right?")
            .then_some(())
    });
    assert!(
        instance.0.try_wait().unwrap().is_none(),
        "it has not given up"
    );
}
