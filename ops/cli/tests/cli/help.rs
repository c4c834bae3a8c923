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

/// Read models, and what looks after them.
const PROCESSORS: [&[&str]; 17] = [
    &["processors"],
    &["processors", "run"],
    &["processors", "normalise"],
    &["projection"],
    &["projection", "list"],
    &["projection", "status"],
    &["projection", "pause"],
    &["projection", "resume"],
    &["projection", "parked", "list"],
    &["projection", "parked", "show"],
    &["projection", "parked", "redrive"],
    &["projection", "parked", "discard"],
    &["projection", "rebuild"],
    &["projection", "builds"],
    &["projection", "switch"],
    &["projection", "rollback"],
    &["projection", "prune"],
];

#[test]
fn every_command_explains_itself_with_examples() {
    let others: [&[&str]; 17] = [
        &["broker"],
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
    ];
    for args in others.into_iter().chain(PROCESSORS) {
        let text = help(args);
        // One that only leads to others names them.
        let is_leading = text.contains("<COMMAND>");
        assert!(
            is_leading || text.contains("Example"),
            "{args:?} has no example"
        );
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{args:?}: a line of {widest} characters");
    }
}

#[test]
fn topic_consume() {
    insta::assert_snapshot!(help(&["topic", "consume"]));
}

#[test]
fn processors() {
    for args in PROCESSORS {
        insta::assert_snapshot!(args.join("_"), help(args));
    }
}

#[test]
fn demo() {
    insta::assert_snapshot!(help(&["demo"]));
}
