#!/usr/bin/env bash
# librdkafka through kcat: kcat.sh [FILTER]. The broker must create topics on use.
set -uo pipefail
broker=${CONVEYOR_BOOTSTRAP:?"CONVEYOR_BOOTSTRAP=host:port is not set"}
filter=${1:-}
run=$(date +%s%N)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0
failed=0
client=$(kcat -V 2>&1 | sed -n 's/.*Version \([0-9.]*\).*librdkafka \([0-9.]*\).*/kcat-\1 (librdkafka \2)/p')
client=${client:-kcat}

topic() { echo "kcat-$1-$run"; }
produce() { timeout 30 kcat -b "$broker" -P "$@"; }
consume() { timeout 30 kcat -b "$broker" -C -q -e -o beginning "$@"; }

# equal EXPECTED FOUND WHAT
equal() {
    [ "$1" = "$2" ] && return
    echo "$3: expected '$(head -c 300 <<<"$1")', found '$(head -c 300 <<<"$2")'"
    return 1
}

metadata() {
    produce -t "$(topic metadata)" <<<"one" || return
    local found
    found=$(kcat -b "$broker" -L -J) || return
    equal 1 "$(grep -o "\"topic\":\"$(topic metadata)\"" <<<"$found" | wc -l)" "topics of this name" &&
        equal 1 "$(grep -oE '"brokers":\[\{"id":[0-9]+' <<<"$found" | wc -l)" "brokers"
}

codec() {
    seq 1 5000 | sed 's/$/ and some text that repeats, that repeats/' >"$folder/in"
    produce -t "$(topic "$1")" -z "$1" -X enable.idempotence=true -l "$folder/in" || return
    consume -t "$(topic "$1")" >"$folder/out" || return
    equal "$(sha256sum <"$folder/in")" "$(sha256sum <"$folder/out")" "digest of 5000 lines"
}

keys_headers_tombstones() {
    local name found
    name=$(topic headers)
    printf 'k1:v1\nk2:\n' | produce -t "$name" -K: -Z -H a=1 -H a=2 -H empty= || return
    found=$(consume -t "$name" -f '%k|%s|%S|%h|%o\n') || return
    equal $'k1|v1|2|a=1,a=2,empty=|0\nk2||-1|a=1,a=2,empty=|1' "$found" "records"
}

acks_zero() {
    seq 1 100 | produce -t "$(topic acks)" -X acks=1 || return
    seq 1 100 | produce -t "$(topic acks)" -X acks=0 || return
    # Nobody says when the last ones can be read.
    local deadline=$((SECONDS + 10)) found
    until found=$(consume -t "$(topic acks)" | wc -l) && [ "$found" -ge 200 ] || [ $SECONDS -gt $deadline ]; do
        sleep 0.1
    done
    equal 200 "$found" "records"
}

many_records() {
    seq 1 200000 | produce -t "$(topic many)" -z lz4 -X linger.ms=5 || return
    equal "$(seq 1 200000 | sha256sum)" "$(consume -t "$(topic many)" | sha256sum)" "digest of 200,000 lines"
}

offsets() {
    local name middle
    name=$(topic offsets)
    seq 1 10 | produce -t "$name" || return
    sleep 0.05
    middle=$(date +%s%3N)
    sleep 0.05
    seq 11 20 | produce -t "$name" || return
    equal "$(seq 11 20)" "$(timeout 30 kcat -b "$broker" -C -q -e -t "$name" -o "s@$middle")" "from a time on" &&
        equal "$(seq 1 10)" "$(timeout 30 kcat -b "$broker" -C -q -e -t "$name" -o "s@0" -o "e@$middle")" "until a time" &&
        equal "$(seq 18 20)" "$(timeout 30 kcat -b "$broker" -C -q -e -t "$name" -o -3)" "the last three" &&
        equal "$(seq 6 20)" "$(timeout 30 kcat -b "$broker" -C -q -e -t "$name" -o 5)" "from an offset on" &&
        equal "$name [0] offset 10" "$(kcat -b "$broker" -Q -t "$name:0:$middle")" "offset of a time" &&
        equal "$name [0] offset 20" "$(kcat -b "$broker" -Q -t "$name:0:-1")" "the end"
}

transaction() {
    local name
    name=$(topic transaction)
    seq 1 100 | produce -t "$name" -X "transactional.id=$name" || return
    # Ended by SIGKILL in the middle: never committed.
    timeout -s KILL 1.5 kcat -b "$broker" -P -t "$name" -X "transactional.id=$name" -X linger.ms=0 \
        2>/dev/null < <(seq 101 200; sleep 2)
    seq 201 300 | produce -t "$name" -X "transactional.id=$name" || return
    equal "$(seq 1 100; seq 201 300)" "$(consume -t "$name" -X isolation.level=read_committed)" "committed values"
}

group() {
    local strategy=$1 one two pids=() member
    one=$(topic "group-$strategy-1")
    two=$(topic "group-$strategy-2")
    produce -t "$one" <<<"first" || return
    produce -t "$two" <<<"first" || return
    for member in a b; do
        kcat -b "$broker" -G "$one" -X "partition.assignment.strategy=$strategy" -X session.timeout.ms=6000 \
            -X heartbeat.interval.ms=300 -X auto.offset.reset=earliest -u -f '%t %s\n' "$one" "$two" \
            >"$folder/$strategy-$member" 2>"$folder/$strategy-$member.log" </dev/null &
        pids+=($!)
        sleep 1
    done
    local tries
    for tries in $(seq 1 30); do
        produce -t "$one" <<<"one $tries"
        produce -t "$two" <<<"two $tries"
        grep -q "one\|two" "$folder/$strategy-a" && grep -q "one\|two" "$folder/$strategy-b" && break
        sleep 0.5
    done
    sleep 1
    kill "${pids[@]}"
    wait "${pids[@]}" 2>/dev/null
    [ -s "$folder/$strategy-a" ] && [ -s "$folder/$strategy-b" ] || { echo "expected records at both members"; return 1; }
    # Everything once: a member that stops commits, and both left in order.
    equal "$(for t in "$one" "$two"; do consume -t "$t" -f '%t %s\n'; done | sort)" \
        "$(cat "$folder/$strategy-a" "$folder/$strategy-b" | sort)" "records of both members together"
}

case_() {
    local name=$1 start output
    [[ $name == *"$filter"* ]] || return
    shift
    start=$(date +%s%3N)
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok      $client $name ($(($(date +%s%3N) - start)) ms)"
    else
        failed=$((failed + 1))
        echo "FAILED  $client $name: $(tail -n 3 <<<"$output" | cut -c1-300)"
    fi
}

command -v kcat >/dev/null || { echo "FAILED  kcat is not installed"; exit 1; }
case_ metadata metadata
for one in none gzip snappy lz4 zstd; do case_ "codec-$one" codec "$one"; done
case_ keys-headers-tombstones keys_headers_tombstones
case_ acks-0 acks_zero
case_ many-records many_records
case_ offsets-and-times offsets
case_ transaction transaction
for one in roundrobin cooperative-sticky; do case_ "group-$one" group "$one"; done
echo "kcat: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
