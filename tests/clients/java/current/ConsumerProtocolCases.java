import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** What only newer consumers do: patterns that the broker resolves, changing protocol, resets by age. */
final class ConsumerProtocolCases {
    private ConsumerProtocolCases() {}

    static void addTo(Suite suite) {
        GroupCases.addConsumer(suite);
        suite.add("group-consumer/pattern-of-the-broker", ConsumerProtocolCases::pattern);
        suite.add("group-consumer/pattern-that-is-none", ConsumerProtocolCases::invalidPattern);
        suite.add("group-consumer/unknown-assignor", ConsumerProtocolCases::unknownAssignor);
        suite.add("group-consumer/empty-group-changes-protocol", ConsumerProtocolCases::changeProtocol);
        suite.add("consume/reset-by-duration", ConsumerProtocolCases::resetByDuration);
    }

    private static Consumer<String, String> member(String group, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        all[0] = "group.protocol";
        all[1] = "consumer";
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        return Cluster.member(group, all);
    }

    private static void pattern() throws Exception {
        String name = Cluster.unique("regex");
        Cluster.create(name + ".orders", 1);
        Cluster.send(name + ".orders", "a", 1);
        Cluster.create(name + ".other", 1);
        Cluster.send(name + ".other", "not this", 1);
        try (Consumer<String, String> consumer = member(Cluster.unique("group"), "metadata.max.age.ms", "1000")) {
            consumer.subscribe(new SubscriptionPattern(name + "\\.(orders|stock).*"));
            Suite.equal(List.of("a0"), Cluster.values(Cluster.poll(consumer, 1)), "values");
            consumer.commitSync();
            Cluster.create(name + ".stock-events", 2);
            Cluster.send(name + ".stock-events", "b", 1);
            Suite.equal(List.of("b0"), Cluster.values(Cluster.poll(consumer, 1)), "values of a topic made later");
            Set<String> topics = new HashSet<>();
            consumer.assignment().forEach(p -> topics.add(p.topic()));
            Suite.equal(Set.of(name + ".orders", name + ".stock-events"), topics, "topics");
        }
    }

    private static void invalidPattern() {
        try (Consumer<String, String> consumer = member(Cluster.unique("group"))) {
            consumer.subscribe(new SubscriptionPattern("(unclosed"));
            Suite.fails(InvalidRegularExpression.class, () -> Cluster.poll(consumer, 1));
        }
    }

    private static void unknownAssignor() throws Exception {
        String topic = Cluster.topic(1);
        try (Consumer<String, String> consumer = member(Cluster.unique("group"), "group.remote.assignor", "nobody")) {
            consumer.subscribe(List.of(topic));
            Suite.fails(UnsupportedAssignorException.class, () -> Cluster.poll(consumer, 1));
        }
    }

    /** The same group with either protocol, one after the other: its offsets stay. */
    private static void changeProtocol() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Admin admin = Cluster.admin()) {
            int expected = 0;
            for (String protocol : List.of("classic", "consumer", "classic")) {
                Cluster.send(topic, protocol, 10);
                try (Consumer<String, String> consumer = Cluster.member(group, "group.protocol", protocol)) {
                    consumer.subscribe(List.of(topic));
                    Suite.equal(Cluster.expected(protocol, 10),
                            Cluster.sorted(Cluster.values(Cluster.poll(consumer, 10))), "values of " + protocol);
                    consumer.commitSync();
                    ConsumerGroupDescription description =
                            admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                    Suite.equal(GroupType.parse(protocol), description.type(), "type");
                    expected += 10;
                    Suite.equal((long) expected, consumer.committed(Set.of(partition)).get(partition).offset(), "committed");
                }
                Suite.eventually(10, "the group is empty", () -> {
                    try {
                        return admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty();
                    } catch (Exception error) {
                        throw new IllegalStateException(error);
                    }
                });
            }
        }
    }

    private static void resetByDuration() throws Exception {
        String topic = Cluster.topic(1);
        long now = System.currentTimeMillis();
        try (Producer<String, String> producer = Cluster.producer()) {
            for (int hours = 5; hours >= 1; hours--) {
                producer.send(new ProducerRecord<>(topic, 0, now - hours * 3_600_000L, null, "-" + hours + "h"));
            }
        }
        try (Consumer<String, String> consumer = Cluster.member(Cluster.unique("group"),
                "auto.offset.reset", "by_duration:PT2H30M")) {
            consumer.subscribe(List.of(topic));
            Suite.equal(List.of("-2h", "-1h"), Cluster.values(Cluster.poll(consumer, 2)), "values of the last 2 h 30 min");
        }
    }
}
