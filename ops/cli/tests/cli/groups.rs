//! `conveyor group`.

use serde_json::{Value, json};

use crate::node::Node;

fn describe(node: &Node) -> Value {
    node.json(&["group", "describe", "readers", "--format", "json"])[0].clone()
}

#[test]
fn a_group_is_shown_moved_and_deleted() {
    let node = Node::start(&[]);
    node.run(&["topic", "create", "t"]);
    node.run_with_input(&["topic", "produce", "t", "-q"], "1\n2\n3\n4\n5\n");
    let read = node.run(&[
        "topic", "consume", "t", "-g", "readers", "-n", "3", "-f", "%v",
    ]);
    assert_eq!(read, "123");

    let listed = node.json(&["group", "list", "--format", "json"]);
    assert_eq!(
        listed,
        json!([{
            "group": "readers",
            "protocol_type": "consumer",
            "state": "Empty",
            "type": "consumer",
        }])
    );
    let described = describe(&node);
    assert_eq!(
        (&described["state"], &described["total_lag"]),
        (&json!("Empty"), &json!(2))
    );
    assert_eq!(described["partitions"][0]["current_offset"], 3);
    assert!(
        described["lag_seconds"].as_f64().unwrap() > 0.0,
        "{described}"
    );

    let dry = node.json(&[
        "group", "seek", "readers", "--to", "start", "--dry", "--format", "json",
    ]);
    assert_eq!(
        (&dry[0]["prior_offset"], &dry[0]["new_offset"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(describe(&node)["total_lag"], 2, "a dry run changes nothing");
    node.run(&["group", "seek", "readers", "--to", "-1"]);
    assert_eq!(describe(&node)["total_lag"], 1);
    let read = node.run(&[
        "topic", "consume", "t", "-g", "readers", "-n", "1", "-f", "%v",
    ]);
    assert_eq!(read, "5");

    node.run(&["group", "delete", "readers"]);
    let (code, error) = node.refused(&["group", "describe", "readers"]);
    assert!(code == 1 && error.contains("readers"), "{error}");
}
