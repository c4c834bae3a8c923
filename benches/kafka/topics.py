"""Topics for the measurements: `topics.py create BOOTSTRAP PARTITIONS [name=value]`, prints the name;
`topics.py delete BOOTSTRAP NAME`."""

import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def create(bootstrap, partitions, *settings):
    name = f"bench-{time.time_ns()}"
    topic = NewTopic(name, int(partitions), 1, config=dict(setting.split("=", 1) for setting in settings))
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([topic])[name].result(30)
    # Until every partition is led.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    for partition in range(int(partitions)):
        while True:
            try:
                consumer.get_watermark_offsets(TopicPartition(name, partition), 2)
                break
            except KafkaException:
                time.sleep(0.05)
    print(name)


def delete(bootstrap, name):
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.delete_topics([name])[name].result(30)


{"create": create, "delete": delete}[sys.argv[1]](*sys.argv[2:])
