import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Utils;

/** What a producer sends is what is stored; what must be refused is refused. */
final class ProduceCases {
    private ProduceCases() {}

    static void addTo(Suite suite) {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            suite.add("produce/codec-" + codec, () -> codec(codec));
        }
        suite.add("produce/null-and-empty", ProduceCases::nullAndEmpty);
        for (String acks : List.of("0", "1", "all")) {
            suite.add("produce/acks-" + acks, () -> acks(acks));
        }
        suite.add("produce/big-batches", ProduceCases::bigBatches);
        suite.add("produce/too-large", ProduceCases::tooLarge);
        suite.add("produce/keyless-on-compacted", ProduceCases::keylessOnCompacted);
        suite.add("produce/invalid-topic-name", ProduceCases::invalidTopicName);
        suite.add("produce/auto-creation", ProduceCases::autoCreation);
        suite.add("produce/log-append-time", ProduceCases::logAppendTime);
        suite.add("produce/partition-of-key", ProduceCases::partitionOfKey);
        suite.add("produce/order-with-five-in-flight", ProduceCases::order);
    }

    private static void codec(String codec) throws Exception {
        String topic = Cluster.topic(1);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<String, String> producer = Cluster.producer(
                "compression.type", codec, "enable.idempotence", "true", "acks", "all",
                "linger.ms", "5", "batch.size", "4000")) {
            for (int i = 0; i < 500; i++) {
                ProducerRecord<String, String> record = new ProducerRecord<>(
                        topic, 0, 1_700_000_000_000L + i, "key" + i, "a value that repeats itself ".repeat(3) + i);
                record.headers().add("content-type", "text/plain".getBytes(StandardCharsets.UTF_8));
                record.headers().add("twice", new byte[] {1, (byte) i});
                record.headers().add("twice", new byte[] {2});
                record.headers().add("null", null);
                sent.add(producer.send(record));
            }
        }
        List<ConsumerRecord<String, String>> records = Cluster.readAll(topic);
        Suite.equal(500, records.size(), "records");
        for (int i = 0; i < 500; i++) {
            ConsumerRecord<String, String> record = records.get(i);
            Suite.equal((long) i, record.offset(), "offset");
            Suite.equal((long) i, sent.get(i).get().offset(), "offset in the acknowledgement");
            Suite.equal(1_700_000_000_000L + i, record.timestamp(), "timestamp");
            Suite.equal(TimestampType.CREATE_TIME, record.timestampType(), "type of timestamp");
            Suite.equal("key" + i, record.key(), "key");
            Suite.equal("a value that repeats itself ".repeat(3) + i, record.value(), "value");
            Header[] headers = record.headers().toArray();
            Suite.equal(List.of("content-type", "twice", "twice", "null"),
                    Arrays.stream(headers).map(Header::key).toList(), "header names");
            Suite.equal((byte) i, headers[1].value()[1], "header value");
            Suite.equal(null, headers[3].value(), "null header");
        }
    }

    private static void nullAndEmpty() throws Exception {
        String topic = Cluster.topic(1);
        try (Producer<String, String> producer = Cluster.producer()) {
            producer.send(new ProducerRecord<>(topic, null, "no key"));
            producer.send(new ProducerRecord<>(topic, "tombstone", null));
            producer.send(new ProducerRecord<>(topic, "", ""));
            producer.send(new ProducerRecord<>(topic, null, null));
        }
        List<ConsumerRecord<String, String>> records = Cluster.readAll(topic);
        Suite.equal(Arrays.asList(null, "tombstone", "", null),
                records.stream().map(ConsumerRecord::key).toList(), "keys");
        Suite.equal(Arrays.asList("no key", null, "", null), Cluster.values(records), "values");
    }

    private static void acks(String acks) throws Exception {
        String topic = Cluster.topic(3);
        // Without acknowledgements nobody says that a leader was not there yet.
        Cluster.send(topic, "first", 30, "acks", "1", "enable.idempotence", "false");
        boolean answered = !acks.equals("0");
        List<RecordMetadata> sent = Cluster.send(topic, "v", 300, "acks", acks, "enable.idempotence", "false");
        for (RecordMetadata one : sent) {
            Suite.equal(answered, one.hasOffset(), "an offset is known with acks=" + acks);
        }
        Suite.eventually(10, "330 records stored", () -> Cluster.readAll(topic).size() == 330);
        List<String> values = Cluster.values(Cluster.readAll(topic)).stream().filter(v -> v.startsWith("v")).toList();
        Suite.equal(Cluster.expected("v", 300), Cluster.sorted(values), "values");
    }

    private static void bigBatches() throws Exception {
        String topic = Cluster.topic(2);
        Random random = new Random(1);
        List<Integer> hashes = new ArrayList<>();
        try (Producer<String, String> producer =
                Cluster.producer("batch.size", 900_000, "linger.ms", 50, "compression.type", "lz4")) {
            for (int i = 0; i < 40; i++) {
                byte[] value = new byte[250_000];
                random.nextBytes(value);
                for (int at = 0; at < value.length; at++) {
                    value[at] &= 0x7f;
                }
                String text = new String(value, StandardCharsets.UTF_8);
                hashes.add(text.hashCode());
                producer.send(new ProducerRecord<>(topic, i % 2, null, text));
            }
        }
        List<Integer> found = Cluster.values(Cluster.readAll(topic)).stream().map(String::hashCode).sorted().toList();
        Suite.equal(hashes.stream().sorted().toList(), found, "hashes of 40 values of 250,000 bytes");
    }

    private static void tooLarge() throws Exception {
        String topic = Cluster.topic(1, "max.message.bytes", "2000");
        try (Producer<String, String> producer = Cluster.producer()) {
            Suite.fails(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(topic, "x".repeat(10_000))).get());
            Suite.equal(0L, producer.send(new ProducerRecord<>(topic, "fits")).get().offset(), "offset");
        }
        Suite.equal(List.of("fits"), Cluster.values(Cluster.readAll(topic)), "values");
    }

    private static void keylessOnCompacted() throws Exception {
        String topic = Cluster.topic(1, "cleanup.policy", "compact");
        try (Producer<String, String> producer = Cluster.producer()) {
            Suite.fails(InvalidRecordException.class,
                    () -> producer.send(new ProducerRecord<>(topic, "no key")).get());
            producer.send(new ProducerRecord<>(topic, "key", "with a key")).get();
        }
        Suite.equal(List.of("with a key"), Cluster.values(Cluster.readAll(topic)), "values");
    }

    private static void invalidTopicName() {
        try (Producer<String, String> producer = Cluster.producer("max.block.ms", "10000")) {
            Suite.fails(InvalidTopicException.class,
                    () -> producer.send(new ProducerRecord<>("a topic with spaces", "v")).get());
        }
    }

    private static void autoCreation() throws Exception {
        String topic = Cluster.unique("created-by-use");
        Suite.equal(5, Cluster.send(topic, "v", 5).size(), "acknowledged");
        Suite.equal(5, Cluster.readAll(topic).size(), "records");
    }

    private static void logAppendTime() throws Exception {
        String topic = Cluster.topic(1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        try (Producer<String, String> producer = Cluster.producer("compression.type", "gzip")) {
            RecordMetadata sent = producer.send(new ProducerRecord<>(topic, 0, 1000L, "k", "v")).get();
            Suite.check(sent.timestamp() >= before, "the acknowledgement carries the broker's time");
        }
        ConsumerRecord<String, String> record = Cluster.readAll(topic).get(0);
        Suite.equal(TimestampType.LOG_APPEND_TIME, record.timestampType(), "type of timestamp");
        Suite.check(record.timestamp() >= before, "the record carries the broker's time");
    }

    private static void partitionOfKey() throws Exception {
        String topic = Cluster.topic(7);
        try (Producer<String, String> producer = Cluster.producer()) {
            Suite.equal(7, producer.partitionsFor(topic).size(), "partitions");
            for (int i = 0; i < 50; i++) {
                String key = "sku-" + i;
                int expected = Utils.toPositive(Utils.murmur2(key.getBytes(StandardCharsets.UTF_8))) % 7;
                Suite.equal(expected, producer.send(new ProducerRecord<>(topic, key, "v")).get().partition(), key);
            }
        }
    }

    private static void order() throws Exception {
        String topic = Cluster.topic(2);
        int count = 20_000;
        try (Producer<String, String> producer = Cluster.producer(
                "enable.idempotence", "true", "max.in.flight.requests.per.connection", "5",
                "linger.ms", "0", "batch.size", "500")) {
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(topic, i % 2, null, Integer.toString(i)));
            }
        }
        int[] last = {-2, -1};
        Set<String> seen = new HashSet<>();
        for (ConsumerRecord<String, String> record : Cluster.readAll(topic)) {
            int value = Integer.parseInt(record.value());
            Suite.equal(last[record.partition()] + 2, value, "next value of partition " + record.partition());
            last[record.partition()] = value;
            seen.add(record.value());
        }
        Suite.equal(count, seen.size(), "values");
    }
}
