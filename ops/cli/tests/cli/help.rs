//! What `--help` says. A change of the command line shows up here.

use crate::node::conveyor;

fn help(args: &[&str]) -> String {
    let output = conveyor()
        .args(args)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_explains_itself_with_examples() {
    for args in [
        &["broker"][..],
        &["dev"],
        &["demo"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "delete"],
        &["topic", "consume"],
        &["topic", "produce"],
        &["group", "list"],
        &["group", "describe"],
        &["group", "seek"],
        &["group", "delete"],
        &["log", "dump"],
        &["log", "verify"],
        &["workload", "run"],
        &["processors", "run"],
        &["processors", "normalise"],
        &["projection", "list"],
        &["projection", "status"],
        &["projection", "pause"],
        &["projection", "resume"],
        &["projection", "parked", "list"],
        &["projection", "parked", "show"],
        &["projection", "parked", "redrive"],
        &["projection", "parked", "discard"],
    ] {
        let text = help(args);
        assert!(text.contains("Example"), "{args:?} has no example");
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{args:?}: a line of {widest} characters");
    }
}

#[test]
fn topic_consume() {
    insta::assert_snapshot!(help(&["topic", "consume"]));
}

#[test]
fn demo() {
    insta::assert_snapshot!(help(&["demo"]));
}
