import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/** Reading partitions that the client assigns to itself. */
final class ConsumeCases {
    private ConsumeCases() {}

    static void addTo(Suite suite) {
        suite.add("consume/seek-and-position", ConsumeCases::seek);
        suite.add("consume/pause-and-resume", ConsumeCases::pause);
        suite.add("consume/beginning-and-end", ConsumeCases::beginningAndEnd);
        for (String codec : List.of("none", "zstd")) {
            suite.add("consume/offsets-for-times-" + codec, () -> offsetsForTimes(codec));
        }
        suite.add("consume/reset", ConsumeCases::reset);
        suite.add("consume/record-larger-than-fetch", ConsumeCases::recordLargerThanFetch);
        suite.add("consume/small-fetches", ConsumeCases::smallFetches);
        suite.add("consume/long-poll", ConsumeCases::longPoll);
        suite.add("consume/many-partitions", ConsumeCases::manyPartitions);
        suite.add("consume/list-topics", ConsumeCases::listTopics);
    }

    private static void seek() throws Exception {
        String topic = Cluster.topic(1);
        Cluster.send(topic, "v", 100, "compression.type", "lz4", "linger.ms", "20");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> consumer = Cluster.consumer("max.poll.records", "7")) {
            consumer.assign(List.of(partition));
            for (long offset : new long[] {50, 3, 99, 0}) {
                consumer.seek(partition, offset);
                ConsumerRecord<String, String> record = Cluster.poll(consumer, 1).get(0);
                Suite.equal(offset, record.offset(), "offset after seek");
                Suite.equal("v" + offset, record.value(), "value after seek");
            }
            consumer.seekToEnd(List.of(partition));
            Suite.equal(100L, consumer.position(partition), "position at the end");
            consumer.seekToBeginning(List.of(partition));
            Suite.equal(0L, consumer.position(partition), "position at the beginning");
        }
    }

    private static void pause() throws Exception {
        String topic = Cluster.topic(2);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        try (Producer<String, String> producer = Cluster.producer()) {
            for (int i = 0; i < 20; i++) {
                producer.send(new ProducerRecord<>(topic, i % 2, null, "v" + i));
            }
        }
        try (Consumer<String, String> consumer = Cluster.consumer()) {
            consumer.assign(List.of(first, second));
            consumer.pause(List.of(first));
            Suite.check(Cluster.poll(consumer, 10).stream().allMatch(r -> r.partition() == 1),
                    "records of the partition that is not paused only");
            Suite.equal(0, consumer.poll(Duration.ofMillis(500)).count(), "records while paused");
            consumer.resume(List.of(first));
            Suite.check(Cluster.poll(consumer, 10).stream().allMatch(r -> r.partition() == 0),
                    "records of the resumed partition");
        }
    }

    private static void beginningAndEnd() throws Exception {
        String topic = Cluster.topic(3);
        Map<TopicPartition, Long> expected = new HashMap<>();
        Cluster.send(topic, "v", 100).forEach(sent ->
                expected.merge(new TopicPartition(topic, sent.partition()), 1L, Long::sum));
        try (Consumer<String, String> consumer = Cluster.consumer()) {
            List<TopicPartition> partitions = Cluster.partitions(consumer, topic);
            Suite.equal(expected, new HashMap<>(consumer.endOffsets(partitions)), "end offsets");
            for (long beginning : consumer.beginningOffsets(partitions).values()) {
                Suite.equal(0L, beginning, "beginning offset");
            }
        }
    }

    private static void offsetsForTimes(String codec) throws Exception {
        String topic = Cluster.topic(1);
        long base = System.currentTimeMillis() - 1_000_000;
        try (Producer<String, String> producer = Cluster.producer("compression.type", codec, "linger.ms", "50")) {
            for (int i = 0; i < 1000; i++) {
                producer.send(new ProducerRecord<>(topic, 0, base + 10L * i, null, "v" + i));
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> consumer = Cluster.consumer()) {
            for (int i : new int[] {0, 1, 377, 500, 999}) {
                for (long target : new long[] {base + 10L * i, base + 10L * i - 3}) {
                    OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, target)).get(partition);
                    Suite.equal((long) i, found.offset(), "first offset at or after the time");
                    Suite.equal(base + 10L * i, found.timestamp(), "its time");
                }
            }
            Suite.equal(null, consumer.offsetsForTimes(Map.of(partition, base + 10_000)).get(partition),
                    "after the last record");
        }
    }

    private static void reset() throws Exception {
        String topic = Cluster.topic(1);
        Cluster.send(topic, "old", 5);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> latest = Cluster.member(Cluster.unique("g"), "auto.offset.reset", "latest")) {
            latest.assign(List.of(partition));
            Suite.equal(5L, latest.position(partition), "position of a new group that begins at the latest");
            latest.seek(partition, 1000);
            Suite.eventually(15, "a seek beyond the end is reset to the end", () -> {
                latest.poll(Duration.ofMillis(100));
                return latest.position(partition) == 5;
            });
        }
        try (Consumer<String, String> none = Cluster.member(Cluster.unique("g"), "auto.offset.reset", "none")) {
            none.assign(List.of(partition));
            Suite.fails(NoOffsetForPartitionException.class, () -> none.poll(Duration.ofSeconds(10)));
            none.seek(partition, 1000);
            Suite.fails(OffsetOutOfRangeException.class, () -> {
                for (int i = 0; i < 50; i++) {
                    none.poll(Duration.ofMillis(200));
                }
            });
        }
    }

    private static void recordLargerThanFetch() throws Exception {
        String topic = Cluster.topic(1);
        String large = "x".repeat(200_000);
        try (Producer<String, String> producer = Cluster.producer("linger.ms", "0")) {
            producer.send(new ProducerRecord<>(topic, large)).get();
            producer.send(new ProducerRecord<>(topic, "after")).get();
        }
        List<String> values = Cluster.values(
                Cluster.readAll(topic, "max.partition.fetch.bytes", "1000", "fetch.max.bytes", "1000"));
        Suite.equal(List.of(large, "after"), values, "values");
    }

    private static void smallFetches() throws Exception {
        String topic = Cluster.topic(4);
        Cluster.send(topic, "v", 5000, "batch.size", "1000");
        List<String> values = Cluster.values(Cluster.readAll(
                topic, "max.partition.fetch.bytes", "2000", "fetch.max.bytes", "5000", "max.poll.records", "10000"));
        Suite.equal(Cluster.expected("v", 5000), Cluster.sorted(values), "values");
    }

    private static void longPoll() throws Exception {
        String topic = Cluster.topic(1);
        Cluster.send(topic, "first", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> consumer = Cluster.consumer("fetch.max.wait.ms", "5000")) {
            consumer.assign(List.of(partition));
            Cluster.poll(consumer, 1);
            Thread sender = new Thread(() -> {
                try {
                    Thread.sleep(1000);
                    Cluster.send(topic, "second", 1);
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            long start = System.nanoTime();
            sender.start();
            Cluster.poll(consumer, 1);
            double seconds = (System.nanoTime() - start) / 1e9;
            Suite.check(seconds > 0.9 && seconds < 4,
                    "a parked fetch is answered when a record arrives, not after 5 s; took " + seconds);
        }
    }

    private static void manyPartitions() throws Exception {
        String topic = Cluster.topic(60);
        Cluster.send(topic, "v", 3000);
        try (Consumer<String, String> consumer = Cluster.consumer()) {
            consumer.assign(Cluster.partitions(consumer, topic));
            Suite.equal(Cluster.expected("v", 3000),
                    Cluster.sorted(Cluster.values(Cluster.poll(consumer, 3000))), "values");
            // The fetch session goes on with the partitions that change only.
            Cluster.send(topic, "w", 500);
            Suite.equal(Cluster.expected("w", 500),
                    Cluster.sorted(Cluster.values(Cluster.poll(consumer, 500))), "values sent later");
            consumer.assign(Set.of(new TopicPartition(topic, 7)));
            consumer.seekToBeginning(consumer.assignment());
            Suite.check(Cluster.poll(consumer, 1).stream().allMatch(r -> r.partition() == 7), "partition 7 only");
        }
    }

    private static void listTopics() throws Exception {
        String topic = Cluster.topic(3);
        try (Consumer<String, String> consumer = Cluster.consumer()) {
            Suite.eventually(10, "the new topic is listed", () -> consumer.listTopics().containsKey(topic));
            List<PartitionInfo> partitions = consumer.listTopics().get(topic);
            Suite.equal(3, partitions.size(), "partitions");
            for (PartitionInfo partition : partitions) {
                Suite.check(partition.leader() != null && partition.inSyncReplicas().length == 1,
                        "every partition has a leader that is in sync");
            }
        }
    }
}
