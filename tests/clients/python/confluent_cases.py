"""librdkafka through confluent-kafka: producers, both group protocols, administration."""

import functools
import threading
import time

import confluent_kafka
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from suite import BOOTSTRAP, CODECS, Suite, check, equal, eventually, fails, unique

suite = Suite(f"confluent-kafka-{confluent_kafka.version()}")


def settings(**more):
    return {"bootstrap.servers": BOOTSTRAP, **{name.replace("_", "."): value for name, value in more.items()}}


@functools.cache
def admin():
    return AdminClient(settings())


def create(partitions=1, **config):
    name = unique("topic")
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin().create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(20)
    # A broker may begin to lead a new partition a moment after it was made.
    consumer = Consumer(settings(group_id=unique("fixture")))

    def led():
        try:
            return [consumer.get_watermark_offsets(TopicPartition(name, p), 2) for p in range(partitions)]
        except KafkaException:
            return None

    eventually(10, f"leaders of {name}", led)
    consumer.close()
    return name


def produce(topic, values, producer=None, **more):
    """Sends values with their index as key; the offsets that were acknowledged."""
    producer = producer or Producer(settings(**more))
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append(message.offset())

    for index, value in enumerate(values):
        producer.produce(topic, value, key=str(index), on_delivery=delivered)
        producer.poll(0)
    equal(0, producer.flush(30), "messages left in the queue")
    equal([], errors, "errors of delivery")
    return offsets


def read(consumer, count, seconds=30):
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count:
        check(time.monotonic() < deadline, f"{count} records, found {len(messages)}")
        message = consumer.poll(0.2)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    return messages


