#!/usr/bin/env bash
# Projections from end to end, with the processes that a user runs. projections.sh [OPTION …]
#   --parts LIST   of latency,rebuild,keys                   (all)
#   --stores LIST  of sqlite,postgres,redis,mongodb          (sqlite,postgres,redis; keys is SQLite's
#                  alone, MongoDB's place is taken by a stand-in that says little about speed)
#   --rounds N     of latency and rebuild                    (3)
#   --keys N       skus of the part keys                     (10000000)
#   --folder DIR   on the disk to be measured                (/var/tmp)
# latency: `conveyor demo` sends 1,000 events/s to a node; ms from the intended time of sending to the
#   row's transaction being durable, the slowest of four projections counts. The node's
#   acknowledgement stands beside it: it is the part that no projection can do without.
# rebuild: `conveyor projection rebuild` of two projections over a year of 3,556 orders, records/s.
# keys: one event each for so many skus into atp; records/s and the processor's largest resident set.
# Needs the release builds of conveyor and with_servers (CONVEYOR_BINARY, or the target folder's).
set -euo pipefail
cd "$(dirname "$0")/.."

parts=latency,rebuild,keys
stores=sqlite,postgres,redis
rounds=3
keys=10000000
folder=/var/tmp
while [ $# -gt 0 ]; do
    case $1 in
        --parts) parts=$2 ;;
        --stores) stores=$2 ;;
        --rounds) rounds=$2 ;;
        --keys) keys=$2 ;;
        --folder) folder=$2 ;;
        *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; [ "$1" = --help ]; exit ;;
    esac
    shift 2
done

binary=${CONVEYOR_BINARY:-${CARGO_TARGET_DIR:-target}/release/conveyor}
# The binary takes every CONVEYOR_ variable for a setting.
unset CONVEYOR_BINARY
servers=$(dirname "$binary")/with_servers
for needed in "$binary" "$servers"; do
    [ -x "$needed" ] || { echo "no release build at $needed" >&2; exit 1; }
done
work=$(mktemp -d "$folder/conveyor-projections.XXXXXX")
node='' processors=''
trap 'kill $node $processors 2>/dev/null || true; wait; rm -rf "$work"' EXIT

has() { [[ ,$1, == *,$2,* ]]; }
list() { tr , ' ' <<<"$1"; }
# A field of JSON on standard input: field 'steady.row_ms.p99'.
field() {
    python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, name: value[name], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"
}
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
# Runs a command with {store} in its arguments standing for an address of a new, empty store.
beside() {
    local store=$1
    shift
    if [ "$store" = sqlite ]; then
        local file
        file=$(mktemp -d "$work/sqlite.XXXXXX")/read.sqlite
        "${@//'{store}'/sqlite:$file}"
    else
        "$servers" "$store" -- "${@//'{store}'/"{$store}"}" 2>/dev/null
    fi
}

latency() {
    echo "| store | row p50, ms | row p99, ms | acknowledgement p99, ms |"
    echo "|---|---|---|---|"
    local store round
    for store in $(list "$stores"); do
        for round in $(seq "$rounds"); do
            beside "$store" "$binary" demo --dir "$work/demo" --store '{store}' --format json \
                > "$work/latency.$round" 2>/dev/null
            rm -rf "$work/demo"
        done
        local line="| $store |"
        for what in row_ms.p50 row_ms.p99 ack_ms.p99; do
            line+=" $(for round in $(seq "$rounds"); do
                field "steady.$what" < "$work/latency.$round"
            done | median) |"
        done
        echo "$line"
    done
}

start_node() {
    touch "$work/node.log"
    "$binary" dev --dir "$work/node" > "$work/node.log" 2>&1 &
    node=$!
    until grep -q '^node ready' "$work/node.log"; do
        kill -0 "$node" || { cat "$work/node.log" >&2; exit 1; }
        sleep 0.1
    done
}

stop_node() {
    kill "$node"
    wait "$node" || true
    node=
    rm -rf "$work/node"
}

rebuild() {
    start_node
    "$binary" workload run > /dev/null
    echo "| store | projection | records | records/s |"
    echo "|---|---|---|---|"
    local store name
    for store in $(list "$stores"); do
        for name in order_tracking inventory_movement; do
            beside "$store" bash -ec 'for round in $(seq "$1"); do
                "$2" projection rebuild "$3" --store "$4" --format json 2>/dev/null | tail -1
            done' rebuild "$rounds" "$binary" "$name" '{store}' > "$work/rebuild"
            echo "| $store | $name | $(head -1 "$work/rebuild" | field records_done) |" \
                "$(while read -r line; do
                    field records_per_second <<<"$line"
                done < "$work/rebuild" | median | cut -d. -f1) |"
        done
    done
    stop_node
}

measure_keys() {
    start_node
    echo "sending $keys events …" >&2
    seq "$keys" | awk '{
        sku = "SKU-" $1
        printf "%s %s\n", sku, "{\"specversion\":\"1.0\",\"id\":\"" $1 "\",\"source\":\"/bench\"," \
            "\"type\":\"com.paklog.inventory.stock.level-changed.v1\",\"subject\":\"" sku "\"," \
            "\"time\":\"2026-01-01T00:00:00Z\",\"datacontenttype\":\"application/json\"," \
            "\"aggregateversion\":1,\"data\":{\"sku\":\"" sku "\",\"previous_stock_level\":" \
            "{\"quantity_on_hand\":0,\"quantity_allocated\":0,\"available_to_promise\":0}," \
            "\"new_stock_level\":{\"quantity_on_hand\":9,\"quantity_allocated\":0," \
            "\"available_to_promise\":9},\"change_reason\":\"RECEIPT\"}}"
    }' | "$binary" topic produce inventory-events -q -f '%k %v' > /dev/null
    local begun applied=0 largest
    begun=$(date +%s.%N)
    "$binary" processors run --projection atp --store "sqlite:$work/keys.sqlite" \
        --metrics-listen 127.0.0.1:9466 > "$work/processors.log" 2>&1 &
    processors=$!
    while [ "$applied" -lt "$keys" ]; do
        kill -0 "$processors" || { cat "$work/processors.log" >&2; exit 1; }
        sleep 1
        applied=$(curl -s 127.0.0.1:9466/metrics |
            awk '/^conveyor_projection_records_applied_total/ { n += $NF } END { printf "%d", n }')
    done
    largest=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$processors/status")
    echo "| skus | events/s | largest resident set, MiB | store, MiB |"
    echo "|---|---|---|---|"
    echo "| $keys | $(awk -v n="$keys" -v a="$begun" -v b="$(date +%s.%N)" \
        'BEGIN { printf "%d", n / (b - a) }') | $largest | $(du -sm "$work"/keys.sqlite* |
        awk '{ n += $1 } END { print n }') |"
    kill "$processors"
    wait "$processors" || true
    processors=
    rm -f "$work"/keys.sqlite*
    stop_node
}

for part in $(list "$parts"); do
    echo
    case $part in
        latency | rebuild) "$part" ;;
        keys) measure_keys ;;
        *) echo "no part $part" >&2; exit 1 ;;
    esac
done
