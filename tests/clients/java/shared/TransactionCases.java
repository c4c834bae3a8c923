import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;

/** Transactions: the protocol used is the newest that client and broker both know. */
final class TransactionCases {
    private static final Object[] COMMITTED = {"isolation.level", "read_committed"};

    private TransactionCases() {}

    static void addTo(Suite suite) {
        suite.add("transaction/commit-and-abort", TransactionCases::commitAndAbort);
        suite.add("transaction/last-stable-offset", TransactionCases::lastStableOffset);
        suite.add("transaction/many-partitions", TransactionCases::manyPartitions);
        suite.add("transaction/many-in-a-row", TransactionCases::manyInARow);
        suite.add("transaction/zombie-is-fenced", TransactionCases::fencing);
        suite.add("transaction/open-one-of-a-dead-producer", TransactionCases::deadProducer);
        suite.add("transaction/time-out", TransactionCases::timeOut);
        suite.add("transaction/time-out-too-long", TransactionCases::timeOutTooLong);
        suite.add("transaction/abort-after-refused-record", TransactionCases::abortAfterRefusedRecord);
        suite.add("transaction/consume-transform-produce", TransactionCases::consumeTransformProduce);
        suite.add("transaction/offsets-of-a-stale-member", TransactionCases::staleMember);
        suite.add("transaction/offsets-of-an-aborted-one", TransactionCases::abortedOffsets);
    }

    private static Producer<String, String> producer(String id, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        all[0] = "transactional.id";
        all[1] = id;
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        return Cluster.producer(all);
    }

    private static List<String> committed(String topic) throws InterruptedException {
        Cluster.untilStable(topic);
        return Cluster.values(Cluster.readAll(topic, COMMITTED));
    }

