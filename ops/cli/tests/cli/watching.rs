//! What can be seen from outside of work that takes a while: sinks, rebuilds and redrives, in the
//! control topic and for Prometheus.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use conveyor_test_servers::process::free_port;
use serde_json::{Value, json};

use crate::node::{Node, eventually};
use crate::processors::create_topics;
use crate::projections::{Instance, caught_up, parked, poison, read_log, send, skus};

/// A command of the binary at work, killed when dropped.
struct Work(Child);

impl Work {
    fn start(node: &Node, args: &[&str]) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(node.file("work.log"))
            .unwrap();
        let mut command = node.command(args);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    fn finish(mut self, node: &Node) {
        let status = eventually("the end of the command", || self.0.try_wait().unwrap());
        let said = std::fs::read_to_string(node.file("work.log")).unwrap();
        assert!(status.success(), "{status}: {said}");
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What `projection list` says of one name.
pub(crate) fn listed(node: &Node, name: &str) -> Option<Value> {
    let args = ["projection", "list", "--format", "json"];
    let output = node.command(&args).output().unwrap();
    // Before the first report there is no topic.
    let all: Value = serde_json::from_slice(&output.stdout).ok()?;
    let mut all = all.as_array()?.iter();
    all.find(|one| one["projection"] == name).cloned()
}

fn figures(port: u16) -> String {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(socket, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

fn figure(port: u16, series: &str) -> Option<f64> {
    let text = figures(port);
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn produce(node: &Node, count: u32) {
    let lines: Vec<String> = (0..count)
        .map(|n| format!("k{n}|{{\"n\":{n}}}\n"))
        .collect();
    let args = ["topic", "produce", "orders", "-f", "%k|%v", "-q"];
    node.run_with_input(&args, &lines.concat());
}

/// Records in the objects that a sink has written.
fn written(folder: &Path) -> usize {
    let mut lines = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "jsonl") {
                lines += std::fs::read_to_string(&path).unwrap().lines().count();
            }
        }
    }
    lines
}

/// A sink is listed beside the projections, pauses when it is asked to, also over a restart, and says
/// what keeps it from writing.
#[test]
fn sinks_are_listed_paused_and_measured() {
    let node = Node::start(&[]);
    node.run(&["topic", "create", "orders", "-p", "3"]);
    node.run(&["topic", "create", "error-events", "-p", "1"]);
    let lake = node.file("lake");
    std::fs::create_dir(&lake).unwrap();
    let config = node.file("processors.toml");
    let text = format!(
        "[sinks.lake]\ntopics = ['orders']\ndecode = 'json'\nbatch.wait_ms = 100\n\
         s3 = {{ url = 'file://{}', format = 'jsonl', compression = 'none' }}\n\
         [sinks.search]\ntopics = ['orders']\ndecode = 'json'\n\
         elasticsearch = {{ urls = ['http://127.0.0.1:{}'], index = 'orders' }}\n",
        lake.display(),
        free_port()
    );
    std::fs::write(&config, text).unwrap();
    let port = free_port();
    let (config, listen) = (config.to_str().unwrap(), format!("127.0.0.1:{port}"));
    let args = [
        "processors",
        "run",
        "--config",
        config,
        "--metrics-listen",
        &listen,
        "--log",
        "warn",
    ];
    produce(&node, 30);
    let instance = Work::start(&node, &args);
    let status = eventually("the sink writes", || {
        let status = listed(&node, "lake")?;
        let is_done = status["state"] == "RUNNING" && status["lag_records"] == 0;
        (is_done && written(&lake) == 30).then_some(status)
    });
    assert_eq!(
        (&status["kind"], &status["partitions"], &status["instances"]),
        (&json!("sink"), &json!(3), &json!(1))
    );
    assert!(
        status["store"].as_str().unwrap().contains("file://"),
        "{status}"
    );
    let away = eventually("the other says why it does not", || {
        let status = listed(&node, "search")?;
        let error = status["last_error"].as_str()?.to_owned();
        (status["state"] == "PAUSED").then_some(error)
    });
    assert!(away.contains("127.0.0.1"), "{away}");
    assert_eq!(
        figure(port, "conveyor_sink_records_applied_total{sink=\"lake\"}"),
        Some(30.0)
    );
    assert_eq!(
        figure(
            port,
            "conveyor_sink_state{sink=\"search\",state=\"PAUSED\"}"
        ),
        Some(1.0)
    );

    node.run(&["projection", "pause", "lake"]);
    produce(&node, 20);
    let lags = || {
        let status = listed(&node, "lake")?;
        let seconds = status["lag_seconds"].as_f64()?;
        let is_behind = status["lag_records"] == 20 && seconds > 0.0;
        (status["state"] == "PAUSED" && status["instances"] == 1 && is_behind).then_some(())
    };
    eventually("its lag shows", lags);
    eventually("its figures show it too", || {
        let lag = figure(port, "conveyor_sink_lag_records{sink=\"lake\"}");
        (lag == Some(20.0)).then_some(())
    });
    drop(instance);
    let instance = Work::start(&node, &args);
    eventually("it is back, and paused", || {
        let args = ["projection", "status", "lake", "--format", "json"];
        let told = node.json(&args)["instances_told"].clone();
        let told = told.as_array()?;
        let paused = told.iter().filter(|one| one["shown_state"] == "PAUSED");
        (told.len() == 2 && paused.count() == 2).then_some(())
    });
    assert_eq!(written(&lake), 30, "nothing is written while it is paused");
    let parked = node.json(&["projection", "parked", "list", "search", "--format", "json"]);
    assert_eq!(parked, json!([]), "a sink parks nothing");
    node.run(&["projection", "resume", "lake", "--wait", "60"]);
    eventually("it goes on", || (written(&lake) == 50).then_some(()));
    drop(instance);
}

/// A rebuild is listed with its progress, keeps its rate, pauses when it is asked to, goes on after a
/// kill, and is gone from the list when it is done.
#[test]
fn a_rebuild_shows_its_progress_and_keeps_its_rate() {
    const RATE: f64 = 30.0;
    let node = Node::start(&[]);
    create_topics(&node);
    send(&node, 60, "1");
    let store = node.file("read-models.sqlite");
    let store = store.to_str().unwrap();
    node.run(&[
        "processors",
        "run",
        "--projection",
        "atp",
        "--store",
        store,
        "--until-end",
        "--log",
        "off",
    ]);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let rebuild = ["projection", "rebuild", "atp", "--store", store];
    let slow = ["--rate", "30", "--lag", "0", "--metrics-listen", &listen];
    let slow = Work::start(&node, &[&rebuild[..], &slow].concat());
    let of = |status: &Value, field: &str| status["rebuild"][field].as_f64();
    let (begun, first) = eventually("it is listed", || {
        let status = listed(&node, "atp@2")?;
        of(&status, "seconds_left")?;
        (of(&status, "records_done")? > 0.0).then_some((Instant::now(), status))
    });
    assert_eq!(first["kind"], "rebuild");
    let all = of(&first, "records_done").unwrap() + of(&first, "records_left").unwrap();
    assert!(all > 8.0 * RATE, "{first}: too few records to see anything");
    let done = || of(&listed(&node, "atp@2").unwrap(), "records_done").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let (taken, time) = (
        done() - of(&first, "records_done").unwrap(),
        begun.elapsed().as_secs_f64(),
    );
    assert!(
        taken > 0.0 && taken <= RATE * (time + 3.0),
        "{taken} records within {time} s"
    );
    assert!(figure(port, "conveyor_rebuild_records_left{projection=\"atp@2\"}").unwrap() > 0.0);
    assert!(figure(port, "conveyor_rebuild_seconds_left{projection=\"atp@2\"}").is_some());

    node.run(&["projection", "pause", "atp@2"]);
    let paused = done();
    std::thread::sleep(Duration::from_secs(2));
    let left = listed(&node, "atp@2").unwrap()["rebuild"]["records_left"].clone();
    assert!(
        done() - paused <= RATE * 2.0 && left.as_u64() > Some(0),
        "{left}"
    );
    assert_eq!(
        listed(&node, "atp").map(|s| s["state"].clone()),
        Some("STOPPED".into())
    );
    node.run(&["projection", "resume", "atp@2"]);

    drop(slow);
    Work::start(&node, &[&rebuild[..], &["--lag", "0"]].concat()).finish(&node);
    eventually("the list has it no more", || {
        listed(&node, "atp@2").is_none().then_some(())
    });
    let builds = node.json(&["projection", "builds", "--store", store, "--format", "json"]);
    let live = builds
        .as_array()
        .unwrap()
        .iter()
        .find(|b| b["live"] == true);
    assert_eq!(live.unwrap()["build"], "2");
}

/// With a rate, a redrive takes its time, says how far it is, and is waited for as long as it gets on.
#[test]
fn a_redrive_keeps_its_rate_and_is_waited_for_while_it_gets_on() {
    const WAIT_S: u64 = 8;
    let node = Node::start(&[]);
    create_topics(&node);
    let store = node.file("read-models.sqlite");
    send(&node, 5, "1");
    let sku = skus(&read_log(&node))[0].clone();
    poison(&node, &sku);
    send(&node, 120, "2");
    let instance = Instance::start(&node, &store);
    eventually("all is taken in", || caught_up(&node, &store));

    // The head goes, and what is behind it stays where it is.
    let key = parked(&node, "atp")[0].clone();
    let waiting = key["waiting"].as_u64().unwrap() - 1;
    assert!(waiting > WAIT_S * 2, "{key}");
    let place = key["place"].as_str().unwrap();
    let discard = json!({
        "asked_at_ms": 0,
        "action": { "do": "discard", "place": place, "head": key["head"], "all": false },
    });
    let args = [
        "topic",
        "produce",
        "conveyor-projections",
        "-k",
        "command/atp/one",
        "-q",
    ];
    node.run_with_input(&args, &format!("{discard}\n"));
    eventually("the head is gone", || {
        (parked(&node, "atp")[0]["waiting"] == waiting).then_some(())
    });

    let rate = (waiting / (WAIT_S + 4)).max(1);
    let (rate_text, wait) = (rate.to_string(), WAIT_S.to_string());
    let args = [
        "projection",
        "parked",
        "redrive",
        "atp",
        place,
        "--rate",
        &rate_text,
        "--wait",
        &wait,
        "--format",
        "json",
    ];
    let begun = Instant::now();
    let command = node.command(&args).stdin(Stdio::null()).output().unwrap();
    let took = begun.elapsed();
    let said = String::from_utf8(command.stderr).unwrap();
    assert!(command.status.success(), "{said}");
    let result: Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!(
        (&result[0]["applied"], &result[0]["waiting"]),
        (&json!(waiting), &json!(0))
    );
    let least = Duration::from_secs_f64(waiting as f64 / rate as f64 * 0.8);
    assert!(
        took > least && took > Duration::from_secs(WAIT_S),
        "{took:?}"
    );
    let told = said.lines().filter(|line| line.contains(" applied, "));
    assert!(told.count() >= 3, "{said}");
    assert_eq!(parked(&node, "atp").len(), 0);
    drop(instance);
}
