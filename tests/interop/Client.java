import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A session of Apache Kafka's own clients that uses as many calls as it can: administration,
 * producers, transactions, consumers of both group protocols. Arguments: the broker, and a name that
 * topics and groups of this session begin with. A call that is refused or that the client cannot make
 * with this broker's versions is printed, one line each, and the session goes on.
 */
public final class Client {
    private interface Step {
        void run() throws Exception;
    }

    private final String bootstrap;
    private final String name;
    private final TopicPartition partition;

    private Client(String bootstrap, String name) {
        this.bootstrap = bootstrap;
        this.name = name;
        this.partition = new TopicPartition(name, 0);
    }

    public static void main(String[] args) {
        Client client = new Client(args[0], args[1]);
        try (Admin admin = Admin.create(client.settings())) {
            client.topics(admin);
            client.attempt("produce", client::produce);
            client.attempt("transactions", client::transactions);
            client.attempt("consume", () -> client.consume("classic", Map.of(
                "group.instance.id", client.name + "-static", "client.rack", "rack-1")));
            client.attempt("consume with isolation", () -> client.consume("reader", Map.of(
                "isolation.level", "read_committed")));
            client.attempt("consume by KIP-848", () -> client.consume("consumer", Map.of(
                "group.protocol", "consumer")));
            client.groups(admin);
            client.records(admin);
            client.cluster(admin);
            client.security(admin);
            client.attempt("delete by id", () -> {
                var ids = admin.describeTopics(List.of(client.name)).allTopicNames().get();
                admin.deleteTopics(TopicCollection.ofTopicIds(List.of(ids.get(client.name).topicId())))
                    .all().get();
            });
            client.attempt("delete by name", () ->
                admin.deleteTopics(List.of(client.name + "-2")).all().get());
        }
        System.exit(0);
    }

