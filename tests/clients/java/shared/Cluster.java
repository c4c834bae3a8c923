import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The broker under test: its address, names nobody else uses, clients with sensible settings. */
public final class Cluster {
    private static final AtomicInteger NAMES = new AtomicInteger();
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);

    /** `host:port` of the broker. */
    public static final String BOOTSTRAP = bootstrap();

    private Cluster() {}

    private static String bootstrap() {
        String address = System.getenv("CONVEYOR_BOOTSTRAP");
        if (address == null || address.isEmpty()) {
            throw new IllegalStateException("CONVEYOR_BOOTSTRAP=host:port is not set");
        }
        return address;
    }

    /** A name for a topic, group or transactional id that no other case or run has. */
    public static String unique(String name) {
        return name + "-" + RUN + "-" + NAMES.incrementAndGet();
    }

    /** Settings of any client, with pairs of name and value added. */
    public static Properties settings(Object... pairs) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put(pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    /** A topic of its own, with pairs of setting and value. */
    public static String topic(int partitions, String... settings) throws Exception {
        String name = unique("topic");
        create(name, partitions, settings);
        return name;
    }

    /** Creates a topic of this name. */
    public static void create(String name, int partitions, String... settings) throws Exception {
        Map<String, String> configs = new HashMap<>();
        for (int i = 0; i < settings.length; i += 2) {
            configs.put(settings[i], settings[i + 1]);
        }
        try (Admin admin = admin()) {
            NewTopic topic = new NewTopic(name, partitions, (short) 1).configs(configs);
            admin.createTopics(List.of(topic)).all().get();
        }
        // A broker may learn of a topic, and begin to lead it, a moment after the controller made it.
        try (Consumer<String, String> consumer = consumer("allow.auto.create.topics", "false")) {
            Suite.eventually(10, "partitions of " + name, () -> {
                List<PartitionInfo> found = consumer.partitionsFor(name);
                return found != null && found.size() == partitions;
            });
            consumer.endOffsets(partitions(consumer, name));
        }
    }

    /** A client for administration. */
    public static Admin admin() {
        return Admin.create(settings());
    }

    /**
     * A producer of strings that gives up after half a minute. With the default of clients before 3.0,
     * acks=1, a record may be acknowledged before it can be read.
     */
    public static Producer<String, String> producer(Object... pairs) {
        Properties settings = settings("acks", "all", "request.timeout.ms", "15000", "delivery.timeout.ms", "30000");
        settings.putAll(settings(pairs));
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    /** A consumer of strings that begins at the earliest record and commits nothing by itself. */
    public static Consumer<String, String> consumer(Object... pairs) {
        Properties settings = settings(
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                "fetch.max.wait.ms", "100");
        settings.putAll(settings(pairs));
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    /** A consumer in a group. */
    public static Consumer<String, String> member(String group, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        all[0] = "group.id";
        all[1] = group;
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        return consumer(all);
    }

    /** Sends `count` values `prefix0`, `prefix1` … with those numbers as keys; waits for all. */
    public static List<RecordMetadata> send(String topic, String prefix, int count, Object... pairs)
            throws Exception {
        try (Producer<String, String> producer = producer(pairs)) {
            return send(producer, topic, prefix, count);
        }
    }

    /** The same with a producer that exists. */
    public static List<RecordMetadata> send(
            Producer<String, String> producer, String topic, String prefix, int count) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            sent.add(producer.send(new ProducerRecord<>(topic, Integer.toString(i), prefix + i)));
        }
        producer.flush();
        List<RecordMetadata> result = new ArrayList<>();
        for (Future<RecordMetadata> one : sent) {
            result.add(one.get());
        }
        return result;
    }

    /** `count` records of a consumer that is assigned or subscribed; fails after 30 s. */
    public static List<ConsumerRecord<String, String>> poll(Consumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (records.size() < count) {
            if (System.currentTimeMillis() > deadline) {
                throw new AssertionError("expected " + count + " records, found " + records.size());
            }
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    /** Every record of a topic from the beginning to its end as this isolation level shows it. */
    public static List<ConsumerRecord<String, String>> readAll(String topic, Object... pairs) {
        try (Consumer<String, String> consumer = consumer(pairs)) {
            List<TopicPartition> partitions = partitions(consumer, topic);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            List<ConsumerRecord<String, String>> records = new ArrayList<>();
            long deadline = System.currentTimeMillis() + 30_000;
            while (!partitions.stream().allMatch(p -> consumer.position(p) >= ends.get(p))) {
                if (System.currentTimeMillis() > deadline) {
                    throw new AssertionError("the ends " + ends + " of " + topic + " were not reached");
                }
                consumer.poll(Duration.ofMillis(100)).forEach(records::add);
            }
            return records;
        }
    }

    /**
     * Waits until no transaction is open in a topic: the coordinator answers a commit before its
     * markers lie in every partition, so a reader may come too early.
     */
    public static void untilStable(String topic) throws InterruptedException {
        try (Consumer<String, String> all = consumer();
                Consumer<String, String> committed = consumer("isolation.level", "read_committed")) {
            List<TopicPartition> partitions = partitions(all, topic);
            Suite.eventually(15, "no open transaction in " + topic,
                    () -> all.endOffsets(partitions).equals(committed.endOffsets(partitions)));
        }
    }

    /** The partitions of a topic. */
    public static List<TopicPartition> partitions(Consumer<String, String> consumer, String topic) {
        return consumer.partitionsFor(topic).stream()
                .map(p -> new TopicPartition(topic, p.partition()))
                .toList();
    }

    /** Values of records. */
    public static List<String> values(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    /** `prefix0` … `prefix{count-1}`, sorted as `sorted` sorts. */
    public static List<String> expected(String prefix, int count) {
        List<String> values = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            values.add(prefix + i);
        }
        return sorted(values);
    }

    /** A sorted copy. */
    public static List<String> sorted(Collection<String> values) {
        return values.stream().sorted().toList();
    }
}
