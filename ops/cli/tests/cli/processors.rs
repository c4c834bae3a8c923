//! `conveyor workload` and `conveyor processors`.

use std::path::Path;
use std::process::Command;

use conveyor_paklog::projection::NAMES;
use serde_json::Value;

use crate::node::{Node, conveyor, eventually};

/// Some orders of three lines each, a minute apart.
pub(crate) fn write_orders(path: &Path, orders: u32) {
    let mut csv = "ordered_at,order_id,customer_id,store_id,sku,department,quantity\n".to_owned();
    for order in 0..orders {
        for line in 0..3 {
            let sku = 1000 + (order * 7 + line * 11) % 40;
            csv += &format!(
                "2017-01-{:02}T{:02}:{:02}:00Z,{order},{},367,{sku},GROCERY,{}\n",
                1 + order / 1440,
                order / 60 % 24,
                order % 60,
                order % 17,
                1 + line
            );
        }
    }
    std::fs::write(path, csv).unwrap();
}

/// One value of the read models.
fn query(store: &Path, sql: &str) -> i64 {
    let file = rusqlite::Connection::open(store).unwrap();
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn create_topics(node: &Node) {
    for (topic, partitions) in [
        ("wave-events", "6"),
        ("order-events", "6"),
        ("inventory-events", "12"),
        ("task-events", "12"),
        ("pick-events", "12"),
        ("pack-events", "6"),
        ("external-events", "3"),
        ("error-events", "3"),
    ] {
        node.run(&["topic", "create", topic, "-p", partitions]);
    }
}

fn run_processors(node: &Node, store: &Path) -> Value {
    let store = store.to_str().unwrap();
    let args = [
        "processors",
        "run",
        "--store",
        store,
        "--until-end",
        "--report-every",
        "600",
        "--log",
        "warn",
        "--format",
        "json",
    ];
    node.json(&args)
}

fn total(report: &Value, field: &str) -> i64 {
    report
        .as_array()
        .unwrap()
        .iter()
        .map(|projection| projection[field].as_i64().unwrap())
        .sum()
}

#[test]
fn orders_become_read_models_once_and_bad_records_go_to_error_events() {
    let node = Node::start(&[]);
    create_topics(&node);
    let orders = node.file("orders.csv");
    write_orders(&orders, 40);
    let orders = orders.to_str().unwrap();
    let sent = node.json(&[
        "workload", "run", "--orders", orders, "--seed", "5", "--format", "json",
    ]);
    assert_eq!(
        (&sent["orders"], &sent["failed"]),
        (&Value::from(40), &Value::from(0))
    );
    let errors_before = node
        .json_lines(&["topic", "consume", "error-events", "-o", ":end"])
        .len();
    node.run_with_input(
        &["topic", "produce", "inventory-events", "-k", "S", "-q"],
        "no event\n",
    );

    let store = node.file("read-models.sqlite");
    let report = run_processors(&node, &store);
    assert_eq!(query(&store, "SELECT count(*) FROM order_tracking"), 40);
    assert_eq!(total(&report, "lag_records"), 0);
    assert_eq!(
        total(&report, "records_rejected"),
        3,
        "atp, inventory_movement and kpi_minute read it"
    );
    let inventory = query(&store, "SELECT count(*) FROM inventory_movement");
    let positions =
        "SELECT sum(next_offset) FROM _conveyor_positions WHERE projection = 'inventory_movement'";
    assert_eq!(
        inventory + 1,
        query(&store, positions),
        "a row for each record but the bad one"
    );

    let errors = node.json_lines(&["topic", "consume", "error-events", "-o", ":end"]);
    assert_eq!(errors.len() - errors_before, 3);
    let rejected = errors
        .iter()
        .find(|record| record["value"] == "no event")
        .unwrap();
    let header = |name: &str| {
        let headers = rejected["headers"].as_array().unwrap();
        headers
            .iter()
            .find(|header| header["key"] == name)
            .map(|header| header["value"].clone())
    };
    assert_eq!(rejected["key"], "S");
    assert_eq!(
        header("kafka_dlt-original-topic"),
        Some("inventory-events".into())
    );
    assert_eq!(
        header("kafka_original-topic"),
        Some("inventory-events".into())
    );

    let again = run_processors_again(&node, &store);
    assert_eq!(
        query(&store, "SELECT count(*) FROM inventory_movement"),
        inventory
    );
    assert_eq!(again, 0, "nothing is applied twice");
    let state = node.json(&["group", "describe", "atp", "--format", "json"]);
    assert_eq!(
        (&state[0]["state"], &state[0]["total_lag"]),
        (&"Empty".into(), &0.into())
    );

    another_log_is_refused(&store);
}

/// A second instance on the same store, for a while: it finds nothing to do.
fn run_processors_again(node: &Node, store: &Path) -> i64 {
    let store = store.to_str().unwrap();
    let args = [
        "processors",
        "run",
        "--store",
        store,
        "--log",
        "warn",
        "--format",
        "json",
    ];
    let child = node
        .command(&args)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the groups have members again", || {
        let groups = node.json(&["group", "list", "--format", "json"]);
        let groups = groups.as_array().unwrap();
        let stable = groups.iter().all(|group| group["state"] == "Stable");
        (groups.len() == NAMES.len() && stable).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    total(
        &serde_json::from_str(text.lines().last().unwrap()).unwrap(),
        "records_applied",
    )
}

/// A store that has applied more than the log holds belongs to another log.
fn another_log_is_refused(store: &Path) {
    let other = Node::start(&[]);
    create_topics(&other);
    let store = store.to_str().unwrap();
    let (code, error) = other.refused(&[
        "processors",
        "run",
        "--projection",
        "atp",
        "--store",
        store,
        "--take-over",
        "--log",
        "off",
    ]);
    assert!(
        code == 1 && error.contains("not the log that the store was built from"),
        "{error}"
    );
}

#[test]
fn a_store_of_something_else_is_refused() {
    let node = Node::start(&[]);
    let store = node.file("notes.txt");
    std::fs::write(
        &store,
        "these are my notes, and they are not to be overwritten\n".repeat(20),
    )
    .unwrap();
    let (code, error) = node.refused(&[
        "processors",
        "run",
        "--store",
        store.to_str().unwrap(),
        "--log",
        "off",
    ]);
    assert!(code == 1 && error.contains("notes.txt"), "{error}");
    assert!(
        std::fs::read_to_string(&store)
            .unwrap()
            .starts_with("these are my notes")
    );
}

/// A frozen instance loses its partitions, wakes up, and writes nothing that the other one has
/// written: rows and records agree to the last one.
#[test]
fn a_frozen_instance_comes_back_without_doubling_anything() {
    let node = Node::start(&[
        "group.consumer.session.timeout.ms=2000",
        "group.consumer.heartbeat.interval.ms=200",
    ]);
    create_topics(&node);
    let send = |orders: u32, seed: &str| {
        let file = node.file(&format!("orders-{seed}.csv"));
        write_orders(&file, orders);
        let orders = file.to_str().unwrap();
        node.run(&["workload", "run", "--orders", orders, "--seed", seed]);
    };
    let store = node.file("read-models.sqlite");
    let instance = || {
        let store = store.to_str().unwrap();
        let args = [
            "processors",
            "run",
            "--projection",
            "inventory_movement",
            "--store",
            store,
        ];
        let mut command = node.command(&args);
        command
            .args(["--log", "off"])
            .stdout(std::process::Stdio::null());
        Instance(command.spawn().unwrap())
    };
    let records = || {
        let listed = node.json(&["topic", "list", "inventory-events", "--format", "json"]);
        listed[0]["records"].as_i64().unwrap()
    };
    let caught_up = || {
        // One statement sees one moment; before the first transaction there is no table.
        let file = rusqlite::Connection::open(&store).unwrap();
        let sql = "SELECT (SELECT count(*) FROM inventory_movement),
                          (SELECT coalesce(sum(next_offset), 0) FROM _conveyor_positions)";
        let seen = file.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (rows, read): (i64, i64) = seen.ok()?;
        assert_eq!(
            rows, read,
            "rows and positions belong together at any moment"
        );
        (rows > 0 && rows == records()).then_some(rows)
    };
    let members = |wanted: usize| {
        let group = node.json(&[
            "group",
            "describe",
            "inventory_movement",
            "--format",
            "json",
        ]);
        let stable = group[0]["state"] == "Stable";
        (stable && group[0]["members"].as_array().unwrap().len() == wanted).then_some(())
    };

    send(20, "1");
    let frozen = instance();
    eventually("the first instance has applied everything", caught_up);
    frozen.signal("STOP");
    send(20, "2");
    let heir = instance();
    eventually("the heir has taken over", caught_up);
    frozen.signal("CONT");
    send(20, "3");
    eventually("both share the partitions", || members(2));
    eventually("both have applied everything", caught_up);
    drop((frozen, heir));
}

/// `conveyor processors run`, stopped at the end.
struct Instance(std::process::Child);

impl Instance {
    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The file that documents all settings.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../processors/example.toml");

#[test]
fn the_documented_settings_say_what_would_run_where() {
    let check = |format: &str| {
        let mut command = conveyor();
        command.args(["processors", "run", "--config", EXAMPLE, "--check"]);
        command.args(["--format", format]);
        command
    };
    let secrets = [
        "WAREHOUSE_PASSWORD",
        "DOCS_PASSWORD",
        "SEARCH_PASSWORD",
        "LAKE_KEY_ID",
        "LAKE_SECRET",
    ];
    let output = check("json")
        .envs(secrets.map(|name| (name, "secret")))
        .output();
    let plan: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let rows = plan.as_array().unwrap().iter();
    let shown = |row: &Value| {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        (text("name"), text("into"), text("error_topic"))
    };
    let expected = [
        ("atp", "redis://cache.example/0?prefix=paklog", "atp-errors"),
        (
            "inventory_movement",
            "sqlite:read-models.sqlite",
            "error-events",
        ),
        (
            "order_tracking",
            "postgres://conveyor:***@db.example/warehouse?sslmode=verify-full",
            "error-events",
        ),
        (
            "wave_progress",
            "postgres://conveyor:***@db.example/warehouse?sslmode=verify-full",
            "error-events",
        ),
        ("lake", "s3 s3://warehouse-lake/events", "error-events"),
        (
            "order-archive",
            "mongodb mongodb://conveyor:***@docs.example/warehouse {topic}",
            "error-events",
        ),
        (
            "order-search",
            "elasticsearch https://search-1.example:9200,https://search-2.example:9200 \
             {topic}-{date}",
            "error-events",
        ),
        (
            "stock-now",
            "mongodb mongodb://conveyor:***@docs.example/warehouse stock",
            "stock-errors",
        ),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(rows.map(shown).collect::<Vec<_>>(), expected);

    let others = secrets[1..].iter().map(|name| (name, "secret"));
    let unset = check("text").envs(others).output().unwrap();
    let told = String::from_utf8_lossy(&unset.stderr).into_owned();
    assert_eq!(unset.status.code(), Some(1), "{told}");
    let line = std::fs::read_to_string(EXAMPLE).unwrap();
    let line = 1 + line
        .lines()
        .position(|l| l.contains("${WAREHOUSE"))
        .unwrap();
    assert!(told.contains(&format!("example.toml:{line}: ")), "{told}");
    assert!(told.contains("no variable WAREHOUSE_PASSWORD"), "{told}");
}

#[test]
fn projections_run_as_a_file_says() {
    let node = Node::start(&[]);
    create_topics(&node);
    let orders = node.file("orders.csv");
    write_orders(&orders, 50);
    node.run(&["workload", "run", "--orders", orders.to_str().unwrap()]);
    let file = node.file("processors.toml");
    let (one, other) = (node.file("one.sqlite"), node.file("other.sqlite"));
    let text = format!(
        "[defaults]\nstore = 'one'\nbatch_records_max = 10\n\
         [stores]\none.address = 'sqlite:{}'\nother.address = '${{OTHER_STORE}}'\n\
         [projections]\natp = {{}}\norder_tracking = {{ store = 'other' }}\n",
        one.display()
    );
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    let output = node
        .command(&["processors", "run", "--config", config, "--until-end"])
        .args(["--report-every", "600", "--log", "warn", "--format", "json"])
        .env("OTHER_STORE", &other)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.as_array().unwrap().len(), 2, "{report}");
    assert_eq!(query(&other, "select count(*) from order_tracking"), 50);
    assert!(query(&one, "select count(*) from atp") > 0);
    let both = node
        .command(&["processors", "run", "--config", config, "--store", "x"])
        .output()
        .unwrap();
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}
