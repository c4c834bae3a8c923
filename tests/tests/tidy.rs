//! Hygiene of the workspace that no compiler checks: which crate may know which, licences, sources,
//! one version of what must be one, module comments, leftovers, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each of our crates may use. An edge that is missing here is a decision to
/// discuss, not a line to add: dependencies point one way.
const ALLOWED: &[(&str, &[&str])] = &[
    ("conveyor-record", &[]),
    ("conveyor-grpc", &["conveyor-record"]),
    ("conveyor-kafka", &["conveyor-record"]),
    ("conveyor-log", &["conveyor-record"]),
    ("conveyor-group", &["conveyor-record"]),
    ("conveyor-transaction", &["conveyor-record"]),
    ("conveyor-controller", &["conveyor-record"]),
    ("conveyor-replication", &["conveyor-record"]),
    ("conveyor-quorum", &["conveyor-record", "conveyor-log"]),
    (
        "conveyor-server",
        &[
            "conveyor-record",
            "conveyor-grpc",
            "conveyor-kafka",
            "conveyor-log",
            "conveyor-group",
            "conveyor-transaction",
            "conveyor-controller",
        ],
    ),
    // A cluster in one thread, with everything that waits or draws simulated.
    (
        "conveyor-sim",
        &[
            "conveyor-record",
            "conveyor-log",
            "conveyor-replication",
            "conveyor-controller",
        ],
    ),
    // Adopts Kafka's folders: opens logs and writes metadata as the broker does, without being one.
    (
        "conveyor-migrate",
        &["conveyor-record", "conveyor-log", "conveyor-controller"],
    ),
    ("conveyor-sdk", &["conveyor-record", "conveyor-grpc"]),
    ("conveyor-processors", &["conveyor-record", "conveyor-sdk"]),
    (
        "conveyor-stores",
        &["conveyor-record", "conveyor-processors"],
    ),
    (
        "conveyor-paklog",
        &["conveyor-record", "conveyor-sdk", "conveyor-processors"],
    ),
    // Members of consumer groups, by the same parts as projections.
    (
        "conveyor-sinks",
        &["conveyor-record", "conveyor-sdk", "conveyor-processors"],
    ),
];

/// Crates without any of these stay pure: nothing that waits, draws or reads a clock.
const PURE: &[&str] = &[
    "conveyor-record",
    "conveyor-kafka",
    "conveyor-log",
    "conveyor-group",
    "conveyor-transaction",
    "conveyor-controller",
    "conveyor-replication",
    "conveyor-quorum",
    "conveyor-sim",
];
const NOT_IN_PURE: &[&str] = &["tokio", "tonic", "rand", "hyper", "rusqlite"];

const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"];
const ONE_VERSION: &[&str] = &[
    "tokio", "tonic", "prost", "bytes", "hyper", "h2", "axum", "serde",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("workspace")
        .to_path_buf()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().expect("packages")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Names of what a package depends on, dev-dependencies left out.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter()
        .filter(|d| d["kind"].as_str() != Some("dev"))
        .map(|d| text(d, "name"))
        .collect()
}

fn sources(extension: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output()
        .expect("git ls-files runs");
    String::from_utf8_lossy(&output.stdout)
        .split('\0')
        .filter(|path| path.ends_with(extension))
        .map(|path| root().join(path))
        .filter(|path| path.exists())
        .collect()
}

#[test]
fn dependencies_between_our_crates_point_one_way() {
    let metadata = metadata();
    for (name, allowed) in ALLOWED {
        let package = packages(&metadata)
            .iter()
            .find(|p| text(p, "name") == *name);
        let package = package.unwrap_or_else(|| panic!("no crate {name} in the workspace"));
        for dependency in dependencies(package) {
            if dependency.starts_with("conveyor-") {
                assert!(
                    allowed.contains(&dependency),
                    "{name} must not use {dependency}"
                );
            }
        }
    }
}

#[test]
fn pure_crates_cannot_wait_draw_or_tell_the_time() {
    let metadata = metadata();
    for package in packages(&metadata)
        .iter()
        .filter(|p| PURE.contains(&text(p, "name")))
    {
        for dependency in dependencies(package) {
            assert!(
                !NOT_IN_PURE.contains(&dependency),
                "{} must stay free of {dependency}",
                text(package, "name")
            );
        }
    }
}

#[test]
fn every_licence_is_permissive_and_every_source_is_the_registry() {
    let metadata = metadata();
    for package in packages(&metadata) {
        let name = text(package, "name");
        let licence = text(package, "license").replace('/', " OR ");
        let permitted = licence.split(" AND ").all(|part| {
            let part = part.trim().trim_start_matches('(').trim_end_matches(')');
            part.split(" OR ")
                .any(|l| LICENCES.contains(&l.trim_matches(['(', ')', ' '])))
        });
        assert!(permitted, "{name}: licence '{licence}' is not on the list");
        let source = package["source"].as_str();
        assert!(
            source.is_none_or(|s| s.starts_with("registry+") || s.starts_with("sparse+")),
            "{name} does not come from the registry: {source:?}"
        );
        assert!(
            !BANNED.contains(&name),
            "{name} is banned: ring is the one TLS provider"
        );
    }
}

#[test]
fn there_is_one_version_of_what_must_be_one() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        versions
            .entry(text(package, "name"))
            .or_default()
            .insert(text(package, "version"));
    }
    for name in ONE_VERSION {
        let found = versions.get(name).cloned().unwrap_or_default();
        assert!(found.len() <= 1, "two versions of {name}: {found:?}");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in sources(".rs") {
        let code = fs::read_to_string(&path).expect("source is text");
        let first = code
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        assert!(
            first.starts_with("//!"),
            "{}: begin with a `//!` comment that says what the module owns",
            path.display()
        );
    }
}

#[test]
fn no_leftovers_in_the_sources() {
    // Spelt in pieces, so that this file does not find itself.
    let leftovers = [
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("TO", "DO"),
        concat!("dbg", "!("),
        concat!("unimpl", "emented!("),
        concat!("to", "do!("),
    ];
    for path in sources(".rs") {
        let code = fs::read_to_string(&path).expect("source is text");
        for (number, line) in code.lines().enumerate() {
            for leftover in leftovers {
                assert!(
                    !line.contains(leftover),
                    "{}:{}: {leftover}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_one_module() {
    let allowed = root().join("broker/log/src/disk/mmap.rs");
    let word = concat!("unsafe", " {");
    for path in sources(".rs") {
        let code = fs::read_to_string(&path).expect("source is text");
        assert!(
            path == allowed || !code.contains(word),
            "{}: unsafe belongs into {} only",
            path.display(),
            allowed.display()
        );
    }
}

#[test]
fn nothing_large_is_committed() {
    let limit = 512 << 10;
    for path in sources("") {
        let size = fs::metadata(&path).map_or(0, |m| m.len());
        assert!(
            size <= limit,
            "{} has {size} bytes; the limit is {limit}",
            path.display()
        );
    }
}