    private static void commitAndAbort() throws Exception {
        String topic = Cluster.topic(1);
        try (Producer<String, String> producer = producer(Cluster.unique("tx"), "compression.type", "snappy")) {
            producer.initTransactions();
            for (int round = 0; round < 6; round++) {
                producer.beginTransaction();
                for (int i = 0; i < 10; i++) {
                    producer.send(new ProducerRecord<>(topic, "round" + round));
                }
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
            producer.beginTransaction();
            producer.commitTransaction();
        }
        List<String> expected = new ArrayList<>();
        for (int round = 0; round < 6; round += 2) {
            for (int i = 0; i < 10; i++) {
                expected.add("round" + round);
            }
        }
        Suite.equal(expected, committed(topic), "values that read_committed shows");
        Suite.equal(60, Cluster.readAll(topic).size(), "records that read_uncommitted shows");
    }

    private static void lastStableOffset() throws Exception {
        String topic = Cluster.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Cluster.send(topic, "before", 3);
        try (Producer<String, String> producer = producer(Cluster.unique("tx"));
                Consumer<String, String> committed = Cluster.consumer(COMMITTED);
                Consumer<String, String> uncommitted = Cluster.consumer()) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "inside")).get();
            Cluster.send(topic, "behind", 2);
            Suite.equal(3L, committed.endOffsets(List.of(partition)).get(partition), "last stable offset");
            Suite.equal(6L, uncommitted.endOffsets(List.of(partition)).get(partition), "high watermark");
            committed.assign(List.of(partition));
            Suite.equal(3, Cluster.poll(committed, 3).size(), "records before the open transaction");
            Suite.equal(0, committed.poll(Duration.ofMillis(500)).count(), "records behind the last stable offset");
            producer.commitTransaction();
            Suite.equal(List.of("inside", "behind0", "behind1"),
                    Cluster.values(Cluster.poll(committed, 3)), "values after the commit");
            Suite.equal(7L, committed.endOffsets(List.of(partition)).get(partition), "end behind the marker");
        }
    }

    private static void manyPartitions() throws Exception {
        String first = Cluster.topic(20);
        String second = Cluster.topic(3);
        try (Producer<String, String> producer = producer(Cluster.unique("tx"))) {
            producer.initTransactions();
            for (boolean commit : new boolean[] {true, false, true}) {
                producer.beginTransaction();
                for (int i = 0; i < 20; i++) {
                    producer.send(new ProducerRecord<>(first, i, null, "v"));
                    producer.send(new ProducerRecord<>(second, i % 3, null, "v"));
                }
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        Suite.equal(40, committed(first).size(), "committed records of the first topic");
        Suite.equal(40, committed(second).size(), "committed records of the second topic");
    }

    private static void manyInARow() throws Exception {
        String topic = Cluster.topic(2);
        int count = 150;
        try (Producer<String, String> producer = producer(Cluster.unique("tx"))) {
            producer.initTransactions();
            for (int i = 0; i < count; i++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, i % 2, null, "v" + i));
                // Not left to the commit: the sender of clients 4.x asks whether batches are left before
                // it takes the lock under which it looks for the next request. A send and a commit in
                // between let EndTxn overtake the record, for which every broker knows no transaction.
                producer.flush();
                producer.commitTransaction();
            }
        }
        Suite.equal(Cluster.expected("v", count), Cluster.sorted(committed(topic)), "values");
    }

    private static void fencing() throws Exception {
        String topic = Cluster.topic(1);
        String id = Cluster.unique("tx");
        try (Producer<String, String> zombie = producer(id); Producer<String, String> successor = producer(id)) {
            zombie.initTransactions();
            zombie.beginTransaction();
            zombie.send(new ProducerRecord<>(topic, "of the zombie")).get();
            successor.initTransactions();
            Suite.fails(KafkaException.class, () -> zombie.send(new ProducerRecord<>(topic, "too late")).get());
            KafkaException refused = Suite.fails(KafkaException.class, zombie::commitTransaction);
            Suite.check(isFencing(refused), "ProducerFencedException, found " + refused);
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(topic, "of the successor"));
            successor.commitTransaction();
        }
        Suite.equal(List.of("of the successor"), committed(topic), "values");
    }

    private static boolean isFencing(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException) {
                return true;
            }
        }
        return false;
    }

    private static void deadProducer() throws Exception {
        String topic = Cluster.topic(1);
        String id = Cluster.unique("tx");
        Producer<String, String> dead = producer(id);
        dead.initTransactions();
        dead.beginTransaction();
        dead.send(new ProducerRecord<>(topic, "never committed")).get();
        dead.close(Duration.ZERO);
        try (Producer<String, String> successor = producer(id)) {
            successor.initTransactions();
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(topic, "committed"));
            successor.commitTransaction();
        }
        Suite.equal(List.of("committed"), committed(topic), "values");
    }

    private static void timeOut() throws Exception {
        String topic = Cluster.topic(1);
        try (Producer<String, String> producer = producer(Cluster.unique("tx"), "transaction.timeout.ms", "1500")) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "too slow")).get();
            Cluster.send(topic, "behind", 1);
            Suite.eventually(30, "the broker aborts it: the last stable offset moves on",
                    () -> Cluster.values(Cluster.readAll(topic, COMMITTED)).equals(List.of("behind0")));
            Suite.fails(KafkaException.class, producer::commitTransaction);
        }
        Suite.equal(List.of("behind0"), committed(topic), "values");
    }

    private static void timeOutTooLong() {
        try (Producer<String, String> producer =
                producer(Cluster.unique("tx"), "transaction.timeout.ms", "2000000000")) {
            KafkaException refused = Suite.fails(KafkaException.class, producer::initTransactions);
            Suite.check(refused.getMessage().contains("larger than the maximum value"), "the reason; found " + refused);
        }
    }

    private static void abortAfterRefusedRecord() throws Exception {
        String topic = Cluster.topic(1, "max.message.bytes", "2000");
        try (Producer<String, String> producer = producer(Cluster.unique("tx"))) {
            producer.initTransactions();
            producer.beginTransaction();
            // A batch of its own: old clients split a batch that is too large without end.
            producer.send(new ProducerRecord<>(topic, "aborted with the rest")).get();
            Suite.fails(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(topic, "x".repeat(10_000))).get());
            Suite.fails(KafkaException.class, producer::commitTransaction);
            producer.abortTransaction();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "committed"));
            producer.commitTransaction();
        }
        Suite.equal(List.of("committed"), committed(topic), "values");
    }

    /** Copies with exactly-once; every third transaction is aborted and done again, one copier dies. */
    private static void consumeTransformProduce() throws Exception {
        String input = Cluster.topic(3);
        String output = Cluster.topic(2);
        String group = Cluster.unique("group");
        String id = Cluster.unique("tx");
        Cluster.send(input, "v", 300);
        int done = copy(input, output, group, id, 120, false);
        Suite.check(done >= 120, "120 records copied before the copier dies");
        copy(input, output, group, id, 300 - done, true);
        Suite.equal(Cluster.expected("copy of v", 300), Cluster.sorted(committed(output)), "copies");
        try (Consumer<String, String> consumer = Cluster.member(group)) {
            List<TopicPartition> partitions = Cluster.partitions(consumer, input);
            long sum = consumer.committed(new java.util.HashSet<>(partitions)).values().stream()
                    .mapToLong(OffsetAndMetadata::offset).sum();
            Suite.equal(300L, sum, "sum of the committed offsets");
        }
    }

    private static int copy(String input, String output, String group, String id, int count, boolean last)
            throws Exception {
        Producer<String, String> producer = producer(id);
        Consumer<String, String> consumer = Cluster.member(group, "isolation.level", "read_committed",
                "max.poll.records", "20", "session.timeout.ms", "6000", "heartbeat.interval.ms", "300");
        producer.initTransactions();
        consumer.subscribe(List.of(input));
        int done = 0;
        int round = 0;
        long deadline = System.currentTimeMillis() + 40_000;
        while (done < count) {
            Suite.check(System.currentTimeMillis() < deadline, "the copy ends; " + done + " of " + count + " done");
            List<ConsumerRecord<String, String>> records = new ArrayList<>();
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
            if (records.isEmpty()) {
                continue;
            }
            producer.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (ConsumerRecord<String, String> record : records) {
                producer.send(new ProducerRecord<>(output, record.key(), "copy of " + record.value()));
                offsets.merge(new TopicPartition(input, record.partition()), new OffsetAndMetadata(record.offset() + 1),
                        (a, b) -> a.offset() > b.offset() ? a : b);
            }
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            if (++round % 3 == 0) {
                producer.abortTransaction();
                rewind(consumer, records);
            } else {
                producer.commitTransaction();
                done += records.size();
            }
        }
        if (!last) {
            // It dies with an open transaction.
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(output, "of a dead copier")).get();
            producer.close(Duration.ZERO);
        } else {
            producer.close();
        }
        consumer.close();
        return done;
    }

    private static void rewind(Consumer<String, String> consumer, List<ConsumerRecord<String, String>> records) {
        Map<TopicPartition, Long> first = new HashMap<>();
        for (ConsumerRecord<String, String> record : records) {
            first.merge(new TopicPartition(record.topic(), record.partition()), record.offset(), Math::min);
        }
        first.forEach(consumer::seek);
    }

    private static void staleMember() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 1);
        try (Consumer<String, String> consumer = Cluster.member(group);
                Producer<String, String> producer = producer(Cluster.unique("tx"))) {
            consumer.subscribe(List.of(topic));
            Cluster.poll(consumer, 1);
            var stale = consumer.groupMetadata();
            consumer.unsubscribe();
            consumer.subscribe(List.of(topic));
            Cluster.poll(consumer, 1);
            producer.initTransactions();
            producer.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> offsets =
                    Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1));
            Suite.fails(CommitFailedException.class, () -> producer.sendOffsetsToTransaction(offsets, stale));
            producer.abortTransaction();
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            producer.commitTransaction();
        }
        try (Consumer<String, String> consumer = Cluster.member(group)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            Suite.equal(1L, consumer.committed(java.util.Set.of(partition)).get(partition).offset(), "committed");
        }
    }

    private static void abortedOffsets() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> consumer = Cluster.member(group, COMMITTED);
                Producer<String, String> producer = producer(Cluster.unique("tx"))) {
            consumer.assign(List.of(partition));
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(5)));
            producer.initTransactions();
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(9)), consumer.groupMetadata());
            producer.abortTransaction();
            Suite.equal(5L, consumer.committed(java.util.Set.of(partition)).get(partition).offset(),
                    "committed after the abort");
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(9)), consumer.groupMetadata());
            producer.commitTransaction();
            Suite.equal(9L, consumer.committed(java.util.Set.of(partition)).get(partition).offset(),
                    "committed after the commit");
        }
    }
}