def read_all(topic, **more):
    """Every record up to the end that this isolation level shows."""
    more.setdefault("isolation_level", "read_uncommitted")
    consumer = Consumer(settings(group_id=unique("reader"), enable_partition_eof=True, **more))
    partitions = list(consumer.list_topics(topic, 10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
    messages, ended = [], set()
    deadline = time.monotonic() + 30
    while len(ended) < len(partitions):
        check(time.monotonic() < deadline, f"the end of {topic}")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is None:
            messages.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        else:
            raise KafkaException(message.error())
    consumer.close()
    return messages


def values(messages):
    return [m.value().decode() for m in messages]


def each_codec(codec):
    topic = create()
    sent = [f"value {i} " * 5 for i in range(1000)]
    offsets = produce(topic, sent, enable_idempotence=True, compression_type=codec or "none", linger_ms=20)
    equal(list(range(1000)), offsets, "acknowledged offsets")
    equal(sent, values(read_all(topic)), "values")


for one in CODECS:
    suite.case(f"produce/codec-{one or 'none'}", one)(each_codec)


@suite.case("produce/headers-and-timestamps")
def headers():
    topic = create()
    producer = Producer(settings())
    producer.produce(topic, "v", key=None, headers=[("a", b"1"), ("a", None), ("b", b"")], timestamp=1_700_000_000_123)
    producer.produce(topic, None, key="tombstone")
    producer.flush(20)
    first, second = read_all(topic)
    equal([("a", b"1"), ("a", None), ("b", b"")], first.headers(), "headers")
    equal((confluent_kafka.TIMESTAMP_CREATE_TIME, 1_700_000_000_123), first.timestamp(), "timestamp")
    equal((None, b"tombstone", None), (first.key(), second.key(), second.value()), "keys and null value")


@suite.case("produce/too-large")
def too_large():
    topic = create(max_message_bytes="2000")
    error = fails(AssertionError, lambda: produce(topic, ["x" * 10_000]))
    check("MSG_SIZE_TOO_LARGE" in str(error), f"MSG_SIZE_TOO_LARGE, found {error}")
    produce(topic, ["fits"])
    equal(["fits"], values(read_all(topic)), "values")


@suite.case("produce/many")
def many():
    topic = create(6)
    sent = [str(i) for i in range(100_000)]
    produce(topic, sent, enable_idempotence=True, compression_type="lz4", linger_ms=5,
            queue_buffering_max_messages=200_000)
    equal(sorted(sent), sorted(values(read_all(topic))), "values")


class Member(threading.Thread):
    """A group member on a thread of its own; commits before a partition is taken from it."""

    def __init__(self, group, topics, **more):
        super().__init__(daemon=True)
        self.consumer = Consumer(settings(group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **more))
        self.topics, self.owned, self.values = topics, set(), []
        self.running, self.failure = True, None
        self.incremental = more.get("partition_assignment_strategy") == "cooperative-sticky" \
            or more.get("group_protocol") == "consumer"
        self.start()

    def run(self):
        try:
            self.consumer.subscribe(self.topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
            while self.running:
                message = self.consumer.poll(0.05)
                if message is not None and message.error() is None:
                    self.values.append(message.value().decode())
            self.commit()
            self.consumer.close()
        except Exception as error:
            self.failure = error

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise

    def assigned(self, _, partitions):
        self.owned |= {(p.topic, p.partition) for p in partitions}

    def revoked(self, _, partitions):
        self.commit()
        self.owned -= {(p.topic, p.partition) for p in partitions}

    def lost(self, _, partitions):
        self.owned -= {(p.topic, p.partition) for p in partitions}

    def stop(self):
        self.running = False
        self.join(20)
        if self.failure:
            raise AssertionError(f"a member failed: {self.failure!r}")


def owned(members, sizes):
    def balanced():
        together = set().union(*(m.owned for m in members))
        return sorted(len(m.owned) for m in members) == sizes and len(together) == sum(sizes)

    try:
        eventually(30, f"members own {sizes} partitions", balanced)
    except AssertionError as error:
        raise AssertionError(f"{error}, found {[(m.owned, m.failure) for m in members]}") from error


def group(**more):
    topic, name = create(6), unique("group")
    first = Member(name, [topic], **more)
    owned([first], [6])
    second = Member(name, [topic], **more)
    owned([first, second], [3, 3])
    third = Member(name, [topic], **more)
    members = [first, second, third]
    owned(members, [2, 2, 2])
    produce(topic, [f"v{i}" for i in range(300)])
    eventually(20, "300 records", lambda: sum(len(m.values) for m in members) == 300)
    first.stop()
    owned([second, third], [3, 3])
    produce(topic, [f"w{i}" for i in range(60)])
    eventually(20, "360 records", lambda: sum(len(m.values) for m in members) == 360)
    second.stop()
    third.stop()
    everything = [v for m in members for v in m.values]
    equal(360, len(set(everything)), "different values: nothing twice, nothing lost")


CLASSIC = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}
for strategy in ["range", "roundrobin", "cooperative-sticky"]:
    suite.case(f"group/classic-{strategy}")(
        lambda s=strategy: group(partition_assignment_strategy=s, **CLASSIC))
suite.case("group/consumer-protocol")(lambda: group(group_protocol="consumer"))
suite.case("group/consumer-protocol-range")(
    lambda: group(group_protocol="consumer", group_remote_assignor="range"))


@suite.case("group/consumer-protocol-pattern")
def broker_pattern():
    topic, name = create(), unique("group")
    produce(topic, ["a"])
    consumer = Consumer(settings(group_id=name, group_protocol="consumer", auto_offset_reset="earliest"))
    consumer.subscribe(["^" + topic[:-1] + "[0-9]$"])
    equal(["a"], values(read(consumer, 1)), "values")
    consumer.close()


@suite.case("group/offsets")
def offsets():
    topic, name = create(2), unique("group")
    consumer = Consumer(settings(group_id=name, auto_offset_reset="earliest", enable_auto_commit=False))
    wanted = [TopicPartition(topic, 0, 5, "note"), TopicPartition(topic, 1, 7)]
    consumer.commit(offsets=wanted, asynchronous=False)
    found = consumer.committed(wanted, 10)
    equal([(5, "note"), (7, None)], [(p.offset, p.metadata or None) for p in found], "committed")
    produce(topic, [f"v{i}" for i in range(50)])
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
    equal(50, high - low + sum(b - a for a, b in [consumer.get_watermark_offsets(TopicPartition(topic, 1), 10)]), "records")
    at_end = consumer.offsets_for_times([TopicPartition(topic, 0, int(time.time() * 1000) + 60_000)], 10)
    check(at_end[0].offset in (-1, confluent_kafka.OFFSET_END), f"no offset in the future, found {at_end}")
    consumer.close()


@suite.case("transaction/commit-abort-and-fencing")
def transactions():
    topic, identity = create(2), unique("tx")
    first = Producer(settings(transactional_id=identity))
    first.init_transactions(20)
    for round_, commit in enumerate([True, False, True]):
        first.begin_transaction()
        for i in range(10):
            first.produce(topic, f"{round_}-{i}", partition=i % 2)
        first.flush(20)
        first.commit_transaction(20) if commit else first.abort_transaction(20)
    first.begin_transaction()
    first.produce(topic, "of the zombie", partition=0)
    first.flush(20)
    second = Producer(settings(transactional_id=identity))
    second.init_transactions(20)
    error = fails(KafkaException, lambda: first.commit_transaction(20))
    equal(KafkaError._FENCED, error.args[0].code(), "error of the zombie")
    expected = sorted(f"{r}-{i}" for r in (0, 2) for i in range(10))
    equal(expected, sorted(values(read_all(topic, isolation_level="read_committed"))), "committed values")
    equal(31, len(read_all(topic)), "all records")


def consume_transform_produce(protocol):
    source, target, name = create(2), create(), unique("group")
    produce(source, [f"v{i}" for i in range(200)])
    producer = Producer(settings(transactional_id=unique("tx")))
    producer.init_transactions(20)
    consumer = Consumer(settings(group_id=name, group_protocol=protocol, auto_offset_reset="earliest",
                                 enable_auto_commit=False, isolation_level="read_committed"))
    consumer.subscribe([source])
    done, rounds = 0, 0
    while done < 200:
        batch = consumer.consume(40, 0.5)
        if not batch:
            continue
        producer.begin_transaction()
        for message in batch:
            producer.produce(target, b"copy of " + message.value())
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 20)
        rounds += 1
        if rounds % 3 == 0:
            producer.abort_transaction(20)
            firsts = {}
            for message in batch:
                firsts.setdefault(message.partition(), message.offset())
            for partition, offset in firsts.items():
                consumer.seek(TopicPartition(source, partition, offset))
        else:
            producer.commit_transaction(20)
            done += len(batch)
    committed = consumer.committed([TopicPartition(source, 0), TopicPartition(source, 1)], 10)
    equal(200, sum(p.offset for p in committed), "sum of committed offsets")
    consumer.close()
    equal(sorted(f"copy of v{i}" for i in range(200)),
          sorted(values(read_all(target, isolation_level="read_committed"))), "copies")


for one in ["classic", "consumer"]:
    suite.case(f"transaction/consume-transform-produce-{one}", one)(consume_transform_produce)


@suite.case("admin/topics-and-settings")
def topics():
    client, topic = admin(), create(2, retention_ms="60000")
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def setting(name):
        return client.describe_configs([resource])[resource].result(10)[name].value

    equal("60000", setting("retention.ms"), "retention.ms")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET)])
    client.incremental_alter_configs([change])[change].result(10)
    eventually(10, "the new setting", lambda: setting("retention.ms") == "70000")
    client.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
    eventually(10, "4 partitions", lambda: len(client.list_topics(topic, 10).topics[topic].partitions) == 4)
    error = fails(KafkaException, lambda: client.create_topics([NewTopic(topic, 1, 1)])[topic].result(10))
    equal(KafkaError.TOPIC_ALREADY_EXISTS, error.args[0].code(), "error")
    client.delete_topics([topic])[topic].result(10)
    eventually(10, "the topic is gone", lambda: topic not in client.list_topics(timeout=10).topics)


