//! `conveyor transaction`, as far as it goes without a transactional producer; those are in
//! `broker/server/tests/kafka`.

use serde_json::json;

use crate::node::Node;

#[test]
fn a_node_without_transactions_says_so() {
    let node = Node::start(&[]);
    let listed = node.json(&["transaction", "list", "--format", "json"]);
    assert_eq!(listed, json!([]));
    let hanging = node.json(&["transaction", "hanging", "--format", "json"]);
    assert_eq!(hanging, json!([]));
    let (code, error) = node.refused(&["transaction", "describe", "nobody"]);
    assert!(code == 1 && error.contains("nobody"), "{error}");
    let (code, error) = node.refused(&["transaction", "list", "--state", "Nonsense"]);
    assert!(code == 1 && error.contains("Ongoing"), "{error}");
    node.run(&["topic", "create", "t"]);
    let (code, _) = node.refused(&[
        "transaction",
        "abort",
        "--topic",
        "t",
        "--partition",
        "0",
        "--start-offset",
        "0",
    ]);
    assert_eq!(code, 1, "nothing hangs there");
    let (code, error) = node.refused(&["transaction", "abort", "--topic", "t"]);
    assert!(code == 2 && error.contains("--partition"), "{error}");
}
