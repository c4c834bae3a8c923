import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** Consumer groups: the cases that hold for the classic protocol and for the newer one alike. */
final class GroupCases {
    private final String protocol;
    private final Object[] settings;

    /** @param settings what every member of these cases has, as pairs */
    private GroupCases(String protocol, Object... settings) {
        this.protocol = protocol;
        this.settings = settings;
    }

    /** The cases with the classic protocol. */
    static void addClassic(Suite suite) {
        String assignors = "org.apache.kafka.clients.consumer.";
        for (String assignor : List.of("Range", "RoundRobin", "Sticky", "CooperativeSticky")) {
            GroupCases cases = new GroupCases("classic", "session.timeout.ms", "10000", "heartbeat.interval.ms", "300",
                    "partition.assignment.strategy", assignors + assignor + "Assignor");
            suite.add("group-classic/three-members-" + assignor, cases::threeMembers);
        }
        new GroupCases("classic", "session.timeout.ms", "10000", "heartbeat.interval.ms", "300").addTo(suite);
    }

    /** The cases with the protocol of KIP-848. */
    static void addConsumer(Suite suite) {
        for (String assignor : List.of("uniform", "range")) {
            GroupCases cases = new GroupCases("consumer",
                    "group.protocol", "consumer", "group.remote.assignor", assignor);
            suite.add("group-consumer/three-members-" + assignor, cases::threeMembers);
        }
        GroupCases newer = new GroupCases("consumer", "group.protocol", "consumer");
        newer.addTo(suite);
        for (String assignor : List.of("Range", "CooperativeSticky")) {
            GroupCases classic = new GroupCases("classic", "session.timeout.ms", "10000", "heartbeat.interval.ms", "300",
                    "partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer." + assignor + "Assignor");
            suite.add("group-rolled/nothing-lost-from-classic-to-consumer-and-back-" + assignor,
                    () -> rolled(classic, newer));
        }
    }

    private void addTo(Suite suite) {
        String prefix = "group-" + protocol + "/";
        suite.add(prefix + "commit-with-metadata", this::commit);
        suite.add(prefix + "auto-commit", this::autoCommit);
        suite.add(prefix + "resume-after-restart", this::resume);
        suite.add(prefix + "pattern", this::pattern);
        suite.add(prefix + "different-subscriptions", this::differentSubscriptions);
        suite.add(prefix + "static-member", this::staticMember);
        suite.add(prefix + "fenced-instance", this::fencedInstance);
        suite.add(prefix + "slow-member-is-replaced", this::slowMember);
        suite.add(prefix + "nothing-lost-while-members-change", this::membersChange);
        suite.add(prefix + "two-groups", this::twoGroups);
        suite.add(prefix + "new-partitions", this::newPartitions);
    }

    private Consumer<String, String> member(String group, Object... more) {
        Object[] all = Stream.concat(Stream.of(settings), Stream.of(more)).toArray();
        return Cluster.member(group, all);
    }

    /** A member on a thread of its own that polls until it is told to stop. */
    private final class Member implements AutoCloseable {
        final Consumer<String, String> consumer;
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final ConcurrentLinkedQueue<ConsumerRecord<String, String>> records = new ConcurrentLinkedQueue<>();
        private final Thread thread;
        private volatile boolean stop;
        volatile Throwable failure;

        Member(String group, Collection<String> topics, Object... more) {
            consumer = member(group, more);
            thread = new Thread(() -> run(topics), group + "-member");
            thread.setDaemon(true);
            thread.start();
        }

