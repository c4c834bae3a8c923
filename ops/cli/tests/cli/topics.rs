//! `conveyor topic`.

use serde_json::json;

use crate::node::{Node, conveyor};

#[test]
fn topics_are_created_shown_changed_and_deleted() {
    let node = Node::start(&[]);
    let created = node.json(&[
        "topic",
        "create",
        "orders",
        "stock",
        "-p",
        "3",
        "-c",
        "retention.ms=60000",
        "--format",
        "json",
    ]);
    assert_eq!(
        created,
        json!([{"name": "orders", "status": "OK"}, {"name": "stock", "status": "OK"}])
    );
    let listed = node.json(&["topic", "list", "--format", "json"]);
    assert_eq!(
        listed[0],
        json!({"name": "orders", "partitions": 3, "replicas": 1, "records": 0, "size_bytes": 0})
    );
    assert_eq!(
        listed.as_array().unwrap().len(),
        2,
        "internal topics are not shown"
    );

    let (code, error) = node.refused(&["topic", "create", "orders"]);
    assert!(code == 1 && error.contains("1 of 1 failed"), "{error}");
    node.run(&["topic", "create", "orders", "--if-not-exists"]);

    node.run(&[
        "topic",
        "alter",
        "orders",
        "-s",
        "conveyor.durability=replicated",
        "-p",
        "5",
    ]);
    let described = node.json(&["topic", "describe", "orders", "--format", "json"]);
    assert_eq!(described[0]["partition_count"], 5);
    assert_eq!(described[0]["durability"], "replicated");
    assert!(
        described[0]["promise"]
            .as_str()
            .unwrap()
            .contains("not a power cut")
    );
    node.run(&["topic", "alter", "orders", "--unset", "conveyor.durability"]);
    let text = node.run(&["topic", "describe", "orders"]);
    assert!(
        text.contains("DURABILITY  fsync: acknowledged records have been synced"),
        "{text}"
    );

    node.run(&["topic", "delete", "orders"]);
    let (code, error) = node.refused(&["topic", "describe", "orders"]);
    assert!(code == 1 && error.contains("orders"), "{error}");
}

#[test]
fn records_come_back_as_they_were_written() {
    let node = Node::start(&[]);
    node.run(&["topic", "create", "t", "-p", "2"]);
    let written = node.run_with_input(
        &[
            "topic",
            "produce",
            "t",
            "-f",
            "%k:%v",
            "-H",
            "content-type=text/plain",
            "-p",
            "1",
        ],
        "a:1\nb:2\nc:3\n",
    );
    assert_eq!(
        written,
        "t-1 at offset 0\nt-1 at offset 1\nt-1 at offset 2\n"
    );
    node.run_with_input(
        &[
            "topic", "produce", "t", "-k", "d", "-p", "0", "-z", "lz4", "-q",
        ],
        "4\n",
    );

    let consume = |args: &[&str]| {
        let all: Vec<&str> = ["topic", "consume", "t"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        node.run(&all)
    };
    let all = consume(&["-o", ":end", "-p", "1", "-f", "%p@%o %k=%v %h{%k:%v}\\n"]);
    let header = "content-type:text/plain";
    assert_eq!(
        all,
        format!("1@0 a=1 {header}\n1@1 b=2 {header}\n1@2 c=3 {header}\n")
    );
    assert_eq!(consume(&["-o", "1:2", "-p", "1", "-f", "%k"]), "b");
    assert_eq!(consume(&["-o", "-1:end", "-p", "1", "-f", "%k"]), "c");
    assert_eq!(
        consume(&["-o", "+1", "-n", "1", "-p", "1", "-f", "%k"]),
        "b"
    );
    assert_eq!(consume(&["-o", "@-1h:end", "-p", "0", "-f", "%k"]), "d");
    assert_eq!(consume(&["-o", "end:end", "-f", "%k"]), "");
    let mut both: Vec<_> = consume(&["-o", ":end", "-f", "%k\\n"])
        .lines()
        .map(str::to_owned)
        .collect();
    both.sort();
    assert_eq!(both, ["a", "b", "c", "d"]);

    let record = &node.json_lines(&["topic", "consume", "t", "-n", "1", "-p", "1"])[0];
    assert_eq!(
        (&record["key"], &record["value"], &record["offset"]),
        (&json!("a"), &json!("1"), &json!(0))
    );
}

#[test]
fn what_goes_wrong_is_said_and_has_its_exit_code() {
    let node = Node::start(&[]);
    let (code, error) = node.refused(&["topic", "consume", "missing", "-o", ":end"]);
    assert!(code == 1 && error.contains("missing"), "{error}");
    let (code, error) = node.refused(&["topic", "consume", "t", "-o", "yesterday"]);
    assert!(code == 2 && error.contains("@-48h:-24h"), "{error}");
    let (code, error) = node.refused(&["topic", "create", "t", "-c", "retention.mss=1"]);
    assert!(code == 1 && error.contains("1 of 1 failed"), "{error}");

    let mut nobody = conveyor();
    nobody.args(["topic", "list", "--bootstrap", "127.0.0.1:1"]);
    let output = nobody.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("127.0.0.1:1") && error.contains("conveyor dev"),
        "{error}"
    );
}

#[test]
fn a_node_refuses_settings_that_it_does_not_know() {
    let mut broker = conveyor();
    broker.args(["broker", "--set", "log.dir=/tmp"]);
    let output = broker.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("did you mean log.dirs"),
        "{error}"
    );

    let mut settings = conveyor();
    settings.args([
        "broker",
        "--print-settings",
        "--set",
        "node.id=7",
        "--format",
        "json",
    ]);
    let printed: serde_json::Value =
        serde_json::from_slice(&settings.output().unwrap().stdout).unwrap();
    let node_id = printed
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "node.id")
        .unwrap();
    assert_eq!(
        (&node_id["value"], &node_id["source"]),
        (&json!("7"), &json!("flag"))
    );
}
