#!/usr/bin/env bash
# Real clients against a real broker process: run.sh [OPTION] [SUITE[:FILTER] …]
#   --bootstrap HOST:PORT  against a broker that runs already
#   --kafka                against Apache Kafka, started from its jars
# Otherwise a `conveyor broker` is started and stopped (CONVEYOR_BINARY, or the debug build). A suite
# runs the cases whose names contain FILTER; without any suite, all run. One line a case; the exit
# code is 0 if every case was right.
set -euo pipefail
cd "$(dirname "$0")"
source ./install.sh
source ./broker.sh

suites=(kcat python node go java java-2.8.2 java-3.3.0 spring spring-pinned)
against=conveyor
chosen=()
while [ $# -gt 0 ]; do
    case $1 in
        --bootstrap) against=running bootstrap=$2; shift ;;
        --kafka) against=kafka ;;
        -*) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;;
        *) chosen+=("$1") ;;
    esac
    shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${suites[@]}")

logs=${CONVEYOR_CLIENT_LOGS:-$(mktemp -d /var/tmp/conveyor-client-logs.XXXXXX)}
mkdir -p "$logs"

# Short intervals, so that cases wait for their subject and not for a timer.
quick=(group.initial.rebalance.delay.ms=0 offsets.topic.num.partitions=8
    transaction.state.log.num.partitions=8
    transaction.abort.timed.out.transaction.cleanup.interval.ms=500
    group.consumer.heartbeat.interval.ms=500)
trap stop_broker EXIT
case $against in
    conveyor)
        target=${CARGO_TARGET_DIR:-../../target}
        start_conveyor "${CONVEYOR_BINARY:-$target/debug/conveyor}" "${quick[@]}" ;;
    kafka)
        start_kafka "$(java_class_path java/current/pom.xml)" "${quick[@]}" \
            group.consumer.min.heartbeat.interval.ms=500 group.consumer.assignment.interval.ms=0 ;;
esac
export CONVEYOR_BOOTSTRAP=$bootstrap

java_options=(-Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.showThreadName=true)

# In these, `|| return`: within an `if`, `set -e` has no effect.
run_java() {
    local class_path classes
    class_path=$(java_class_path java/current/pom.xml) || return
    classes=$(java_classes "$class_path" java/shared/*.java java/current/*.java) || return
    java "${java_options[@]}" -cp "$classes:$class_path" CurrentMain java-4.3.1 "$1"
}

run_older_java() {
    local version=$1 class_path classes
    class_path=$(java_class_path java/shared/pom.xml "-Dkafka.version=$version") || return
    classes=$(java_classes "$class_path" java/shared/*.java) || return
    java "${java_options[@]}" -cp "$classes:$class_path" SharedMain "java-$version" "$2"
}

run_spring() {
    local class_path classes
    class_path=$(java_class_path spring/pom.xml "-Dkafka.version=$1") || return
    classes=$(java_classes "$class_path" spring/*.java) || return
    java "${java_options[@]}" -cp "$classes:$class_path" conveyor.clients.spring.SpringMain "$2"
}

run_python() {
    local python
    python=$(python_environment python/requirements.txt) || return
    "$python" python/main.py "$1"
}

run_node() {
    local modules
    modules=$(node_modules node) || return
    NODE_PATH=$modules node node/main.js "$1"
}

run_go() {
    local program
    program=$(go_program go) || return
    "$program" "$1"
}

run_suite() {
    case $1 in
        java) run_java "$2" ;;
        java-[0-9]*) run_older_java "${1#java-}" "$2" ;;
        spring) run_spring 3.6.2 "$2" ;;
        spring-pinned) run_spring 3.3.0 "$2" ;;
        python) run_python "$2" ;;
        node) run_node "$2" ;;
        go) run_go "$2" ;;
        kcat) ./kcat.sh "$2" ;;
        *) echo "no suite '$1'; there are: ${suites[*]}" >&2; return 2 ;;
    esac
}

failed=()
for one in "${chosen[@]}"; do
    suite=${one%%:*}
    filter=${one#"$suite"}
    start=$SECONDS
    # What clients log goes to a file; what a case says goes to the terminal.
    if ! run_suite "$suite" "${filter#:}" 2>"$logs/$suite.log" | tee "$logs/$suite.cases"; then
        failed+=("$suite")
        echo "suite $suite failed; its log ends with:"
        tail -n 5 "$logs/$suite.log" | cut -c1-400
    fi
    echo "        $suite: $((SECONDS - start)) s"
    if [ -n "$broker_pid" ] && ! kill -0 "$broker_pid" 2>/dev/null; then
        failed+=(broker)
        break
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    # Once more at the end, where the one looks who sees only the last lines of a long run.
    for suite in "${failed[@]}"; do
        [ -f "$logs/$suite.cases" ] && sed -n '/^FAILED/,/^ok /{/^ok /!p}' "$logs/$suite.cases"
    done
    echo "FAILED suites: ${failed[*]}; logs in $logs"
    [ -n "$broker_pid" ] && cp "$broker_log" "$logs/broker.log"
    exit 1
fi
rm -rf "$logs"