    private Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("client.id", "session");
        settings.put("default.api.timeout.ms", "8000");
        settings.put("request.timeout.ms", "4000");
        return settings;
    }

    private void attempt(String what, Step step) {
        try {
            step.run();
        } catch (Exception e) {
            Throwable cause = e.getCause() == null ? e : e.getCause();
            System.out.println(what + ": " + cause.toString().lines().findFirst().orElse(""));
        }
    }

    private void topics(Admin admin) {
        attempt("create", () -> admin.createTopics(List.of(
            new NewTopic(name, Optional.of(2), Optional.of((short) 1))
                .configs(Map.of("retention.ms", "86400000", "cleanup.policy", "delete")),
            new NewTopic(name + "-2", Map.of(0, List.of(1))))).all().get());
        attempt("describe", () -> admin.describeTopics(List.of(name)).allTopicNames().get());
        attempt("list", () -> admin.listTopics().names().get());
        attempt("more partitions", () ->
            admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get());
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, name);
        attempt("describe settings", () -> admin.describeConfigs(List.of(topic)).all().get());
        attempt("alter settings", () -> admin.incrementalAlterConfigs(Map.of(topic, List.of(
            new AlterConfigOp(new ConfigEntry("retention.bytes", "1000000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE))))
            .all().get());
        attempt("list settings", () -> admin.listConfigResources().all().get());
    }

    private void produce() throws Exception {
        Properties settings = settings();
        settings.put("linger.ms", "5");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < 5; i++) {
                producer.send(new ProducerRecord<>(name, 0, "key-" + i, "value-" + i)).get();
            }
        }
    }

    private void transactions() throws Exception {
        Properties settings = settings();
        settings.put("group.id", name + "-tx-group");
        settings.put("transactional.id", name + "-tx");
        settings.put("max.block.ms", "8000");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
             var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (int round = 0; round < 2; round++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(name, 0, "key", "in transaction " + round)).get();
                producer.sendOffsetsToTransaction(
                    Map.of(partition, new OffsetAndMetadata(1)), consumer.groupMetadata());
                if (round == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
    }

    private void consume(String group, Map<String, String> more) throws Exception {
        Properties settings = settings();
        settings.put("group.id", name + "-" + group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.putAll(more);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(name));
            long end = System.nanoTime() + 10_000_000_000L;
            int read = 0;
            while (read < 5 && System.nanoTime() < end) {
                read += consumer.poll(Duration.ofMillis(500)).count();
            }
            if (read < 5) {
                System.out.println("consume: only " + read + " records");
            }
            // Long enough for a heartbeat.
            consumer.poll(Duration.ofMillis(3500));
            consumer.commitSync();
            consumer.committed(Set.of(partition));
            consumer.offsetsForTimes(Map.of(partition, 0L));
            consumer.beginningOffsets(List.of(partition));
            consumer.endOffsets(List.of(partition));
        }
    }

    private void groups(Admin admin) {
        String group = name + "-classic";
        Collection<String> groups = List.of(group);
        attempt("list groups", () -> admin.listGroups().all().get());
        attempt("describe groups", () -> admin.describeConsumerGroups(List.of(group, name + "-consumer")).all().get());
        attempt("describe classic groups", () -> admin.describeClassicGroups(groups).all().get());
        attempt("committed", () -> admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
        attempt("alter committed", () -> admin.alterConsumerGroupOffsets(group,
            Map.of(partition, new OffsetAndMetadata(2, Optional.of(0), "moved"))).all().get());
        attempt("remove members", () -> admin.removeMembersFromConsumerGroup(group,
            new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions()).all().get());
        attempt("delete committed", () -> admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get());
        attempt("delete groups", () -> admin.deleteConsumerGroups(groups).all().get());
    }

    private void records(Admin admin) {
        Map<TopicPartition, OffsetSpec> specs = new HashMap<>();
        for (OffsetSpec spec : new OffsetSpec[] {OffsetSpec.earliest(), OffsetSpec.latest(),
            OffsetSpec.maxTimestamp(), OffsetSpec.forTimestamp(1), OffsetSpec.earliestLocal(),
            OffsetSpec.latestTiered(), OffsetSpec.earliestPendingUpload()}) {
            attempt("offsets " + spec.getClass().getSimpleName(), () ->
                admin.listOffsets(Map.of(partition, spec)).all().get());
        }
        attempt("delete records", () ->
            admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(1))).all().get());
        attempt("describe producers", () -> admin.describeProducers(List.of(partition)).all().get());
        attempt("describe transactions", () -> admin.describeTransactions(List.of(name + "-tx")).all().get());
        attempt("list transactions", () -> admin.listTransactions().all().get());
        attempt("fence producers", () -> admin.fenceProducers(List.of(name + "-tx")).all().get());
        attempt("abort transaction", () -> admin.abortTransaction(
            new org.apache.kafka.clients.admin.AbortTransactionSpec(partition, 0L, (short) 0, 0)).all().get());
    }

    private void cluster(Admin admin) {
        attempt("describe cluster", () -> admin.describeCluster().nodes().get());
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        attempt("describe broker", () -> admin.describeConfigs(List.of(broker)).all().get());
        attempt("describe folders", () -> admin.describeLogDirs(List.of(1)).allDescriptions().get());
        attempt("elect", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).all().get());
        attempt("reassign", () -> admin.alterPartitionReassignments(Map.of(partition,
            Optional.of(new NewPartitionReassignment(List.of(1))))).all().get());
        attempt("cancel reassignment", () ->
            admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all().get());
        attempt("list reassignments", () -> admin.listPartitionReassignments(Set.of(partition)).reassignments().get());
        attempt("describe features", () -> admin.describeFeatures().featureMetadata().get());
        attempt("update features", () -> admin.updateFeatures(
            Map.of("transaction.version", new FeatureUpdate((short) 2, FeatureUpdate.UpgradeType.UPGRADE)),
            new UpdateFeaturesOptions().validateOnly(true)).all().get());
        attempt("describe quorum", () -> admin.describeMetadataQuorum().quorumInfo().get());
        attempt("unregister", () -> admin.unregisterBroker(77).all().get());
    }

    private void security(Admin admin) {
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, name));
        attempt("alter quotas", () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all().get());
        attempt("describe quotas", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get());
        attempt("add credential", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialUpsertion(name, new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096),
                "secret".getBytes(), "salt".getBytes()))).all().get());
        attempt("describe credentials", () -> admin.describeUserScramCredentials().all().get());
        attempt("remove credential", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_256))).all().get());
        AclBinding acl = new AclBinding(new ResourcePattern(ResourceType.TOPIC, name, PatternType.LITERAL),
            new AccessControlEntry("User:" + name, "*", AclOperation.READ, AclPermissionType.ALLOW));
        attempt("create acls", () -> admin.createAcls(List.of(acl)).all().get());
        attempt("describe acls", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
        attempt("delete acls", () -> admin.deleteAcls(List.of(acl.toFilter())).all().get());
    }
}
