#!/usr/bin/env bash
# Fuzzes every parser for SECONDS each: run.sh [SECONDS] [TARGET…]
# libFuzzer needs the compiler's sanitizer switches, which a stable compiler grants by RUSTC_BOOTSTRAP.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
command -v cargo-fuzz >/dev/null 2>&1 || {
    echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
    exit 1
}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
    echo "fuzzing $target for $seconds s"
    cargo fuzz run --fuzz-dir . "$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=1024 -max_len=65536 -timeout=10 -print_final_stats=1
done