@suite.case("admin/groups-offsets-records")
def groups():
    client, topic, name = admin(), create(), unique("group")
    produce(topic, [str(i) for i in range(100)])
    partition = TopicPartition(topic, 0)
    member = Member(name, [topic], **CLASSIC)
    owned([member], [1])
    eventually(10, "100 records", lambda: len(member.values) == 100)
    described = client.describe_consumer_groups([name])[name].result(10)
    equal((1, "STABLE"), (len(described.members), described.state.name), "members and state")
    check(any(g.group_id == name for g in client.list_consumer_groups().result(10).valid), "the group is listed")
    member.stop()
    request = ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 42)])
    eventually(10, "the group is empty",
               lambda: client.describe_consumer_groups([name])[name].result(10).state.name == "EMPTY")
    client.alter_consumer_group_offsets([request])[name].result(10)
    found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(10)
    equal([42], [p.offset for p in found.topic_partitions], "altered offset")
    client.delete_consumer_groups([name])[name].result(10)
    deleted = client.delete_records([TopicPartition(topic, 0, 30)])
    equal(30, list(deleted.values())[0].result(10).low_watermark, "low watermark")
    for spec, expected in [(OffsetSpec.earliest(), 30), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), None)]:
        result = client.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_COMMITTED)[partition].result(10)
        check(expected in (None, result.offset), f"offset {expected}, found {result.offset}")
    equal(1, len(client.describe_cluster().result(10).nodes), "nodes")
