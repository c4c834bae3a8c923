//! The sink into `MongoDB`, on a stand-in with a real disk.

use std::collections::BTreeMap;

use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::mongodb::Mongodb;
use conveyor_test_servers::process::free_port;
use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::{Stage, last_of_each_key, report_of};
use crate::node::eventually;

/// One document a record, and one a key.
fn config(url: &str) -> String {
    format!(
        "[sinks.all]\n\
         topics = ['orders']\ndecode = 'json'\nmongodb = {{ url = '{url}', collection = 'all' }}\n\
         [sinks.latest]\n\
         topics = ['orders']\ndecode = 'json'\ndocument.id = 'key'\nbatch.records_max = 100\n\
         mongodb = {{ url = '{url}', collection = 'latest-{{topic}}' }}\n"
    )
}

/// All documents of a collection, by id.
pub(super) fn read(url: &str, collection: &str) -> BTreeMap<String, Document> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::with_uri_str(url).await.unwrap();
        let collection = client
            .default_database()
            .unwrap()
            .collection::<Document>(collection);
        let documents: Vec<Document> = collection
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let id = |document: Document| (document.get_str("_id").unwrap().to_owned(), document);
        documents.into_iter().map(id).collect()
    })
}

#[test]
fn mongodb_holds_each_record_once_and_each_key_s_last_whatever_is_killed() {
    let mut server = Mongodb::start(&["--sync-on-commit"]);
    let url = server.url("sinks");
    let mut chance = Chance::new();
    let mut stage = Stage::new(&config(&url));
    stage.play(8, &mut chance, || server.crash_and_restart());
    stage.finish();

    let log = stage.log();
    let all = read(&url, "all");
    let events: Vec<_> = log.iter().filter(|sent| sent.value.is_some()).collect();
    assert_eq!(all.len(), events.len(), "one document for each event");
    for sent in events {
        let document = &all[&format!("orders-{}-{}", sent.partition, sent.offset)];
        let n = document.get_i64("n").unwrap();
        assert_eq!(sent.value.as_ref().unwrap()["n"], n, "{sent:?}");
    }

    let latest = read(&url, "latest-orders");
    let expected = last_of_each_key(&log);
    assert_eq!(latest.len(), expected.len());
    for (key, sent) in expected {
        let document = &latest[&key];
        let origin = document.get_document("conveyor").unwrap();
        assert_eq!(origin.get_i64("offset").unwrap(), sent.offset, "{key}");
        match sent.value {
            Some(value) => {
                assert_eq!(document.get_i64("n").unwrap(), value["n"]);
                assert!(!document.contains_key("_deleted"));
            }
            None => assert!(document.contains_key("_deleted") && !document.contains_key("n")),
        }
    }
}

#[test]
fn what_mongodb_cannot_hold_goes_to_error_events_with_its_reason() {
    let server = Mongodb::start(&[]);
    let url = server.url("sinks");
    let stage = Stage::new(&config(&url));
    stage.node.run_with_input(
        &["topic", "produce", "orders", "-f", "%k|%v", "-q"],
        "a|{\"n\":1}\nb|no json\nc|{\"n\":2}\n",
    );
    let report = stage.finish();
    for (sink, collection) in [("all", "all"), ("latest", "latest-orders")] {
        let shown = report_of(&report, sink);
        assert_eq!(
            (&shown["records_applied"], &shown["records_rejected"]),
            (&2.into(), &1.into())
        );
        assert_eq!(read(&url, collection).len(), 2);
    }
    let errors = stage
        .node
        .json_lines(&["topic", "consume", "error-events", "-o", ":end"]);
    assert_eq!(errors.len(), 2, "one for each sink");
    let headers = errors[0]["headers"].as_array().unwrap();
    let header = |name: &str| {
        let header = headers.iter().find(|header| header["key"] == name);
        header.unwrap()["value"].as_str().unwrap()
    };
    assert_eq!(errors[0]["value"], "no json");
    assert_eq!(
        header("kafka_dlt-exception-fqcn"),
        "conveyor.decode.NotJson"
    );
    assert!(header("kafka_dlt-exception-message").contains("no JSON"));
    assert_eq!(header("kafka_dlt-original-topic"), "orders");
}

#[test]
fn a_wrong_address_or_password_is_told_with_the_setting() {
    let told = |url: &str| Stage::new(&config(url)).refused();
    let nonsense = told("mongodb://h:port/x");
    assert!(
        nonsense.contains("mongodb.url is not understood"),
        "{nonsense}"
    );

    let server = Mongodb::start(&["--auth"]);
    let host = format!("127.0.0.1:{}", server.port);
    let refused = told(&format!(
        "mongodb://me:wrong@{host}/x?directConnection=true"
    ));
    assert!(
        refused.contains("mend user and password in mongodb.url"),
        "{refused}"
    );
    assert!(
        !refused.contains("wrong"),
        "the password is shown: {refused}"
    );
    let without = told(&format!("mongodb://{host}/x?directConnection=true"));
    assert!(without.contains("mongodb.url"), "{without}");

    // A server that is away is waited for.
    let url = format!(
        "mongodb://127.0.0.1:{}/x?directConnection=true&serverSelectionTimeoutMS=200",
        free_port()
    );
    let stage = Stage::new(&config(&url));
    let mut instance = stage.start(0);
    let log = stage.node.file("instance-0.log");
    eventually("a warning", || {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("is mongodb.url right?").then_some(())
    });
    assert!(
        instance.0.try_wait().unwrap().is_none(),
        "it has not given up"
    );
}
