#!/usr/bin/env bash
# Conveyor beside Apache Kafka: one node each, the same clients, in turns. run.sh [OPTION …]
#   --parts LIST    of start,produce,consume,latency            (all)
#   --clients LIST  of java,librdkafka                          (both; latency is Java's alone)
#   --sizes LIST    bytes of a record                           (100,512,2400)
#   --codecs LIST   of none,lz4                                 (both)
#   --sync LIST     of no,yes: what an acknowledgement waits for (both; with sync nothing is
#                   compressed and nothing consumed)
#   --rounds N      each broker once a round, in changing order (3)
#   --megabytes N   produced in one measurement                 (150; a quarter of it with sync)
#   --partitions N  of each topic                               (6)
#   --json FILE     every single measurement, a line each       (none)
# Needs the release build (CONVEYOR_BINARY, or the target folder's) and a machine that does nothing
# else. Acknowledgements are acks=all throughout; with sync, Kafka has flush.messages=1 and Conveyor
# conveyor.durability=fsync, else its own default and conveyor.durability=replicated.
set -euo pipefail
cd "$(dirname "$0")"
clients=../../tests/clients
source "$clients/install.sh"
source "$clients/broker.sh"

parts=start,produce,consume,latency
load=java,librdkafka
sizes=100,512,2400
codecs=none,lz4
sync=no,yes
rounds=3
megabytes=150
partitions=6
json=
while [ $# -gt 0 ]; do
    case $1 in
        --parts) parts=$2 ;;
        --clients) load=$2 ;;
        --sizes) sizes=$2 ;;
        --codecs) codecs=$2 ;;
        --sync) sync=$2 ;;
        --rounds) rounds=$2 ;;
        --megabytes) megabytes=$2 ;;
        --partitions) partitions=$2 ;;
        --json) json=$2 ;;
        *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; [ "$1" = --help ]; exit ;;
    esac
    shift 2
done

class_path=$(java_class_path "$clients/java/current/pom.xml")
python=$(python_environment "$clients/python/requirements.txt")
binary=${CONVEYOR_BINARY:-${CARGO_TARGET_DIR:-../../target}/release/conveyor}
[ -x "$binary" ] || { echo "no release build at $binary" >&2; exit 1; }
# As Kafka's own start script has it.
export KAFKA_JVM_OPTIONS="-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35"
results=$(mktemp)
work=$(mktemp -d)
trap 'stop_broker; cp "$results" "${json:-/dev/null}"; rm -rf "$work" "$results"' EXIT

has() { [[ ,$1, == *,$2,* ]]; }
list() { tr , ' ' <<<"$1"; }

# librdkafka's rdkafka_performance, from the source in the library's development package.
rdkafka=
if has "$load" librdkafka; then
    source_file=$(dpkg -L librdkafka-dev 2>/dev/null | grep 'rdkafka_performance.c' | head -n 1 || true)
    if [ ! -f "$source_file" ]; then
        echo "librdkafka's load program needs the package librdkafka-dev, with its examples" >&2
        exit 1
    fi
    mkdir -p "$work/include" "$work/src"
    cp rd.h "$work/include/rd.h"
    cp rd.h "$work/src/rd.h"
    : >"$work/include/rdtime.h"
    [[ $source_file == *.gz ]] && { zcat "$source_file" >"$work/load.c"; source_file=$work/load.c; }
    rdkafka=$work/rdkafka_performance
    cc -O2 -w -I/usr/include/librdkafka -I"$work/include" -o "$rdkafka" "$source_file" -lrdkafka -lm -lpthread
fi

# record PART CLIENT SIZE CODEC SYNC METRIC VALUE …: one line of JSON.
record() {
    local line metric
    printf -v line '{"broker":"%s","round":%d,"part":"%s","client":"%s","size":%d,"codec":"%s","sync":"%s"' \
        "$broker" "$round" "$1" "$2" "$3" "$4" "$5"
    shift 5
    while [ $# -gt 0 ]; do
        metric=$1
        line+=",\"$metric\":${2:-null}"
        shift 2
    done
    echo "$line}" >>"$results"
    echo "$line}" >&2
}

# CPU seconds of the broker so far.
cpu_seconds() {
    # The name, in brackets, may hold blanks.
    sed 's/.*) //' "/proc/$broker_pid/stat" | awk -v hz="$(getconf CLK_TCK)" '{ printf "%.2f", ($12 + $13) / hz }'
}

memory_mb() { awk -v name="$1:" '$1 == name { printf "%d", $2 / 1024 }' "/proc/$broker_pid/status"; }

now() { date +%s%N; }

seconds_since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.3f", (to - from) / 1e9 }'; }

per_gb() { awk -v a="$1" -v b="$2" -v bytes="$3" 'BEGIN { printf "%.3f", (b - a) / bytes * 1e9 }'; }

# new_topic SYNC: creates one, prints its name.
new_topic() {
    local setting=
    case $broker-$1 in
        kafka-yes) setting=flush.messages=1 ;;
        conveyor-yes) setting=conveyor.durability=fsync ;;
        conveyor-no) setting=conveyor.durability=replicated ;;
    esac
    "$python" topics.py create "$bootstrap" "$partitions" $setting
}

java_produce() { # TOPIC RECORDS SIZE CODEC THROUGHPUT
    java -Xmx512m -cp "$class_path" org.apache.kafka.tools.ProducerPerformance --topic "$1" --num-records "$2" \
        --record-size "$3" --throughput "$5" --command-property "bootstrap.servers=$bootstrap" acks=all \
        "compression.type=$4" linger.ms=5 batch.size=65536 2>/dev/null | tail -n 1
}

