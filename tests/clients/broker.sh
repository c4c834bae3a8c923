# Brokers as processes of their own, on free ports and with folders that vanish; sourced after
# install.sh. One broker at a time: start_conveyor or start_kafka sets `bootstrap`, `broker_pid` and
# `broker_log`, stop_broker ends it.

broker_pid=
broker_folder=
bootstrap=

# free_ports N: prints N ports that nobody listens on.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in sockets])
PYTHON
}

# wait_for_port PORT: until somebody listens there and the broker still runs.
wait_for_port() {
    local deadline=$((SECONDS + 60))
    until (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        if ! kill -0 "$broker_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            echo "the broker does not listen on port $1; its output ends with:" >&2
            tail -n 30 "$broker_log" >&2
            return 1
        fi
        sleep 0.02
    done
}

new_broker_folder() {
    broker_folder=$(mktemp -d "${CONVEYOR_BROKER_FOLDERS:-/var/tmp}/conveyor-clients.XXXXXX")
    broker_log=$broker_folder/log
}

# start_conveyor BINARY [name=value …]: the settings are added to those that every suite wants.
start_conveyor() {
    local binary=$1 kafka grpc setting ours
    new_broker_folder
    read -r kafka grpc <<<"$(free_ports 2)"
    {
        for setting in \
            "listeners=PLAINTEXT://127.0.0.1:$kafka" \
            "listeners.grpc=127.0.0.1:$grpc" \
            "listeners.admin=" \
            "log.dirs=$broker_folder/data" \
            "auto.create.topics.enable=true" \
            "${@:2}"; do
            printf '"%s" = "%s"\n' "${setting%%=*}" "${setting#*=}"
        done
    } >"$broker_folder/broker.toml"
    # Its settings may come from the environment too: none of ours is meant for it.
    mapfile -t ours < <(compgen -e | grep '^CONVEYOR_' | sed 's/^/-u/')
    env "${ours[@]}" "$binary" broker --config "$broker_folder/broker.toml" >"$broker_log" 2>&1 </dev/null &
    broker_pid=$!
    bootstrap=127.0.0.1:$kafka
    wait_for_port "$kafka"
}

# start_kafka CLASSPATH [name=value …]: Apache Kafka, one node that is broker and controller.
start_kafka() {
    local class_path=$1 kafka controller setting
    new_broker_folder
    read -r kafka controller <<<"$(free_ports 2)"
    {
        for setting in \
            process.roles=broker,controller node.id=1 \
            "controller.quorum.bootstrap.servers=127.0.0.1:$controller" \
            "listeners=PLAINTEXT://127.0.0.1:$kafka,CONTROLLER://127.0.0.1:$controller" \
            "advertised.listeners=PLAINTEXT://127.0.0.1:$kafka,CONTROLLER://127.0.0.1:$controller" \
            inter.broker.listener.name=PLAINTEXT controller.listener.names=CONTROLLER \
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT \
            "log.dirs=$broker_folder/data" \
            offsets.topic.replication.factor=1 transaction.state.log.replication.factor=1 \
            transaction.state.log.min.isr=1 share.coordinator.state.topic.replication.factor=1 \
            share.coordinator.state.topic.min.isr=1 \
            "${@:2}"; do
            echo "$setting"
        done
    } >"$broker_folder/server.properties"
    local begun
    begun=$(date +%s%N)
    # Any 16 bytes in URL-safe base64 are a cluster id.
    java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$class_path" kafka.tools.StorageTool format --standalone \
        -t MkU3OEVBNTcwNTJENDM2Qg -c "$broker_folder/server.properties" >"$broker_log" 2>&1
    # shellcheck disable=SC2034 # for measurements of the start
    kafka_format_ns=$(($(date +%s%N) - begun))
    # shellcheck disable=SC2086 # options are words
    java ${KAFKA_JVM_OPTIONS:--Xmx512m} -cp "$class_path" kafka.Kafka "$broker_folder/server.properties" \
        >>"$broker_log" 2>&1 </dev/null &
    broker_pid=$!
    bootstrap=127.0.0.1:$kafka
    wait_for_port "$kafka"
}

# Ends the broker that was started, and removes its folder; says when it ended by itself before.
stop_broker() {
    [ -n "$broker_pid" ] || return 0
    local status=0
    if kill -TERM "$broker_pid" 2>/dev/null; then
        wait "$broker_pid" || true
    else
        echo "the broker ended by itself; its output ends with:" >&2
        tail -n 30 "$broker_log" >&2
        status=1
    fi
    rm -rf "$broker_folder"
    broker_pid=
    return $status
}
