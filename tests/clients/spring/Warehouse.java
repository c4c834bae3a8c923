package conveyor.clients.spring;

import com.fasterxml.jackson.databind.JsonNode;
import io.cloudevents.CloudEvent;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.support.Acknowledgment;

/**
 * A service as PakLog builds them: topics made by KafkaAdmin, CloudEvents out by an idempotent
 * producer, in by three consumers with manual acknowledgement, what fails to a dead-letter topic.
 */
@SpringBootApplication
public class Warehouse {
    /** Subjects of the events that the listener acknowledged, with how often each came. */
    final ConcurrentHashMap<String, AtomicInteger> handled = new ConcurrentHashMap<>();
    /** Attempts at events that always fail. */
    final AtomicInteger failures = new AtomicInteger();
    /** Threads that handled something. */
    final ConcurrentHashMap<String, Boolean> threads = new ConcurrentHashMap<>();
    /** What lies on the dead-letter topic. */
    final ConcurrentLinkedQueue<ConsumerRecord<String, byte[]>> dead = new ConcurrentLinkedQueue<>();
    /** Values of the batch listener. */
    final ConcurrentLinkedQueue<JsonNode> tasks = new ConcurrentLinkedQueue<>();
    /** Sizes of its batches. */
    final ConcurrentLinkedQueue<Integer> batches = new ConcurrentLinkedQueue<>();
    /** Subjects that shall not be acknowledged. */
    final ConcurrentHashMap<String, Boolean> unacknowledged = new ConcurrentHashMap<>();

    @KafkaListener(id = "${warehouse.prefix}inventory", containerFactory = "events",
            topics = "${warehouse.prefix}inventory-events", groupId = "${warehouse.prefix}inventory-service-group")
    void inventory(CloudEvent event, Acknowledgment acknowledgment) {
        String subject = event.getSubject();
        if (subject.startsWith("FAILS")) {
            failures.incrementAndGet();
            throw new IllegalStateException("no stock of " + subject);
        }
        if (unacknowledged.containsKey(subject)) {
            return;
        }
        threads.put(Thread.currentThread().getName(), true);
        handled.computeIfAbsent(subject, s -> new AtomicInteger()).incrementAndGet();
        acknowledgment.acknowledge();
    }

    // Two listeners of one group with different subscriptions, as wave planning has them.
    @KafkaListener(id = "${warehouse.prefix}orders", containerFactory = "events",
            topics = "${warehouse.prefix}order-events", groupId = "${warehouse.prefix}wave-planning-service")
    void orders(CloudEvent event, Acknowledgment acknowledgment) {
        handled.computeIfAbsent("order " + event.getSubject(), s -> new AtomicInteger()).incrementAndGet();
        acknowledgment.acknowledge();
    }

    @KafkaListener(id = "${warehouse.prefix}waves", containerFactory = "events",
            topics = "${warehouse.prefix}wave-events", groupId = "${warehouse.prefix}wave-planning-service")
    void waves(CloudEvent event, Acknowledgment acknowledgment) {
        handled.computeIfAbsent("wave " + event.getSubject(), s -> new AtomicInteger()).incrementAndGet();
        acknowledgment.acknowledge();
    }

    @KafkaListener(id = "${warehouse.prefix}tasks", topics = "${warehouse.prefix}task-events", batch = "true",
            containerFactory = "taskFactory", concurrency = "3", groupId = "${warehouse.prefix}task-execution-service",
            properties = {"max.poll.records=100", "session.timeout.ms=45000"})
    void tasks(List<ConsumerRecord<String, JsonNode>> records, Acknowledgment acknowledgment) {
        records.forEach(r -> tasks.add(r.value()));
        batches.add(records.size());
        acknowledgment.acknowledge();
    }

    @KafkaListener(id = "${warehouse.prefix}dead", topics = "${warehouse.prefix}inventory-events.DLT",
            containerFactory = "deadFactory", groupId = "${warehouse.prefix}dead-letters")
    void dead(ConsumerRecord<String, byte[]> record) {
        dead.add(record);
    }
}