# What ProducerPerformance ends with: "N records sent, R records/sec (M MB/sec), … 99th, …".
field() { sed -nE "s@.* ([0-9.]+) $1.*@\1@p"; }

produce() { # CLIENT TOPIC RECORDS SIZE CODEC: records a second
    case $1 in
        java) java_produce "$2" "$3" "$4" "$5" -1 | field 'records/sec' ;;
        librdkafka)
            # It ends with "… delivered (…) in Nms: R msgs/s and …".
            "$rdkafka" -P -t "$2" -s "$4" -c "$3" -a -1 -z "$5" -X linger.ms=5 -X batch.size=65536 \
                -b "$bootstrap" 2>&1 | field 'msgs/s' | tail -n 1 ;;
    esac
}

consume() { # CLIENT TOPIC RECORDS: records a second
    case $1 in
        java)
            # Columns: start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, MB/s, records/s.
            java -Xmx512m -cp "$class_path" org.apache.kafka.tools.ConsumerPerformance --bootstrap-server "$bootstrap" \
                --topic "$2" --num-records "$3" --hide-header --timeout 60000 2>/dev/null |
                tail -n 1 | awk -F', ' '{ print $10 }' ;;
        librdkafka)
            "$rdkafka" -G "group-$2" -t "$2" -c "$3" -o beginning -b "$bootstrap" 2>&1 |
                field 'msgs/s' | tail -n 1 ;;
    esac
}

measure_start() { # BEGUN: from the start of the process to the first acknowledged record
    until echo first | kcat -q -b "$bootstrap" -P -t first -X message.timeout.ms=30000 \
        -X topic.metadata.refresh.interval.ms=50 -X retry.backoff.ms=10 2>/dev/null; do :; done
    record start kcat 5 none no seconds "$(seconds_since "$1")" rss_mb "$(memory_mb VmRSS)"
}

# A JVM is slow until it has compiled what it runs: nobody measures that here.
warm_up() {
    local topic client
    topic=$(new_topic no)
    client=$(list "$load" | awk '{ print $NF }')
    produce "$client" "$topic" 100000 512 none >/dev/null
    consume "$client" "$topic" 100000 >/dev/null
    "$python" topics.py delete "$bootstrap" "$topic"
}

measure_throughput() { # CLIENT SIZE CODEC SYNC
    local client=$1 size=$2 codec=$3 synced=$4 topic bytes records rate before
    bytes=$((megabytes * 1000000))
    [ "$synced" = no ] || bytes=$((bytes / 4))
    records=$((bytes / size))
    topic=$(new_topic "$synced")
    before=$(cpu_seconds)
    rate=$(produce "$client" "$topic" "$records" "$size" "$codec")
    if has "$parts" produce; then
        record produce "$client" "$size" "$codec" "$synced" records_per_second "$rate" \
            cpu_seconds_per_gb "$(per_gb "$before" "$(cpu_seconds)" "$bytes")"
    fi
    if has "$parts" consume && [ "$synced" = no ]; then
        before=$(cpu_seconds)
        rate=$(consume "$client" "$topic" "$records")
        record consume "$client" "$size" "$codec" no records_per_second "$rate" \
            cpu_seconds_per_gb "$(per_gb "$before" "$(cpu_seconds)" "$bytes")"
    fi
    "$python" topics.py delete "$bootstrap" "$topic"
}

measure_latency() { # SIZE SYNC: 10,000 records a second for six seconds, after two to warm up
    local topic
    topic=$(new_topic "$2")
    java_produce "$topic" 20000 "$1" none 10000 >/dev/null
    record latency java "$1" none "$2" p99_ms "$(java_produce "$topic" 60000 "$1" none 10000 | field 'ms 99th')"
    "$python" topics.py delete "$bootstrap" "$topic"
}

measure_broker() {
    local begun client size codec synced
    begun=$(now)
    case $broker in
        kafka)
            start_kafka "$class_path" group.initial.rebalance.delay.ms=0
            # Formatting is not part of a start.
            begun=$((begun + kafka_format_ns)) ;;
        conveyor) start_conveyor "$binary" group.initial.rebalance.delay.ms=0 ;;
    esac
    if has "$parts" start; then measure_start "$begun"; fi
    if has "$parts" produce || has "$parts" consume; then
        warm_up
        for synced in $(list "$sync"); do
            if [ "$synced" = yes ] && ! has "$parts" produce; then continue; fi
            for client in $(list "$load"); do
                for codec in $(list "$codecs"); do
                    if [ "$synced" = yes ] && [ "$codec" != none ]; then continue; fi
                    for size in $(list "$sizes"); do measure_throughput "$client" "$size" "$codec" "$synced"; done
                done
            done
        done
    fi
    if has "$parts" latency; then
        for synced in $(list "$sync"); do measure_latency 512 "$synced"; done
    fi
    record memory - 0 none no rss_mb "$(memory_mb VmRSS)" peak_mb "$(memory_mb VmHWM)"
    stop_broker
}

for ((round = 1; round <= rounds; round++)); do
    order=(kafka conveyor)
    [ $((round % 2)) -eq 1 ] || order=(conveyor kafka)
    for broker in "${order[@]}"; do measure_broker; done
done
"$python" report.py <"$results"
