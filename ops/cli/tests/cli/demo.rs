//! `conveyor demo`, on fewer orders than the real one.

use serde_json::Value;

use crate::node::conveyor;
use crate::processors::write_orders;

fn demo(flags: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (orders, dir) = (folder.path().join("orders.csv"), folder.path().join("demo"));
    write_orders(&orders, 150);
    let output = conveyor()
        .args(["demo", "--format", "json", "--orders"])
        .arg(&orders)
        .arg("--dir")
        .arg(&dir)
        .args(flags)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_demo_reconciles() {
    let summary = demo(&[]);
    assert_eq!(summary["orders"], 150);
    let checks = summary["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 4);
    assert!(
        checks.iter().all(|check| check["holds"] == true),
        "{checks:?}"
    );
    let stages = summary["final_stages"].as_object().unwrap();
    let orders: u64 = stages.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(orders, 150, "{stages:?}");
}

#[test]
fn a_demo_whose_node_is_killed_reconciles_just_the_same() {
    let summary = demo(&["--crash", "--seed", "2"]);
    assert_eq!(summary["killed"], true);
    assert!(summary["recovered_after_ms"].as_u64().unwrap() > 0);
    assert!(
        summary["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["holds"] == true)
    );
}
