import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Administration of topics, their settings and what lies in them. */
final class AdminTopicCases {
    private AdminTopicCases() {}

    static void addTo(Suite suite) {
        suite.add("admin/create-and-describe-topic", AdminTopicCases::createAndDescribe);
        suite.add("admin/topic-that-cannot-be", AdminTopicCases::refusedTopics);
        suite.add("admin/delete-topic", AdminTopicCases::deleteTopic);
        suite.add("admin/create-partitions", AdminTopicCases::createPartitions);
        suite.add("admin/topic-settings", AdminTopicCases::topicSettings);
        suite.add("admin/alter-topic-settings", AdminTopicCases::alterTopicSettings);
        suite.add("admin/broker-settings", AdminTopicCases::brokerSettings);
        suite.add("admin/delete-records", AdminTopicCases::deleteRecords);
        suite.add("admin/list-offsets", AdminTopicCases::listOffsets);
        suite.add("admin/many-topics", AdminTopicCases::manyTopics);
    }

    private static void createAndDescribe() throws Exception {
        String name = Cluster.unique("topic");
        try (Admin admin = Cluster.admin()) {
            NewTopic topic = new NewTopic(name, 3, (short) 1)
                    .configs(Map.of("retention.ms", "60000", "min.insync.replicas", "1"));
            admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all().get();
            Suite.check(!admin.listTopics().names().get().contains(name), "validation alone makes no topic");
            CreateTopicsResult created = admin.createTopics(List.of(topic));
            Uuid id = created.topicId(name).get();
            Suite.equal(3, created.numPartitions(name).get(), "partitions in the answer");
            Suite.equal(1, created.replicationFactor(name).get(), "replication factor in the answer");
            Suite.equal("60000", created.config(name).get().get("retention.ms").value(), "setting in the answer");
            Suite.eventually(10, "the topic is listed", () -> {
                try {
                    return admin.listTopics().names().get().contains(name);
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            TopicDescription byName = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
            Suite.equal(id, byName.topicId(), "topic id");
            Suite.equal(3, byName.partitions().size(), "partitions");
            Suite.check(!byName.isInternal(), "not internal");
            byName.partitions().forEach(p -> {
                Suite.check(p.leader() != null, "a leader");
                Suite.equal(1, p.replicas().size(), "replicas");
                Suite.equal(1, p.isr().size(), "replicas in sync");
            });
            TopicDescription byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(id)))
                    .allTopicIds().get().get(id);
            Suite.equal(name, byId.name(), "name of the topic with this id");
            String defaults = Cluster.unique("topic");
            CreateTopicsResult withDefaults =
                    admin.createTopics(List.of(new NewTopic(defaults, Optional.empty(), Optional.empty())));
            Suite.check(withDefaults.numPartitions(defaults).get() >= 1, "partitions as the broker's default says");
        }
    }

    private static void refusedTopics() throws Exception {
        String existing = Cluster.topic(1);
        try (Admin admin = Cluster.admin()) {
            Suite.fails(TopicExistsException.class, () -> create(admin, new NewTopic(existing, 1, (short) 1)));
            Suite.fails(InvalidPartitionsException.class,
                    () -> create(admin, new NewTopic(Cluster.unique("t"), 0, (short) 1)));
            Suite.fails(InvalidReplicationFactorException.class,
                    () -> create(admin, new NewTopic(Cluster.unique("t"), 1, (short) 5)));
            Suite.fails(InvalidTopicException.class, () -> create(admin, new NewTopic("no spaces", 1, (short) 1)));
            Suite.fails(InvalidTopicException.class, () -> create(admin, new NewTopic("x".repeat(250), 1, (short) 1)));
            Suite.fails(InvalidConfigurationException.class, () -> create(admin,
                    new NewTopic(Cluster.unique("t"), 1, (short) 1).configs(Map.of("no.such.setting", "1"))));
            Suite.fails(InvalidConfigurationException.class, () -> create(admin,
                    new NewTopic(Cluster.unique("t"), 1, (short) 1).configs(Map.of("retention.ms", "soon"))));
            // One that is refused does not keep the others from being made.
            String good = Cluster.unique("good");
            CreateTopicsResult both = admin.createTopics(
                    List.of(new NewTopic(good, 1, (short) 1), new NewTopic(existing, 1, (short) 1)));
            both.values().get(good).get();
            Suite.fails(TopicExistsException.class, () -> both.values().get(existing).get());
            Suite.fails(UnknownTopicOrPartitionException.class,
                    () -> admin.describeTopics(List.of(Cluster.unique("nothing"))).allTopicNames().get());
        }
    }

    private static void create(Admin admin, NewTopic topic) throws Exception {
        admin.createTopics(List.of(topic)).all().get();
    }

    private static void deleteTopic() throws Exception {
        String first = Cluster.topic(2);
        String second = Cluster.topic(2);
        Cluster.send(first, "old", 5);
        try (Admin admin = Cluster.admin()) {
            Uuid id = admin.describeTopics(List.of(second)).allTopicNames().get().get(second).topicId();
            Uuid before = admin.describeTopics(List.of(first)).allTopicNames().get().get(first).topicId();
            admin.deleteTopics(List.of(first)).all().get();
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
            Suite.eventually(10, "neither is listed any more", () -> {
                try {
                    Set<String> names = admin.listTopics().names().get();
                    return !names.contains(first) && !names.contains(second);
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            Suite.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(first)).all().get());
            Cluster.create(first, 1);
            Uuid after = admin.describeTopics(List.of(first)).allTopicNames().get().get(first).topicId();
            Suite.check(!before.equals(after), "a topic made again has another id");
            Suite.equal(0, Cluster.readAll(first).size(), "records of the topic made again");
        }
    }

    private static void createPartitions() throws Exception {
        String topic = Cluster.topic(2);
        try (Admin admin = Cluster.admin()) {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            Suite.eventually(10, "five partitions", () -> {
                try {
                    return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 5;
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            Suite.fails(InvalidPartitionsException.class,
                    () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
            Suite.fails(InvalidPartitionsException.class,
                    () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get());
            Suite.fails(UnknownTopicOrPartitionException.class, () -> admin.createPartitions(
                    Map.of(Cluster.unique("nothing"), NewPartitions.increaseTo(3))).all().get());
        }
    }

    private static Config describe(Admin admin, ConfigResource resource) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    private static void topicSettings() throws Exception {
        String topic = Cluster.topic(1, "cleanup.policy", "compact");
        try (Admin admin = Cluster.admin()) {
            Config config = describe(admin, new ConfigResource(ConfigResource.Type.TOPIC, topic));
            for (String name : List.of("cleanup.policy", "compression.type", "delete.retention.ms", "file.delete.delay.ms",
                    "flush.messages", "flush.ms", "index.interval.bytes", "max.compaction.lag.ms", "max.message.bytes",
                    "message.timestamp.type", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms",
                    "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
                    "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms",
                    "segment.ms", "unclean.leader.election.enable")) {
                ConfigEntry entry = config.get(name);
                Suite.check(entry != null, "a setting " + name);
                Suite.check(entry.documentation() != null && !entry.documentation().isEmpty(), "documentation of " + name);
                Suite.check(entry.type() != ConfigEntry.ConfigType.UNKNOWN, "a type of " + name);
            }
            ConfigEntry policy = config.get("cleanup.policy");
            Suite.equal("compact", policy.value(), "cleanup.policy");
            Suite.equal(ConfigSource.DYNAMIC_TOPIC_CONFIG, policy.source(), "its source");
            Suite.check(policy.synonyms().stream().anyMatch(s -> s.source() == ConfigSource.DEFAULT_CONFIG),
                    "its synonyms end with the default");
            ConfigEntry retention = config.get("retention.ms");
            Suite.equal("604800000", retention.value(), "retention.ms");
            Suite.check(retention.isDefault(), "retention.ms is a default");
        }
    }

    private static void alterTopicSettings() throws Exception {
        String topic = Cluster.topic(1);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = Cluster.admin()) {
            alter(admin, resource, "retention.ms", "1234567", OpType.SET);
            alter(admin, resource, "cleanup.policy", "compact", OpType.APPEND);
            eventuallyValue(admin, resource, "retention.ms", "1234567");
            Config config = describe(admin, resource);
            Suite.equal(Set.of("compact", "delete"), Set.of(config.get("cleanup.policy").value().split(",")), "appended");
            alter(admin, resource, "cleanup.policy", "delete", OpType.SUBTRACT);
            eventuallyValue(admin, resource, "cleanup.policy", "compact");
            alter(admin, resource, "retention.ms", "", OpType.DELETE);
            eventuallyValue(admin, resource, "retention.ms", "604800000");
            Suite.fails(InvalidConfigurationException.class,
                    () -> alter(admin, resource, "retention.ms", "soon", OpType.SET));
            Suite.fails(InvalidConfigurationException.class,
                    () -> alter(admin, resource, "no.such.setting", "1", OpType.SET));
            Suite.fails(UnknownTopicOrPartitionException.class, () -> alter(admin,
                    new ConfigResource(ConfigResource.Type.TOPIC, Cluster.unique("nothing")), "retention.ms", "1", OpType.SET));
        }
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value, OpType type)
            throws Exception {
        Collection<AlterConfigOp> operations = List.of(new AlterConfigOp(new ConfigEntry(name, value), type));
        admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
    }

    private static void eventuallyValue(Admin admin, ConfigResource resource, String name, String value)
            throws Exception {
        Suite.eventually(10, name + " is " + value, () -> {
            try {
                return describe(admin, resource).get(name).value().equals(value);
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
    }

    private static void brokerSettings() throws Exception {
        try (Admin admin = Cluster.admin()) {
            String node = admin.describeCluster().nodes().get().iterator().next().idString();
            Config config = describe(admin, new ConfigResource(ConfigResource.Type.BROKER, node));
            for (String name : List.of("listeners", "advertised.listeners", "log.dirs", "num.partitions",
                    "auto.create.topics.enable", "default.replication.factor", "log.retention.ms", "message.max.bytes",
                    "group.initial.rebalance.delay.ms", "offsets.retention.minutes", "transaction.max.timeout.ms")) {
                Suite.check(config.get(name) != null, "a setting " + name);
            }
        }
    }

    private static void deleteRecords() throws Exception {
        String topic = Cluster.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Cluster.send(topic, "v", 100);
        try (Admin admin = Cluster.admin(); Consumer<String, String> consumer = Cluster.consumer()) {
            long low = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(40)))
                    .lowWatermarks().get(partition).get().lowWatermark();
            Suite.equal(40L, low, "low watermark");
            Suite.equal(40L, consumer.beginningOffsets(List.of(partition)).get(partition), "beginning");
            consumer.assign(List.of(partition));
            consumer.seek(partition, 5);
            Suite.equal("v40", Cluster.poll(consumer, 1).get(0).value(), "first value: the reset goes to the beginning");
            Suite.fails(OffsetOutOfRangeException.class,
                    () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(1000))).all().get());
            // -1 stands for the high watermark.
            admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).all().get();
            Suite.equal(100L, consumer.beginningOffsets(List.of(partition)).get(partition), "beginning of an empty log");
        }
    }

    private static void listOffsets() throws Exception {
        String topic = Cluster.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long base = System.currentTimeMillis() - 100_000;
        try (Producer<String, String> producer = Cluster.producer("linger.ms", "20", "compression.type", "lz4")) {
            for (long offset : new long[] {0, 10, 30, 20}) {
                producer.send(new ProducerRecord<>(topic, 0, base + offset, null, "v"));
            }
        }
        try (Admin admin = Cluster.admin()) {
            Suite.equal(0L, offset(admin, partition, OffsetSpec.earliest()).offset(), "earliest");
            Suite.equal(4L, offset(admin, partition, OffsetSpec.latest()).offset(), "latest");
            ListOffsetsResultInfo newest = offset(admin, partition, OffsetSpec.maxTimestamp());
            Suite.equal(2L, newest.offset(), "offset of the newest timestamp");
            Suite.equal(base + 30, newest.timestamp(), "the newest timestamp");
            Suite.equal(1L, offset(admin, partition, OffsetSpec.forTimestamp(base + 5)).offset(), "at a time");
            Suite.equal(-1L, offset(admin, partition, OffsetSpec.forTimestamp(base + 31)).offset(), "after the last");
            Suite.equal(0L, offset(admin, partition, OffsetSpec.earliestLocal()).offset(), "earliest on this node");
            Suite.equal(-1L, offset(admin, partition, OffsetSpec.latestTiered()).offset(), "nothing is tiered");
        }
    }

    private static ListOffsetsResultInfo offset(Admin admin, TopicPartition partition, OffsetSpec spec)
            throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
    }

    private static void manyTopics() throws Exception {
        String prefix = Cluster.unique("many");
        List<NewTopic> topics = java.util.stream.IntStream.range(0, 100)
                .mapToObj(i -> new NewTopic(prefix + "-" + i, 2, (short) 1)).toList();
        List<String> names = topics.stream().map(NewTopic::name).toList();
        try (Admin admin = Cluster.admin()) {
            admin.createTopics(topics).all().get();
            Suite.eventually(10, "100 topics described", () -> {
                try {
                    return admin.describeTopics(names).allTopicNames().get().size() == 100;
                } catch (Exception error) {
                    return false;
                }
            });
            admin.deleteTopics(names).all().get();
        }
    }
}
