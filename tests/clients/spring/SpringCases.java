package conveyor.clients.spring;

import com.fasterxml.jackson.databind.JsonNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.MessageListenerContainer;

/** A service started, spoken to through its topics, stopped and started again. */
final class SpringCases {
    private static final String BOOTSTRAP = System.getenv("CONVEYOR_BOOTSTRAP");
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36);
    private static int names;

    private SpringCases() {}

    static void addTo(Map<String, SpringMain.Body> cases) {
        for (String encoding : List.of("BINARY", "STRUCTURED")) {
            cases.put("events-handled-once-" + encoding.toLowerCase(), () -> handledOnce(encoding));
        }
        cases.put("dead-letters", SpringCases::deadLetters);
        cases.put("not-acknowledged-comes-again", SpringCases::notAcknowledged);
        cases.put("different-subscriptions-in-one-group", SpringCases::differentSubscriptions);
        cases.put("batch-listener", SpringCases::batchListener);
        cases.put("topics-by-kafka-admin", SpringCases::topics);
        cases.put("transaction", SpringCases::transaction);
    }

    private static String prefix() {
        return "spring-" + RUN + "-" + ++names + "-";
    }

    private static ConfigurableApplicationContext start(String prefix, Object... more) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.ofEntries(
                Map.entry("warehouse.prefix", prefix),
                Map.entry("warehouse.partitions", "6"),
                Map.entry("spring.main.banner-mode", "off"),
                Map.entry("logging.level.root", "WARN"),
                Map.entry("spring.kafka.bootstrap-servers", BOOTSTRAP),
                Map.entry("spring.kafka.admin.modify-topic-configs", "true"),
                Map.entry("spring.kafka.admin.fail-fast", "true"),
                Map.entry("spring.kafka.producer.acks", "all"),
                Map.entry("spring.kafka.producer.compression-type", "snappy"),
                Map.entry("spring.kafka.producer.value-serializer", "io.cloudevents.kafka.CloudEventSerializer"),
                Map.entry("spring.kafka.producer.properties.enable.idempotence", "true"),
                Map.entry("spring.kafka.producer.properties.linger.ms", "10"),
                Map.entry("spring.kafka.producer.properties.max.in.flight.requests.per.connection", "5"),
                Map.entry("spring.kafka.producer.properties.delivery.timeout.ms", "120000"),
                Map.entry("spring.kafka.consumer.auto-offset-reset", "earliest"),
                Map.entry("spring.kafka.consumer.enable-auto-commit", "false"),
                Map.entry("spring.kafka.consumer.key-deserializer", StringDeserializer.class.getName()),
                Map.entry("spring.kafka.consumer.value-deserializer",
                        "org.springframework.kafka.support.serializer.ErrorHandlingDeserializer"),
                Map.entry("spring.kafka.consumer.properties.spring.deserializer.value.delegate.class",
                        "io.cloudevents.kafka.CloudEventDeserializer"),
                Map.entry("spring.kafka.consumer.properties.isolation.level", "read_committed"),
                Map.entry("spring.kafka.consumer.properties.heartbeat.interval.ms", "300"),
                Map.entry("spring.kafka.consumer.properties.fetch.max.wait.ms", "200")));
        for (int i = 0; i < more.length; i += 2) {
            settings.put((String) more[i], more[i + 1]);
        }
        ConfigurableApplicationContext context =
                new SpringApplicationBuilder(Warehouse.class).web(WebApplicationType.NONE).properties(settings).run();
        untilAssigned(context);
        return context;
    }

    /** Every consumer of every listener has its partitions, and every partition its leader. */
    private static void untilAssigned(ConfigurableApplicationContext context) throws Exception {
        KafkaListenerEndpointRegistry registry = context.getBean(KafkaListenerEndpointRegistry.class);
        Set<TopicPartition> partitions = new HashSet<>();
        for (MessageListenerContainer container : registry.getListenerContainers()) {
            for (var one : ((ConcurrentMessageListenerContainer<?, ?>) container).getContainers()) {
                eventually("an assignment of " + one.getListenerId(), () -> {
                    var assigned = one.getAssignedPartitions();
                    return assigned != null && !assigned.isEmpty();
                });
                partitions.addAll(one.getAssignedPartitions());
            }
        }
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        partitions.forEach(p -> ends.put(p, OffsetSpec.latest()));
        try (Admin admin = admin()) {
            admin.listOffsets(ends).all().get(30, TimeUnit.SECONDS);
        }
    }

    @SuppressWarnings("unchecked")
    private static <V> KafkaTemplate<String, V> template(ConfigurableApplicationContext context, String name) {
        return context.getBean(name, KafkaTemplate.class);
    }

    private static CloudEvent event(String subject) {
        String data = "{\"sku\":\"" + subject + "\",\"quantity\":1}";
        return CloudEventBuilder.v1().withId(subject + "-id").withSource(URI.create("/fulfillment/inventory-service"))
                .withType("com.paklog.inventory.stock.level.changed.v1").withSubject(subject)
                .withData("application/json", data.getBytes(StandardCharsets.UTF_8)).build();
    }

    private static void send(ConfigurableApplicationContext context, String topic, List<String> subjects)
            throws Exception {
        KafkaTemplate<String, CloudEvent> template = template(context, "template");
        List<java.util.concurrent.CompletableFuture<?>> sent = new ArrayList<>();
        for (String subject : subjects) {
            sent.add(template.send(topic, subject, event(subject)));
        }
        template.flush();
        for (var one : sent) {
            one.get(30, TimeUnit.SECONDS);
        }
    }

    private static List<String> subjects(String prefix, int count) {
        List<String> subjects = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            subjects.add(prefix + i);
        }
        return subjects;
    }

    private static void check(boolean condition, String expectation) {
        if (!condition) {
            throw new AssertionError("expected: " + expectation);
        }
    }

    private static void eventually(String expectation, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < deadline, "within 30 s: " + expectation);
            Thread.sleep(50);
        }
    }

    private static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));
    }

    /** The offsets that a group has committed for a topic, added up. */
    private static long committed(String group, String topic) {
        try (Admin admin = admin()) {
            Map<TopicPartition, OffsetAndMetadata> offsets =
                    admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            return offsets.entrySet().stream().filter(e -> e.getKey().topic().equals(topic) && e.getValue() != null)
                    .mapToLong(e -> e.getValue().offset()).sum();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void handledOnce(String encoding) throws Exception {
        String prefix = prefix();
        String topic = prefix + "inventory-events";
        List<String> expected = subjects("SKU-", 200);
        Object[] settings = {
            "spring.kafka.producer.properties.cloudevents.serializer.encoding", encoding,
            "spring.kafka.producer.properties.cloudevents.serializer.event_format", "application/cloudevents+json"};
        try (ConfigurableApplicationContext context = start(prefix, settings)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            send(context, topic, expected);
            eventually("200 events handled", () -> warehouse.handled.size() == 200);
            check(warehouse.handled.values().stream().allMatch(n -> n.get() == 1), "each event once");
            check(warehouse.threads.size() == 3, "three consumers at work, found " + warehouse.threads.keySet());
            eventually("200 committed", () -> committed(prefix + "inventory-service-group", topic) == 200);
        }
        // The service again: nothing comes twice, new events do come.
        try (ConfigurableApplicationContext context = start(prefix, settings)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            send(context, topic, List.of("SKU-new"));
            eventually("the new event", () -> warehouse.handled.containsKey("SKU-new"));
            check(warehouse.handled.size() == 1, "only the new event, found " + warehouse.handled.keySet());
        }
    }

    private static void deadLetters() throws Exception {
        String prefix = prefix();
        String topic = prefix + "inventory-events";
        try (ConfigurableApplicationContext context = start(prefix)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            KafkaTemplate<String, byte[]> bytes = template(context, "bytes");
            bytes.send(topic, "poison", "no event at all".getBytes(StandardCharsets.UTF_8)).get(30, TimeUnit.SECONDS);
            send(context, topic, List.of("FAILS-1", "SKU-1", "SKU-2"));
            eventually("two events handled", () -> warehouse.handled.size() == 2);
            eventually("two dead letters", () -> warehouse.dead.size() == 2);
            check(warehouse.failures.get() == 3, "three attempts, found " + warehouse.failures.get());
            Set<String> keys = new HashSet<>();
            for (ConsumerRecord<String, byte[]> record : warehouse.dead) {
                keys.add(record.key());
                check(header(record, "kafka_dlt-original-topic").equals(topic), "the original topic in a header");
                check(record.headers().lastHeader("kafka_dlt-original-offset").value().length == 8, "its offset");
                check(!header(record, "kafka_dlt-exception-message").isEmpty(), "the reason");
            }
            check(keys.equals(Set.of("poison", "FAILS-1")), "keys of the failed records, found " + keys);
            eventually("all four are committed", () -> committed(prefix + "inventory-service-group", topic) == 4);
        }
    }

    private static String header(ConsumerRecord<?, ?> record, String name) {
        Header header = record.headers().lastHeader(name);
        check(header != null, "a header " + name);
        return new String(header.value(), StandardCharsets.UTF_8);
    }

    private static void notAcknowledged() throws Exception {
        String prefix = prefix();
        String topic = prefix + "inventory-events";
        try (ConfigurableApplicationContext context = start(prefix)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            warehouse.unacknowledged.put("SKU-later", true);
            send(context, topic, List.of("SKU-now"));
            eventually("the first event", () -> warehouse.handled.containsKey("SKU-now"));
            send(context, topic, List.of("SKU-later"));
            Thread.sleep(500);
            check(!warehouse.handled.containsKey("SKU-later"), "not handled yet");
        }
        try (ConfigurableApplicationContext context = start(prefix)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            eventually("it comes again", () -> warehouse.handled.containsKey("SKU-later"));
            check(!warehouse.handled.containsKey("SKU-now"), "what was acknowledged does not");
        }
    }

    private static void differentSubscriptions() throws Exception {
        String prefix = prefix();
        try (ConfigurableApplicationContext context = start(prefix)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            send(context, prefix + "order-events", subjects("O-", 60));
            send(context, prefix + "wave-events", subjects("W-", 60));
            eventually("120 events", () -> warehouse.handled.size() == 120);
            check(warehouse.handled.values().stream().allMatch(n -> n.get() == 1), "each event once");
            check(warehouse.handled.keySet().stream()
                    .allMatch(s -> s.startsWith("order O-") || s.startsWith("wave W-")), "each at its listener");
        }
    }

    /** A task as the JSON serializer writes it, with a type header. */
    record Task(String task_id, String task_type, int priority) {}

    private static void batchListener() throws Exception {
        String prefix = prefix();
        String topic = prefix + "task-events";
        try (ConfigurableApplicationContext context = start(prefix)) {
            Warehouse warehouse = context.getBean(Warehouse.class);
            KafkaTemplate<String, Object> json = template(context, "json");
            for (int i = 0; i < 500; i++) {
                json.send(topic, "TASK-" + i, new Task("TASK-" + i, "PICK", i));
            }
            json.flush();
            eventually("500 tasks", () -> warehouse.tasks.size() == 500);
            Set<String> ids = new HashSet<>();
            for (JsonNode task : warehouse.tasks) {
                ids.add(task.get("task_id").asText());
            }
            check(ids.size() == 500, "500 different tasks, found " + ids.size());
            check(warehouse.batches.stream().allMatch(size -> size <= 100), "batches of at most 100");
            check(warehouse.batches.stream().anyMatch(size -> size > 1), "batches of more than one");
            eventually("500 committed", () -> committed(prefix + "task-execution-service", topic) == 500);
        }
    }

    private static void topics() throws Exception {
        String prefix = prefix();
        start(prefix).close();
        try (Admin admin = admin()) {
            check(partitions(admin, prefix + "order-events") == 6, "6 partitions");
            check(partitions(admin, prefix + "product-catalog") == 3, "3 partitions");
            // A service that asks for more grows the topic.
            start(prefix, "warehouse.partitions", "8").close();
            eventually("8 partitions", () -> partitions(admin, prefix + "order-events") == 8);
        }
    }

    private static int partitions(Admin admin, String topic) {
        try {
            TopicDescription found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            return found.partitions().size();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void transaction() throws Exception {
        String prefix = prefix();
        String topic = prefix + "order-events";
        try (ConfigurableApplicationContext context = start(prefix)) {
            KafkaTemplate<String, String> template = template(context, "transactional");
            template.executeInTransaction(t -> t.send(topic, "k", "committed"));
            try {
                template.executeInTransaction(t -> {
                    t.send(topic, "k", "aborted");
                    t.flush();
                    throw new IllegalStateException("on purpose");
                });
                check(false, "the exception comes out of the transaction");
            } catch (IllegalStateException expected) {
                check(expected.getMessage().equals("on purpose"), "our exception, found " + expected);
            }
            template.executeInTransaction(t -> t.send(topic, "k", "committed too"));
        }
        Map<String, Object> settings = Map.of("bootstrap.servers", BOOTSTRAP, "isolation.level", "read_committed",
                "auto.offset.reset", "earliest", "group.id", prefix + "reader");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            List<String> values = new ArrayList<>();
            eventually("two values", () -> {
                consumer.poll(Duration.ofMillis(200)).forEach(r -> values.add(r.value()));
                return values.size() >= 2;
            });
            check(values.equals(List.of("committed", "committed too")), "committed values, found " + values);
        }
    }
}