        private void run(Collection<String> topics) {
            try (consumer) {
                consumer.subscribe(topics, new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                        // What was processed is committed before somebody else gets the partition.
                        consumer.commitSync();
                        owned.removeAll(partitions);
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                        owned.addAll(partitions);
                    }

                    @Override
                    public void onPartitionsLost(Collection<TopicPartition> partitions) {
                        owned.removeAll(partitions);
                    }
                });
                while (!stop) {
                    consumer.poll(Duration.ofMillis(50)).forEach(records::add);
                }
                commitToTheEnd();
            } catch (Throwable error) {
                failure = error;
            }
        }

        /** A member that keeps its partitions over a rebalance cannot commit before that is through. */
        private void commitToTheEnd() {
            for (int attempt = 0; attempt < 200; attempt++) {
                try {
                    consumer.commitSync();
                    return;
                } catch (RebalanceInProgressException underWay) {
                    consumer.poll(Duration.ofMillis(50)).forEach(records::add);
                }
            }
            throw new IllegalStateException("the rebalance does not end");
        }

        @Override
        public void close() throws InterruptedException {
            stop = true;
            thread.join(20_000);
            if (failure != null) {
                throw new AssertionError("a member failed: " + failure, failure);
            }
        }
    }

    /** Waits until these members own `sizes` partitions, all different. */
    private static void owned(List<Member> members, List<Integer> sizes) throws InterruptedException {
        int all = sizes.stream().mapToInt(Integer::intValue).sum();
        try {
            Suite.eventually(30, "members own " + sizes + " partitions", () -> {
                Set<TopicPartition> distinct = new HashSet<>();
                members.forEach(m -> distinct.addAll(m.owned));
                return members.stream().map(m -> m.owned.size()).sorted().toList().equals(sizes)
                        && distinct.size() == all;
            });
        } catch (AssertionError error) {
            throw new AssertionError(error.getMessage() + ", found "
                    + members.stream().map(m -> m.owned + (m.failure == null ? "" : " failed: " + m.failure)).toList());
        }
    }

    private void threeMembers() throws Exception {
        String topic = Cluster.topic(6);
        String group = Cluster.unique("group");
        Member first = new Member(group, List.of(topic));
        owned(List.of(first), List.of(6));
        Member second = new Member(group, List.of(topic));
        owned(List.of(first, second), List.of(3, 3));
        Member third = new Member(group, List.of(topic));
        owned(List.of(first, second, third), List.of(2, 2, 2));
        Cluster.send(topic, "v", 600);
        List<Member> members = List.of(first, second, third);
        Suite.eventually(20, "600 records among the members",
                () -> members.stream().mapToInt(m -> m.records.size()).sum() == 600);
        for (Member member : members) {
            Suite.check(!member.records.isEmpty(), "every member got records");
        }
        first.close();
        owned(List.of(second, third), List.of(3, 3));
        Cluster.send(topic, "w", 60);
        Suite.eventually(20, "60 more records", () -> members.stream().mapToInt(m -> m.records.size()).sum() == 660);
        second.close();
        owned(List.of(third), List.of(6));
        third.close();
        Set<String> values = new HashSet<>();
        members.forEach(m -> m.records.forEach(r -> values.add(r.value())));
        Suite.equal(660, values.size(), "different values: nothing twice, nothing lost");
    }

    private void commit() throws Exception {
        String topic = Cluster.topic(2);
        String group = Cluster.unique("group");
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        try (Consumer<String, String> consumer = member(group)) {
            consumer.subscribe(List.of(topic));
            Suite.eventually(20, "an assignment", () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
            Suite.equal(null, consumer.committed(Set.of(first)).get(first), "committed before any commit");
            consumer.commitSync(Map.of(first, new OffsetAndMetadata(7, "checked by ä")));
            CountDownLatch done = new CountDownLatch(1);
            Exception[] failure = new Exception[1];
            consumer.commitAsync(Map.of(second, new OffsetAndMetadata(9)), (offsets, error) -> {
                failure[0] = error;
                done.countDown();
            });
            Suite.eventually(10, "the callback of an asynchronous commit", () -> {
                consumer.poll(Duration.ofMillis(50));
                return done.getCount() == 0;
            });
            Suite.equal(null, failure[0], "error of the asynchronous commit");
            consumer.commitSync(Map.of(second, new OffsetAndMetadata(11)));
        }
        try (Consumer<String, String> consumer = member(group)) {
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.of(first, second));
            Suite.equal(new OffsetAndMetadata(7, "checked by ä"), committed.get(first), "committed with metadata");
            Suite.equal(11L, committed.get(second).offset(), "the later commit");
        }
    }

    private void autoCommit() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 50);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Consumer<String, String> consumer =
                member(group, "enable.auto.commit", "true", "auto.commit.interval.ms", "300")) {
            consumer.subscribe(List.of(topic));
            Cluster.poll(consumer, 50);
            Suite.eventually(15, "50 committed by the interval", () -> {
                consumer.poll(Duration.ofMillis(100));
                OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
                return committed != null && committed.offset() == 50;
            });
            Cluster.send(topic, "w", 5);
            Cluster.poll(consumer, 5);
        }
        try (Consumer<String, String> consumer = member(group)) {
            Suite.equal(55L, consumer.committed(Set.of(partition)).get(partition).offset(), "committed by close");
        }
    }

    private void resume() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 100);
        List<String> values = new ArrayList<>();
        for (int round = 0; round < 4; round++) {
            try (Consumer<String, String> consumer = member(group, "max.poll.records", "25")) {
                consumer.subscribe(List.of(topic));
                values.addAll(Cluster.values(Cluster.poll(consumer, 25)));
                consumer.commitSync();
            }
        }
        Suite.equal(Cluster.expected("v", 100), Cluster.sorted(values), "values over four runs");
    }

    private void pattern() throws Exception {
        String name = Cluster.unique("pattern");
        Cluster.create(name + ".a", 1);
        Cluster.send(name + ".a", "a", 1);
        Cluster.create("not-" + name + ".c", 1);
        try (Consumer<String, String> consumer = member(Cluster.unique("group"), "metadata.max.age.ms", "1000")) {
            consumer.subscribe(Pattern.compile(Pattern.quote(name) + "\\..*"));
            Suite.equal(List.of("a0"), Cluster.values(Cluster.poll(consumer, 1)), "values");
            consumer.commitSync();
            Cluster.create(name + ".b", 1);
            Cluster.send(name + ".b", "b", 1);
            Suite.equal(List.of("b0"), Cluster.values(Cluster.poll(consumer, 1)), "values of a topic made later");
            Suite.equal(Set.of(name + ".a", name + ".b"), consumer.subscription(), "subscription");
        }
    }

    private void differentSubscriptions() throws Exception {
        String orders = Cluster.topic(4);
        String inventory = Cluster.topic(2);
        String group = Cluster.unique("group");
        List<Member> members = List.of(
                new Member(group, List.of(orders)), new Member(group, List.of(orders)),
                new Member(group, List.of(inventory)), new Member(group, List.of(inventory)));
        Cluster.send(orders, "order", 100);
        Cluster.send(inventory, "stock", 100);
        owned(members, List.of(1, 1, 2, 2));
        Suite.eventually(20, "200 records", () -> {
            Set<String> values = new HashSet<>();
            members.forEach(m -> m.records.forEach(r -> values.add(r.value())));
            return values.size() == 200;
        });
        for (Member member : members.subList(0, 2)) {
            Suite.check(member.records.stream().allMatch(r -> r.topic().equals(orders)), "orders only");
        }
        for (Member member : members.subList(2, 4)) {
            Suite.check(member.records.stream().allMatch(r -> r.topic().equals(inventory)), "inventory only");
        }
        for (Member member : members) {
            member.close();
        }
    }

    private void staticMember() throws Exception {
        String topic = Cluster.topic(4);
        String group = Cluster.unique("group");
        Member stays = new Member(group, List.of(topic), "group.instance.id", "stays");
        owned(List.of(stays), List.of(4));
        Member restarts = new Member(group, List.of(topic), "group.instance.id", "restarts");
        owned(List.of(stays, restarts), List.of(2, 2));
        Set<TopicPartition> before = new HashSet<>(restarts.owned);
        Set<TopicPartition> untouched = new HashSet<>(stays.owned);
        restarts.close();
        Thread.sleep(1500);
        Suite.equal(untouched, new HashSet<>(stays.owned), "the other member's partitions while one restarts");
        Member again = new Member(group, List.of(topic), "group.instance.id", "restarts");
        owned(List.of(stays, again), List.of(2, 2));
        Suite.equal(before, new HashSet<>(again.owned), "partitions of the static member after its restart");
        again.close();
        stays.close();
    }

    private void fencedInstance() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 1);
        Consumer<String, String> first = member(group, "group.instance.id", "same");
        first.subscribe(List.of(topic));
        Cluster.poll(first, 1);
        Member second = new Member(group, List.of(topic), "group.instance.id", "same");
        if (protocol.equals("classic")) {
            Suite.fails(FencedInstanceIdException.class, () -> {
                for (int i = 0; i < 100; i++) {
                    first.poll(Duration.ofMillis(100));
                    first.commitSync();
                }
            });
            Suite.eventually(15, "the second owns the partition", () -> second.owned.size() == 1);
        } else {
            // The newer protocol keeps the member that is there.
            Suite.eventually(15, "the second is refused", () -> second.failure != null);
            Suite.equal("UnreleasedInstanceIdException", second.failure.getClass().getSimpleName(), "refusal");
            second.failure = null;
        }
        second.close();
        first.close();
    }

    private void slowMember() throws Exception {
        String topic = Cluster.topic(2);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 20);
        Consumer<String, String> slow = member(group, "max.poll.interval.ms", "2000", "max.poll.records", "1");
        slow.subscribe(List.of(topic));
        Cluster.poll(slow, 1);
        // It polls no more: its client leaves the group, and another member gets everything.
        try (Member other = new Member(group, List.of(topic))) {
            owned(List.of(other), List.of(2));
            Suite.eventually(15, "all 20 records at the other member", () -> other.records.size() == 20);
            Suite.fails(CommitFailedException.class, () -> slow.commitSync(
                    Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1))));
        }
        slow.close();
    }

    private void membersChange() throws Exception {
        Map<String, Integer> times = readWhileMembersChange(Cluster.unique("group"), Collections.nCopies(6, this));
        // Everything is committed before a partition changes hands.
        Suite.equal(List.of(), times.entrySet().stream().filter(e -> e.getValue() > 1).limit(5).toList(), "values twice");
    }

    /** An application is rolled from the classic protocol to the newer one, and back, while it reads. */
    private static void rolled(GroupCases classic, GroupCases newer) throws Exception {
        String group = Cluster.unique("group");
        readWhileMembersChange(group,
                List.of(classic, classic, classic, newer, newer, newer, classic, classic, classic));
    }

    /** Members come and go, never more than three, while records arrive; how often each was read. */
    private static Map<String, Integer> readWhileMembersChange(String group, List<GroupCases> kinds)
            throws Exception {
        String topic = Cluster.topic(6);
        int parts = kinds.size() * 6;
        int count = parts * 100;
        Thread sender = new Thread(() -> {
            try {
                for (int part = 0; part < parts; part++) {
                    Cluster.send(topic, "v" + part + "-", 100);
                    Thread.sleep(100);
                }
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
        sender.start();
        List<Member> all = new ArrayList<>();
        List<Member> running = new ArrayList<>();
        for (GroupCases kind : kinds) {
            Member member = kind.new Member(group, List.of(topic));
            all.add(member);
            running.add(member);
            Thread.sleep(700);
            if (running.size() == 3) {
                running.remove(0).close();
            }
        }
        sender.join();
        Set<String> found = new HashSet<>();
        Suite.eventually(40, count + " different records", () -> {
            all.forEach(m -> m.records.forEach(r -> found.add(r.value())));
            return found.size() == count;
        });
        for (Member member : running) {
            member.close();
        }
        Map<String, Integer> times = new HashMap<>();
        all.forEach(m -> m.records.forEach(r -> times.merge(r.value(), 1, Integer::sum)));
        return times;
    }

    private void twoGroups() throws Exception {
        String topic = Cluster.topic(2);
        try (Member one = new Member(Cluster.unique("group"), List.of(topic));
                Member two = new Member(Cluster.unique("group"), List.of(topic))) {
            Cluster.send(topic, "v", 100);
            for (Member member : List.of(one, two)) {
                Suite.eventually(20, "100 records in each group", () -> member.records.size() == 100);
            }
        }
    }

    private void newPartitions() throws Exception {
        String topic = Cluster.topic(1);
        try (Member member = new Member(Cluster.unique("group"), List.of(topic), "metadata.max.age.ms", "500");
                org.apache.kafka.clients.admin.Admin admin = Cluster.admin()) {
            owned(List.of(member), List.of(1));
            admin.createPartitions(Map.of(topic, org.apache.kafka.clients.admin.NewPartitions.increaseTo(4))).all().get();
            owned(List.of(member), List.of(4));
            TreeSet<Integer> partitions = new TreeSet<>();
            member.owned.forEach(p -> partitions.add(p.partition()));
            Suite.equal(new TreeSet<>(List.of(0, 1, 2, 3)), partitions, "partitions");
        }
    }
}
