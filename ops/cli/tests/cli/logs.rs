//! `conveyor log`.

use serde_json::{Value, json};

use crate::node::{Node, conveyor};

fn log(args: &[&str]) -> (Option<i32>, String) {
    let output = conveyor().arg("log").args(args).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_folder_is_dumped_and_verified_without_a_node() {
    let mut node = Node::start(&[]);
    node.run(&["topic", "create", "t"]);
    for batch in ["1\n2\n", "3\n"] {
        node.run_with_input(&["topic", "produce", "t", "-k", "a", "-q"], batch);
    }
    node.stop();
    let folder = node.partition_folder("t-0");
    let folder = folder.to_str().unwrap();

    let (code, dumped) = log(&[
        "dump",
        folder,
        "--records",
        "--from",
        "2",
        "--format",
        "json",
    ]);
    let batch: Value = serde_json::from_str(&dumped).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(
        (&batch["base_offset"], &batch["records"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(batch["data"][0]["value"], "3");

    let (code, verified) = log(&["verify", "--deep", folder, "--format", "json"]);
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(
        (code, &verified[0]["sound"], &verified[0]["records"]),
        (Some(0), &json!(true), &json!(3))
    );

    let file = node
        .partition_folder("t-0")
        .join("00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, verified) = log(&["verify", folder]);
    assert_eq!(code, Some(3), "{verified}");
    assert!(
        verified.contains("DAMAGED") && verified.contains("at position 0"),
        "{verified}"
    );
}

#[test]
fn a_folder_that_is_no_partition_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _) = log(&["dump", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
}
