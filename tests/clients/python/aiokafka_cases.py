"""aiokafka: asyncio, and only the older, non-flexible versions of the protocol."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced, TopicAlreadyExistsError
from aiokafka.structs import OffsetAndMetadata

from suite import BOOTSTRAP, CODECS, Suite, check, equal, unique

suite = Suite(f"aiokafka-{aiokafka.__version__}")


def case(name, *arguments):
    """Registers a coroutine function as a case; it may take a minute."""

    def register(function):
        suite.case(name, *arguments)(lambda *given: asyncio.run(asyncio.wait_for(function(*given), 60)))
        return function

    return register


async def eventually(seconds, expectation, condition):
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        check(time.monotonic() < deadline, f"within {seconds} s: {expectation}")
        await asyncio.sleep(0.05)


async def create(partitions=1, **config):
    name = unique("topic")
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    await admin.close()
    # A broker may begin to lead a new partition a moment after it was made; this waits for it.
    consumer = AIOKafkaConsumer(name, bootstrap_servers=BOOTSTRAP)
    await consumer.start()
    await consumer.end_offsets([TopicPartition(name, p) for p in range(partitions)])
    await consumer.stop()
    return name


async def produce(topic, values, **more):
    # With its default, acks=1, a record may be acknowledged before it can be read.
    more = {"acks": "all", **more}
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **more) as producer:
        futures = [await producer.send(topic, value.encode(), key=str(i).encode()) for i, value in enumerate(values)]
        return [await future for future in futures]


async def read_all(topic, **more):
    """Every record up to the end that this isolation level shows."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, enable_auto_commit=False,
                                auto_offset_reset="earliest", fetch_max_wait_ms=100, **more)
    await consumer.start()
    try:
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        records = []
        deadline = time.monotonic() + 30
        while True:
            positions = [(await consumer.position(p), ends[p]) for p in partitions]
            if all(position >= end for position, end in positions):
                return records
            check(time.monotonic() < deadline, f"the ends {ends} of {topic}")
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(batch)
    finally:
        await consumer.stop()


def values(records):
    return [r.value.decode() for r in records]


async def each_codec(codec):
    topic = await create()
    sent = [f"value {i} " * 5 for i in range(500)]
    found = await produce(topic, sent, compression_type=codec, enable_idempotence=True, linger_ms=20)
    equal(list(range(500)), [m.offset for m in found], "acknowledged offsets")
    equal(sent, values(await read_all(topic)), "values")


for one in CODECS:
    case(f"produce/codec-{one or 'none'}", one)(each_codec)


@case("produce/headers-timestamps-null")
async def headers():
    topic = await create()
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all") as producer:
        await producer.send_and_wait(topic, b"v", headers=[("a", b"1"), ("a", b"2")], timestamp_ms=1_700_000_000_123)
        await producer.send_and_wait(topic, None, key=b"tombstone")
    first, second = await read_all(topic)
    equal([("a", b"1"), ("a", b"2")], list(first.headers), "headers")
    equal(1_700_000_000_123, first.timestamp, "timestamp")
    equal((None, b"tombstone", None), (first.key, second.key, second.value), "keys and null value")


@case("produce/too-large")
async def too_large():
    topic = await create(max_message_bytes="2000")
    try:
        await produce(topic, ["x" * 10_000])
    except MessageSizeTooLargeError:
        return
    raise AssertionError("expected MessageSizeTooLargeError, but nothing failed")


@case("consume/seek-and-times")
async def seek():
    topic = await create()
    base = int(time.time() * 1000) - 100_000
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type="gzip", linger_ms=50, acks="all") as producer:
        for i in range(100):
            await producer.send(topic, str(i).encode(), timestamp_ms=base + 10 * i)
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest")
    await consumer.start()
    found = await consumer.offsets_for_times({partition: base + 365})
    equal(37, found[partition].offset, "offset of a time")
    consumer.seek(partition, 50)
    equal(50, (await consumer.getone()).offset, "offset after seek")
    equal({partition: 100}, await consumer.end_offsets([partition]), "end")
    await consumer.stop()


