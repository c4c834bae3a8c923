import java.io.DataInputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.message.ProduceResponseData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Clients of a broker whose data moves to another one.
 *
 * <pre>
 * fill BOOTSTRAP                      topics, idempotent and transactional records, a group's offsets
 * dump BOOTSTRAP                      every record as a reader of committed ones sees it, the offsets
 * resume BOOTSTRAP                    the group goes on; how many records it still gets
 * duplicate BOOTSTRAP TOPIC FILE      sends the last batch of a segment again; whether it gets its offset
 * transact BOOTSTRAP                  another transaction under the same transactional id
 * </pre>
 */
public final class Migration {
    private static final List<String> TOPICS = List.of("orders", "stock", "payments");

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "fill" -> fill(args[1]);
            case "dump" -> dump(args[1]);
            case "resume" -> resume(args[1]);
            case "duplicate" -> duplicate(args[1], args[2], Path.of(args[3]));
            case "transact" -> transact(args[1], "later");
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static Properties common(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("key.serializer", StringSerializer.class.getName());
        properties.put("value.serializer", StringSerializer.class.getName());
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        properties.put("request.timeout.ms", "20000");
        properties.put("default.api.timeout.ms", "60000");
        return properties;
    }

    private static void fill(String bootstrap) throws Exception {
        try (Admin admin = Admin.create(common(bootstrap))) {
            Map<String, String> compacted = new HashMap<>();
            compacted.put("cleanup.policy", "compact");
            compacted.put("segment.ms", "1000");
            compacted.put("min.cleanable.dirty.ratio", "0.01");
            compacted.put("delete.retention.ms", "0");
            admin.createTopics(List.of(
                new NewTopic("orders", 3, (short) 1).configs(Map.of("retention.ms", "-1")),
                new NewTopic("stock", 1, (short) 1).configs(compacted),
                new NewTopic("payments", 2, (short) 1))).all().get();
        }
        Properties idempotent = common(bootstrap);
        idempotent.put("compression.type", "lz4");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(idempotent)) {
            for (int i = 0; i < 600; i++) {
                producer.send(new ProducerRecord<>("orders", "order-" + i, "value-" + i));
            }
        }
        for (int round = 0; round < 4; round++) {
            try (KafkaProducer<String, String> producer = new KafkaProducer<>(common(bootstrap))) {
                for (int i = 0; i < 100; i++) {
                    producer.send(new ProducerRecord<>("stock", "sku-" + i % 10, "count-" + round + "-" + i));
                }
            }
            Thread.sleep(1500);
        }
        transact(bootstrap, "first");
        Properties group = common(bootstrap);
        group.put("group.id", "warehouse");
        group.put("auto.offset.reset", "earliest");
        group.put("enable.auto.commit", "false");
        group.put("max.poll.records", "50");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(group)) {
            consumer.subscribe(List.of("orders"));
            int read = 0;
            while (read < 250) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(10))) {
                    read++;
                }
            }
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (TopicPartition partition : consumer.assignment()) {
                offsets.put(partition, new OffsetAndMetadata(consumer.position(partition), "by hand"));
            }
            consumer.commitSync(offsets);
        }
    }

    private static void transact(String bootstrap, String name) {
        Properties properties = common(bootstrap);
        properties.put("transactional.id", "till");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties)) {
            producer.initTransactions();
            for (boolean commit : new boolean[] {true, false, true}) {
                producer.beginTransaction();
                for (int i = 0; i < 20; i++) {
                    producer.send(new ProducerRecord<>("payments", i % 2, "till-" + i, name + "-" + commit + "-" + i));
                }
                producer.flush();
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        System.out.println("done");
    }

    private static void dump(String bootstrap) throws Exception {
        Properties properties = common(bootstrap);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        TreeMap<String, String> lines = new TreeMap<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : TOPICS) {
                consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> begins = consumer.beginningOffsets(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            ends.forEach((partition, end) -> lines.put(partition + " range", begins.get(partition) + " to " + end));
            long deadline = System.currentTimeMillis() + 60_000;
            while (ends.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue())) {
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException("the end is not reached");
                }
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    lines.put(String.format("%s-%d %08d", record.topic(), record.partition(), record.offset()),
                        record.timestamp() + " " + record.leaderEpoch().orElse(-1) + " " + record.key() + " " + record.value());
                }
            }
        }
        try (Admin admin = Admin.create(common(bootstrap))) {
            admin.listConsumerGroupOffsets("warehouse").partitionsToOffsetAndMetadata().get().forEach((partition, offset) ->
                lines.put("committed " + partition, offset.offset() + " " + offset.leaderEpoch().orElse(-1) + " " + offset.metadata()));
            admin.describeTopics(TOPICS).allTopicNames().get().forEach((name, topic) ->
                lines.put("topic " + name, topic.topicId() + " " + topic.partitions().size()));
        }
        lines.forEach((key, value) -> System.out.println(key + ": " + value));
    }

    private static void resume(String bootstrap) {
        Properties group = common(bootstrap);
        group.put("group.id", "warehouse");
        group.put("auto.offset.reset", "none");
        group.put("enable.auto.commit", "false");
        TreeSet<String> seen = new TreeSet<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(group)) {
            consumer.subscribe(List.of("orders"));
            long deadline = System.currentTimeMillis() + 60_000;
            int empty = 0;
            while (empty < 3 && System.currentTimeMillis() < deadline) {
                var records = consumer.poll(Duration.ofSeconds(2));
                empty = records.isEmpty() && !consumer.assignment().isEmpty() ? empty + 1 : 0;
                records.forEach(record -> seen.add(record.partition() + "-" + record.offset()));
            }
        }
        System.out.println(seen.size());
    }

    private static void duplicate(String bootstrap, String topic, Path segment) throws Exception {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(segment));
        int position = 0;
        RecordBatch last = null;
        for (RecordBatch next : MemoryRecords.readableRecords(file).batches()) {
            position += last == null ? 0 : last.sizeInBytes();
            last = next;
        }
        ByteBuffer bytes = file.duplicate();
        bytes.position(position).limit(position + last.sizeInBytes());
        ByteBuffer batch = ByteBuffer.allocate(last.sizeInBytes());
        batch.put(bytes).flip();
        // As the producer sent it: without an offset, without a leader's epoch.
        batch.putLong(0, 0).putInt(12, -1);
        short version = 9;
        ProduceRequestData data = new ProduceRequestData().setAcks((short) -1).setTimeoutMs(10_000);
        ProduceRequestData.PartitionProduceData partition = new ProduceRequestData.PartitionProduceData()
            .setIndex(0).setRecords(MemoryRecords.readableRecords(batch));
        data.topicData().add(new ProduceRequestData.TopicProduceData().setName(topic)
            .setPartitionData(new ArrayList<>(List.of(partition))));
        ProduceRequest request = new ProduceRequest(data, version);
        RequestHeader header = new RequestHeader(ApiKeys.PRODUCE, version, "duplicate", 7);
        ByteBuffer frame = request.serializeWithHeader(header);
        int colon = bootstrap.lastIndexOf(':');
        try (Socket socket = new Socket(bootstrap.substring(0, colon), Integer.parseInt(bootstrap.substring(colon + 1)))) {
            OutputStream out = socket.getOutputStream();
            ByteBuffer message = ByteBuffer.allocate(4 + frame.remaining());
            message.putInt(frame.remaining()).put(frame);
            out.write(message.array());
            DataInputStream in = new DataInputStream(socket.getInputStream());
            byte[] answer = new byte[in.readInt()];
            in.readFully(answer);
            ByteBufferAccessor reader = new ByteBufferAccessor(ByteBuffer.wrap(answer));
            new ResponseHeaderData(reader, ApiKeys.PRODUCE.responseHeaderVersion(version));
            var response = new ProduceResponseData(reader, version).responses().iterator().next().partitionResponses().get(0);
            boolean known = response.errorCode() == 0 && response.baseOffset() == last.baseOffset();
            System.out.println(known ? "known" : "error " + response.errorCode() + " offset " + response.baseOffset());
        }
    }
}
