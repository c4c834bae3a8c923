//! Targets that take what they are sent and answer nothing.

use conveyor_test_servers::chance::Chance;
use conveyor_test_servers::elasticsearch::Elasticsearch;
use conveyor_test_servers::mongodb::Mongodb;
use conveyor_test_servers::proxy::Proxy;
use serde_json::Value;

use super::{Stage, elasticsearch, mongodb};
use crate::node::eventually;
use crate::watching::listed;

/// A sink into each, and one that waits for no answer longer than two seconds.
fn config(documents: u16, search: u16) -> String {
    let search = format!("elasticsearch = {{ urls = ['http://127.0.0.1:{search}']");
    let reads = "topics = ['orders']\ndecode = 'json'";
    format!(
        "[sinks.documents]\n{reads}\nmongodb = \
         {{ url = 'mongodb://127.0.0.1:{documents}/sinks?directConnection=true', collection = 'all' }}\n\
         [sinks.search]\n{reads}\n{search}, index = 'all', request_timeout_ms = 90000 }}\n\
         [sinks.hasty]\n{reads}\n{search}, index = 'hasty', request_timeout_ms = 2000 }}\n"
    )
}

fn is_well(status: &Value) -> bool {
    status["state"] == "RUNNING" && status["lag_records"] == 0 && status["last_error"].is_null()
}

/// A sink that waits for an answer is FAULTED when nothing moves while there is lag, with what it is
/// at; one whose patience with its target ends sooner, or whose driver looks after the server, says that
/// itself, and is PAUSED. All go on when there are answers, and nothing is missing or there twice.
#[test]
fn targets_that_hang_are_shown_and_all_is_written_when_they_answer() {
    let (documents, search) = (Mongodb::start(&[]), Elasticsearch::start());
    let ways = [Proxy::start(documents.port), Proxy::start(search.port)];
    let mut stage = Stage::new(&config(ways[0].port, ways[1].port));
    let mut chance = Chance::new();
    let sinks = ["documents", "search", "hasty"];
    stage.produce(100, &mut chance);
    let instance = stage.start(0);
    for sink in sinks {
        eventually("it has caught up", || {
            listed(&stage.node, sink).filter(is_well)
        });
    }

    let held = ways.each_ref().map(Proxy::hold);
    stage.produce(100, &mut chance);
    for (sink, state, parts) in [
        ("hasty", "PAUSED", ["no answer in time", "127.0.0.1"]),
        ("documents", "PAUSED", ["is not available", "127.0.0.1"]),
        ("search", "FAULTED", ["no progress for ", "it was writing "]),
    ] {
        let status = eventually(&format!("{sink} being {state}"), || {
            listed(&stage.node, sink).filter(|status| status["state"] == state)
        });
        assert!(status["lag_records"].as_i64() > Some(0), "{status}");
        let error = status["last_error"].as_str().unwrap();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    drop(held);
    for sink in sinks {
        eventually("it goes on", || listed(&stage.node, sink).filter(is_well));
    }
    drop(instance);
    let events = stage.log().into_iter().filter(|sent| sent.value.is_some());
    let mut ids: Vec<_> = events
        .map(|sent| format!("orders-{}-{}", sent.partition, sent.offset))
        .collect();
    ids.sort();
    let stored = mongodb::read(&documents.url("sinks"), "all").into_keys();
    assert_eq!(stored.collect::<Vec<_>>(), ids);
    for index in ["all", "hasty"] {
        let stored = elasticsearch::read(search.port, index).into_keys();
        assert_eq!(stored.collect::<Vec<_>>(), ids, "{index}");
    }
}
