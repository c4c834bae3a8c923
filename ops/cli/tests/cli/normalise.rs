//! `conveyor processors normalise` as a process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::node::{Node, eventually};

const STOCK: &str = "fulfillment.inventory.v1.events";
const ORDERS: &str = "fulfillment.order_management.v1.events";

fn order(number: u32) -> String {
    json!({
        "specversion": "1.0", "id": format!("e-{number}"), "source": "/fulfillment/order-management-service",
        "type": "com.paklog.fulfillment.order.cancelled", "subject": format!("o-{number}"),
        "data": { "order_id": format!("o-{number}"), "cancellation_reason": "none" },
    })
    .to_string()
}

fn until_end(node: &Node, more: &[&str]) -> Value {
    let mut args = vec!["processors", "normalise", "--until-end", "--format", "json"];
    args.extend_from_slice(&["--log", "warn", "--report-every", "600"]);
    args.extend_from_slice(more);
    node.json(&args)
}

fn committed(node: &Node, topic: &str) -> Vec<Value> {
    node.json_lines(&["topic", "consume", topic, "-o", ":end", "--read-committed"])
}

#[test]
fn events_come_out_once_on_their_topic_and_bad_records_on_error_events() {
    let node = Node::start(&[]);
    node.run(&["topic", "create", ORDERS, "-p", "2"]);
    let lines: String = (0..20).map(|n| order(n) + "\n").collect();
    node.run_with_input(&["topic", "produce", ORDERS, "-q"], &(lines + "no event\n"));
    let report = until_end(&node, &[]);
    assert_eq!(
        (&report["records"], &report["rejected"]),
        (&json!(21), &json!(1))
    );
    assert_eq!(report["normalised"], json!({ "order-events": 20 }));
    assert_eq!(report["lag_records"], 0);
    // What is done stays done.
    assert_eq!(until_end(&node, &["--instance", "other"])["records"], 0);
    let events = committed(&node, "order-events");
    assert_eq!(events.len(), 20);
    for event in &events {
        let value: Value = serde_json::from_str(event["value"].as_str().unwrap()).unwrap();
        assert_eq!(value["type"], "com.paklog.fulfillment.order.cancelled.v1");
        assert_eq!(
            event["key"], value["subject"],
            "null keys become the order's id"
        );
        let headers = event["headers"].to_string();
        for part in [
            "application/cloudevents+json",
            "conveyor-source-offset",
            ORDERS,
        ] {
            assert!(headers.contains(part), "{part} is missing in {headers}");
        }
    }
    let errors = committed(&node, "error-events");
    assert_eq!((errors.len(), &errors[0]["value"]), (1, &json!("no event")));
    let headers = errors[0]["headers"].to_string();
    for part in [
        "kafka_dlt-original-topic",
        "kafka_original-topic",
        "conveyor.decode.NotJson",
    ] {
        assert!(headers.contains(part), "{part} is missing in {headers}");
    }
}

#[test]
fn a_topic_that_comes_later_is_read_and_a_signal_ends_it_in_order() {
    let node = Node::start(&[]);
    let mut command = node.command(&[
        "processors",
        "normalise",
        "--format",
        "json",
        "--report-every",
        "600",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut note = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !note.contains("reading from") {
        note.clear();
        assert!(stderr.read_line(&mut note).unwrap() > 0, "it has ended");
    }
    // Nobody has to read what it logs.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    node.run(&["topic", "create", STOCK, "-p", "1"]);
    let value = json!({ "type": "StockLevelChanged", "data": {
        "sku": "SKU-1", "change_reason": "r",
        "previous_stock_level": { "quantity_on_hand": 1, "quantity_allocated": 0, "available_to_promise": 1 },
        "new_stock_level": { "quantity_on_hand": 2, "quantity_allocated": 0, "available_to_promise": 2 },
    }});
    node.run_with_input(&["topic", "produce", STOCK, "-q"], &format!("{value}\n"));
    let event = eventually("the event", || committed(&node, "inventory-events").pop());
    assert_eq!(event["key"], "SKU-1");
    let killed = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "it did not stop in order");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["normalised"], json!({ "inventory-events": 1 }));
}

#[test]
fn routes_are_a_file_that_is_checked() {
    let node = Node::start(&[]);
    let builtin = node.run(&["processors", "normalise", "--print-routes"]);
    let file = node.file("routes.toml");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        builtin.replace(
            "[[source]]\ntopic = \"task-events\"",
            "[[source]]\ntopic = \"error-events\"",
        ),
    )
    .unwrap();
    let (_, reason) = node.refused(&["processors", "normalise", "--routes", path]);
    assert!(
        reason.contains("routes.toml") && reason.contains("cannot be a source"),
        "{reason}"
    );
    std::fs::write(
        &file,
        "[targets]\n\"order-events\" = \"shadow.orders\"\n[[source]]\ntopic = \"old-orders\"\n",
    )
    .unwrap();
    node.run(&["topic", "create", "old-orders", "-p", "1"]);
    node.run_with_input(
        &["topic", "produce", "old-orders", "-q"],
        &(order(1) + "\n"),
    );
    let report = until_end(&node, &["--routes", path]);
    assert_eq!(report["normalised"], json!({ "shadow.orders": 1 }));
    assert_eq!(committed(&node, "shadow.orders").len(), 1);
}
