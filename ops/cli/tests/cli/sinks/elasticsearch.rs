//! The sink into Elasticsearch and `OpenSearch`, on a stand-in that keeps everything in memory: it is
//! not restarted, the way to it is cut.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::elasticsearch::Elasticsearch;
use conveyor_test_servers::process::free_port;
use conveyor_test_servers::proxy::Proxy;
use conveyor_test_servers::tls::TlsServer;
use serde_json::Value;

use super::{Stage, answering, last_of_each_key, report_of};
use crate::node::eventually;

/// One document a record, by the day; and one a key.
fn config(url: &str, more: &str) -> String {
    format!(
        "[sinks.all]\n\
         topics = ['orders']\ndecode = 'json'\n\
         elasticsearch = {{ urls = ['{url}'], index = 'all-{{topic}}-{{date}}' {more} }}\n\
         [sinks.latest]\n\
         topics = ['orders']\ndecode = 'json'\ndocument.id = 'key'\nbatch.records_max = 100\n\
         elasticsearch = {{ urls = ['{url}'], index = 'latest' {more} }}\n"
    )
}

/// The body of an answer.
fn ask(port: u16, method: &str, path: &str) -> Value {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(
        socket,
        "{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// All documents of some indices, by id.
pub(super) fn read(port: u16, indices: &str) -> BTreeMap<String, Value> {
    ask(port, "POST", &format!("/{indices}/_refresh"));
    let found = ask(port, "GET", &format!("/{indices}/_search?size=10000"));
    let hits = found["hits"]["hits"].as_array().unwrap();
    let hit = |hit: &Value| {
        (
            hit["_id"].as_str().unwrap().to_owned(),
            hit["_source"].clone(),
        )
    };
    let documents: BTreeMap<_, _> = hits.iter().map(hit).collect();
    assert_eq!(documents.len(), hits.len(), "an id in two indices");
    documents
}

#[test]
fn elasticsearch_holds_each_record_once_and_each_key_s_last_whatever_is_killed() {
    let server = Elasticsearch::start();
    let proxy = Proxy::start(server.port);
    let mut chance = Chance::new();
    let mut lasting = Chance::new();
    let mut stage = Stage::new(&config(&format!("http://127.0.0.1:{}", proxy.port), ""));
    stage.play(8, &mut chance, || {
        proxy.cut(Duration::from_millis(100 + lasting.below(900)));
    });
    stage.finish();

    let log = stage.log();
    let all = read(server.port, "all-*");
    let events: Vec<_> = log.iter().filter(|sent| sent.value.is_some()).collect();
    assert_eq!(all.len(), events.len(), "one document for each event");
    for sent in events {
        let document = &all[&format!("orders-{}-{}", sent.partition, sent.offset)];
        assert_eq!(document["n"], sent.value.as_ref().unwrap()["n"], "{sent:?}");
        assert_eq!(document["conveyor"]["offset"], sent.offset);
    }

    let latest = read(server.port, "latest");
    let expected = last_of_each_key(&log);
    let alive: BTreeMap<_, _> = expected
        .into_iter()
        .filter_map(|(key, sent)| Some((key, sent.value?["n"].clone())))
        .collect();
    let found = latest
        .into_iter()
        .map(|(key, document)| (key, document["n"].clone()));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), alive);
}

#[test]
fn what_no_index_can_hold_goes_to_error_events_with_its_reason() {
    let server = Elasticsearch::start();
    let stage = Stage::new(&config(&format!("http://127.0.0.1:{}", server.port), ""));
    stage.node.run_with_input(
        &["topic", "produce", "orders", "-k", "a", "-q"],
        "{\"n\":1}\n{\"n\":{\"not\":\"a number\"}}\nno json\n{\"n\":2}\n",
    );
    let report = stage.finish();
    for (sink, indices, documents) in [("all", "all-*", 2), ("latest", "latest", 1)] {
        let shown = report_of(&report, sink);
        let counted = (&shown["records_applied"], &shown["records_rejected"]);
        assert_eq!(counted, (&2.into(), &2.into()), "{report}");
        assert_eq!(read(server.port, indices).len(), documents);
    }
    let errors = stage
        .node
        .json_lines(&["topic", "consume", "error-events", "-o", ":end"]);
    assert_eq!(errors.len(), 4, "two for each sink");
    let reasons: Vec<_> = errors
        .iter()
        .map(|error| {
            let headers = error["headers"].as_array().unwrap().iter();
            let mut named = headers.filter(|h| h["key"] == "kafka_dlt-exception-message");
            named.next().unwrap()["value"].as_str().unwrap().to_owned()
        })
        .collect();
    let count = |text: &str| {
        reasons
            .iter()
            .filter(|reason| reason.contains(text))
            .count()
    };
    assert_eq!(
        (count("failed to parse field [n]"), count("no JSON")),
        (2, 2),
        "{reasons:?}"
    );
}

#[test]
fn wrong_settings_are_told_by_name() {
    let told = |url: &str, more: &str| Stage::new(&config(url, more)).refused();
    let scheme = told("ftp://me:secret@h", "");
    assert!(
        scheme.contains("elasticsearch.urls: ftp://me:***@h is no http://"),
        "{scheme}"
    );
    let ca = told("https://h", ", ca = '/no/such/file'");
    assert!(
        ca.contains("elasticsearch.ca: /no/such/file cannot be read"),
        "{ca}"
    );

    let url = format!("http://127.0.0.1:{}", answering("401 Unauthorized"));
    let password = told(&url, ", user = 'me', password = 'secret'");
    assert!(
        password.contains("mend user and password of elasticsearch"),
        "{password}"
    );
    assert!(
        !password.contains("secret"),
        "the password is shown: {password}"
    );

    let server = Elasticsearch::start();
    let tls = told(&format!("https://127.0.0.1:{}", server.port), "");
    assert!(tls.contains("write http:// in elasticsearch.urls"), "{tls}");

    let server = TlsServer::start();
    let url = format!("https://localhost:{}", server.port);
    let unknown = told(&url, "");
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    assert!(unknown.contains("with elasticsearch.ca"), "{unknown}");
    let trusted = told(&url, &format!(", ca = '{}'", server.authority().display()));
    assert!(
        trusted.contains("something else than Elasticsearch"),
        "{trusted}"
    );

    // A server that is away is waited for.
    let stage = Stage::new(&config(&format!("http://127.0.0.1:{}", free_port()), ""));
    let mut instance = stage.start(0);
    let log = stage.node.file("instance-0.log");
    eventually("a warning", || {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("are elasticsearch.urls right?").then_some(())
    });
    assert!(
        instance.0.try_wait().unwrap().is_none(),
        "it has not given up"
    );
}