class Member:
    """A group member that polls in a task of its own."""

    def __init__(self, group, topic, assignor, **more):
        self.consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest",
            session_timeout_ms=10_000, heartbeat_interval_ms=300, auto_commit_interval_ms=200,
            partition_assignment_strategy=(assignor,), fetch_max_wait_ms=100, **more)
        self.values, self.task = [], None

    async def start(self):
        await self.consumer.start()
        self.task = asyncio.create_task(self.poll())
        return self

    async def poll(self):
        async for record in self.consumer:
            self.values.append(record.value.decode())

    async def stop(self):
        self.task.cancel()
        await self.consumer.stop()


async def owned(members, sizes):
    async def balanced():
        found = [set(m.consumer.assignment()) for m in members]
        return sorted(len(f) for f in found) == sizes and len(set().union(*found)) == sum(sizes)

    await eventually(30, f"members own {sizes} partitions", balanced)


async def group(assignor):
    topic, name = await create(4), unique("group")
    first = await Member(name, topic, assignor).start()
    await owned([first], [4])
    second = await Member(name, topic, assignor).start()
    await owned([first, second], [2, 2])
    await produce(topic, [f"v{i}" for i in range(200)])

    async def everything():
        return len(set(first.values + second.values)) == 200

    await eventually(20, "200 records", everything)
    check(first.values and second.values, "both members got records")
    await first.stop()
    await owned([second], [4])
    await second.stop()


for one in [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor]:
    case(f"group/{one.name}", one)(group)


@case("group/static-member-and-offsets")
async def offsets():
    topic, name = await create(), unique("group")
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=name, group_instance_id="one",
                                enable_auto_commit=False)
    await consumer.start()
    equal(None, await consumer.committed(partition), "committed before any commit")
    await consumer.commit({partition: OffsetAndMetadata(5, "note")})
    equal(5, await consumer.committed(partition), "committed")
    await consumer.stop()


@case("transaction/commit-abort-offsets-fencing")
async def transactions():
    topic, source, name, identity = await create(), await create(), unique("group"), unique("tx")
    partition = TopicPartition(source, 0)
    first = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=identity)
    await first.start()
    for index, commit in enumerate([True, False, True]):
        await first.begin_transaction()
        await first.send(topic, str(index).encode())
        await first.send_offsets_to_transaction({partition: OffsetAndMetadata(index + 1, "")}, name)
        await (first.commit_transaction() if commit else first.abort_transaction())
    await first.begin_transaction()
    await first.send_and_wait(topic, b"of the zombie")
    second = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=identity)
    await second.start()
    try:
        await first.commit_transaction()
    except (ProducerFenced, KafkaError):
        pass
    else:
        raise AssertionError("expected ProducerFenced, but nothing failed")
    equal(["0", "2"], values(await read_all(topic, isolation_level="read_committed")), "committed values")
    equal(4, len(await read_all(topic)), "all records")
    await second.stop()
    await first.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=name, enable_auto_commit=False)
    await consumer.start()
    equal(3, await consumer.committed(partition), "committed offset")
    await consumer.stop()


@case("admin/topics-groups-settings")
async def administration():
    topic, name = await create(2, retention_ms="60000"), unique("group")
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
        equal(TopicAlreadyExistsError.errno, answer.topic_errors[0][1], "error of a topic that is there")
        await admin.create_partitions({topic: NewPartitions(3)})
        found = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        settings = {entry[0]: entry[1] for entry in found[0].resources[0][4]}
        equal("60000", settings["retention.ms"], "retention.ms")
        member = await Member(name, topic, RangePartitionAssignor).start()
        await owned([member], [3])
        described = (await admin.describe_consumer_groups([name]))[0]
        equal("Stable", described.groups[0][2], "state of the group")
        check(any(g[0] == name for g in await admin.list_consumer_groups()), "the group is listed")
        await produce(topic, ["v"])
        await asyncio.sleep(0.5)
        await member.stop()
        committed = await admin.list_consumer_group_offsets(name)
        equal(1, sum(offset.offset for offset in committed.values()), "committed offsets")
        await admin.delete_topics([topic])
    finally:
        await admin.close()
