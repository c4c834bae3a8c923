#!/usr/bin/env bash
# Counts the instructions of the hot paths under callgrind and fails if one has grown by more than
# 5 % over benches/instructions.json. `counts.sh --update` writes the figures instead.
# Needs valgrind: apt-get install valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p conveyor-benches --no-default-features --bin counts
exec "${CARGO_TARGET_DIR:-target}/release/counts" check "$@"
