import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.FeatureMetadata;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** Administration of groups, transactions, quotas and the cluster itself. */
final class AdminClusterCases {
    private AdminClusterCases() {}

    static void addTo(Suite suite) {
        suite.add("admin/describe-cluster", AdminClusterCases::describeCluster);
        suite.add("admin/features", AdminClusterCases::features);
        suite.add("admin/quorum", AdminClusterCases::quorum);
        suite.add("admin/log-dirs", AdminClusterCases::logDirs);
        for (String protocol : List.of("classic", "consumer")) {
            suite.add("admin/groups-" + protocol, () -> groups(protocol));
            suite.add("admin/group-offsets-" + protocol, () -> groupOffsets(protocol));
        }
        suite.add("admin/remove-static-member", AdminClusterCases::removeStaticMember);
        suite.add("admin/producers-and-transactions", AdminClusterCases::transactions);
        suite.add("admin/abort-transaction", AdminClusterCases::abortTransaction);
        suite.add("admin/fence-producers", AdminClusterCases::fenceProducers);
        suite.add("admin/client-quotas", AdminClusterCases::quotas);
        suite.add("admin/producer-quota-throttles", AdminClusterCases::throttling);
        suite.add("admin/elect-leaders", AdminClusterCases::electLeaders);
        suite.add("admin/reassignments", AdminClusterCases::reassignments);
        suite.add("admin/acls-without-authorizer", AdminClusterCases::acls);
    }

    private static void describeCluster() throws Exception {
        try (Admin admin = Cluster.admin()) {
            DescribeClusterResult cluster = admin.describeCluster();
            Suite.check(!cluster.clusterId().get().isEmpty(), "a cluster id");
            Suite.equal(1, cluster.nodes().get().size(), "nodes");
            Suite.equal(cluster.nodes().get().iterator().next().id(), cluster.controller().get().id(), "controller");
            Suite.equal(Cluster.BOOTSTRAP.replaceAll(".*:", ""),
                    Integer.toString(cluster.nodes().get().iterator().next().port()), "advertised port");
        }
    }

    private static void features() throws Exception {
        try (Admin admin = Cluster.admin()) {
            FeatureMetadata features = admin.describeFeatures().featureMetadata().get();
            Suite.check(features.finalizedFeatures().containsKey("transaction.version"), "transaction.version is finalized");
            Suite.equal((short) 2, features.finalizedFeatures().get("transaction.version").maxVersionLevel(),
                    "transaction.version");
        }
    }

    private static void quorum() throws Exception {
        try (Admin admin = Cluster.admin()) {
            var quorum = admin.describeMetadataQuorum().quorumInfo().get();
            Suite.equal(admin.describeCluster().controller().get().id(), quorum.leaderId(), "leader of the quorum");
            Suite.equal(1, quorum.voters().size(), "voters");
        }
    }

    private static void logDirs() throws Exception {
        String topic = Cluster.topic(2);
        Cluster.send(topic, "v", 100);
        try (Admin admin = Cluster.admin()) {
            int node = admin.describeCluster().nodes().get().iterator().next().id();
            Map<String, LogDirDescription> folders = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
            Suite.check(!folders.isEmpty(), "a log directory");
            long size = 0;
            for (LogDirDescription folder : folders.values()) {
                Suite.equal(null, folder.error(), "error of the folder");
                Suite.check(folder.totalBytes().orElse(0) > 0, "the volume's size");
                for (var replica : folder.replicaInfos().entrySet()) {
                    if (replica.getKey().topic().equals(topic)) {
                        size += replica.getValue().size();
                    }
                }
            }
            Suite.check(size > 1000, "the partitions' size, found " + size);
        }
    }

    private static Consumer<String, String> member(String protocol, String group) {
        return Cluster.member(group, "group.protocol", protocol, "client.id", "described");
    }

    private static void groups(String protocol) throws Exception {
        String topic = Cluster.topic(2);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 10);
        boolean classic = protocol.equals("classic");
        try (Admin admin = Cluster.admin()) {
            try (Consumer<String, String> consumer = member(protocol, group)) {
                consumer.subscribe(List.of(topic));
                Cluster.poll(consumer, 10);
                consumer.commitSync();
                Suite.eventually(15, "the group is stable", () -> {
                    consumer.poll(java.time.Duration.ofMillis(50));
                    return describe(admin, group).groupState() == GroupState.STABLE;
                });
                ConsumerGroupDescription description = describe(admin, group);
                Suite.equal(classic ? GroupType.CLASSIC : GroupType.CONSUMER, description.type(), "type");
                Suite.equal(classic ? "range" : "uniform", description.partitionAssignor(), "assignor");
                Suite.equal(1, description.members().size(), "members");
                var member = description.members().iterator().next();
                Suite.equal("described", member.clientId(), "client id");
                Suite.check(member.host().contains("127.0.0.1"), "the member's host, found " + member.host());
                Suite.equal(Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1)),
                        member.assignment().topicPartitions(), "assignment");
                var listed = admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
                        .filter(g -> g.groupId().equals(group)).findFirst();
                Suite.check(listed.isPresent(), "the group is listed");
                Suite.equal(Optional.of(GroupState.STABLE), listed.get().groupState(), "state in the list");
                Suite.fails(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            }
            Suite.eventually(15, "the group is empty", () -> describe(admin, group).groupState() == GroupState.EMPTY);
            admin.deleteConsumerGroups(List.of(group)).all().get();
            Suite.fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
            Suite.fails(GroupIdNotFoundException.class,
                    () -> admin.describeConsumerGroups(List.of(group)).all().get());
        }
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) {
        try {
            return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void groupOffsets(String protocol) throws Exception {
        String topic = Cluster.topic(3);
        String group = Cluster.unique("group");
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        Cluster.send(topic, "v", 90);
        try (Consumer<String, String> consumer = member(protocol, group)) {
            consumer.subscribe(List.of(topic));
            Cluster.poll(consumer, 90);
            consumer.commitSync();
        }
        try (Admin admin = Cluster.admin()) {
            Map<TopicPartition, OffsetAndMetadata> offsets = offsets(admin, group);
            Suite.equal(90L, offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum(), "sum of the offsets");
            admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(3, "set back"))).all().get();
            Suite.equal(new OffsetAndMetadata(3, "set back"), offsets(admin, group).get(first), "altered offset");
            admin.deleteConsumerGroupOffsets(group, Set.of(second)).all().get();
            Suite.equal(null, offsets(admin, group).get(second), "deleted offset");
            var several = admin.listConsumerGroupOffsets(Map.of(
                    group, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(first)),
                    Cluster.unique("nobody"), new ListConsumerGroupOffsetsSpec())).all().get();
            Suite.equal(2, several.size(), "groups asked for at once");
            Suite.equal(3L, several.get(group).get(first).offset(), "offset among several groups");
        }
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    private static void removeStaticMember() throws Exception {
        String topic = Cluster.topic(1);
        String group = Cluster.unique("group");
        Cluster.send(topic, "v", 1);
        try (Admin admin = Cluster.admin()) {
            Consumer<String, String> consumer = Cluster.member(group, "group.instance.id", "station-1");
            consumer.subscribe(List.of(topic));
            Cluster.poll(consumer, 1);
            consumer.close();
            Suite.equal(1, describe(admin, group).members().size(), "a static member stays when its client closes");
            admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(
                    Set.of(new MemberToRemove("station-1")))).all().get();
            Suite.equal(0, describe(admin, group).members().size(), "members after the removal");
        }
    }

    private static Producer<String, String> open(String id, String topic) throws Exception {
        Producer<String, String> producer = Cluster.producer("transactional.id", id);
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, "inside")).get();
        return producer;
    }

    private static void transactions() throws Exception {
        String topic = Cluster.topic(1);
        String id = Cluster.unique("tx");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Admin admin = Cluster.admin(); Producer<String, String> producer = open(id, topic)) {
            ProducerState state = producerOf(admin, partition);
            Suite.equal(0L, state.currentTransactionStartOffset().getAsLong(), "start of the transaction");
            Suite.equal(0, state.lastSequence(), "last sequence");
            TransactionDescription description = admin.describeTransactions(List.of(id)).description(id).get();
            Suite.equal(TransactionState.ONGOING, description.state(), "state");
            Suite.equal(state.producerId(), description.producerId(), "producer id");
            Suite.equal(Set.of(partition), description.topicPartitions(), "partitions");
            Suite.equal(60_000L, description.transactionTimeoutMs(), "time-out");
            Collection<TransactionListing> listed = admin.listTransactions().all().get();
            Suite.check(listed.stream().anyMatch(t -> t.transactionalId().equals(id)
                    && t.state() == TransactionState.ONGOING && t.producerId() == state.producerId()), "it is listed");
            producer.commitTransaction();
            Suite.eventually(10, "the transaction is complete", () -> {
                try {
                    return admin.describeTransactions(List.of(id)).description(id).get().state()
                            == TransactionState.COMPLETE_COMMIT;
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            Suite.check(producerOf(admin, partition).currentTransactionStartOffset().isEmpty(), "nothing is open");
            Suite.fails(TransactionalIdNotFoundException.class, () -> {
                String nobody = Cluster.unique("nobody");
                admin.describeTransactions(List.of(nobody)).description(nobody).get();
            });
        }
    }

    private static ProducerState producerOf(Admin admin, TopicPartition partition) throws Exception {
        List<ProducerState> producers =
                admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
        Suite.equal(1, producers.size(), "active producers");
        return producers.get(0);
    }

    private static void abortTransaction() throws Exception {
        String topic = Cluster.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Admin admin = Cluster.admin(); Producer<String, String> producer = open(Cluster.unique("tx"), topic)) {
            Cluster.send(topic, "behind", 1);
            ProducerState state = producerOf(admin, partition, true);
            admin.abortTransaction(new AbortTransactionSpec(partition, state.producerId(), (short) state.producerEpoch(),
                    state.coordinatorEpoch().orElse(-1) < 0 ? 0 : state.coordinatorEpoch().getAsInt())).all().get();
            Suite.equal(List.of("behind0"),
                    Cluster.values(Cluster.readAll(topic, "isolation.level", "read_committed")), "values");
        }
    }

    private static ProducerState producerOf(Admin admin, TopicPartition partition, boolean open) throws Exception {
        return admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers().stream()
                .filter(p -> p.currentTransactionStartOffset().isPresent() == open).findFirst().orElseThrow();
    }

    private static void fenceProducers() throws Exception {
        String topic = Cluster.topic(1);
        String id = Cluster.unique("tx");
        try (Admin admin = Cluster.admin(); Producer<String, String> producer = open(id, topic)) {
            admin.fenceProducers(List.of(id)).all().get();
            Suite.fails(KafkaException.class, producer::commitTransaction);
            Suite.eventually(10, "its transaction is aborted",
                    () -> Cluster.readAll(topic, "isolation.level", "read_committed").isEmpty());
        }
    }

    private static void quotas() throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, Cluster.unique("client")));
        try (Admin admin = Cluster.admin()) {
            setQuota(admin, entity, "producer_byte_rate", 100_000.0);
            setQuota(admin, entity, "consumer_byte_rate", 200_000.0);
            Suite.eventually(10, "both quotas are described", () -> describeQuota(admin, entity)
                    .equals(Map.of("producer_byte_rate", 100_000.0, "consumer_byte_rate", 200_000.0)));
            setQuota(admin, entity, "producer_byte_rate", null);
            Suite.eventually(10, "one quota is gone",
                    () -> describeQuota(admin, entity).equals(Map.of("consumer_byte_rate", 200_000.0)));
            setQuota(admin, entity, "consumer_byte_rate", null);
        }
    }

    private static void setQuota(Admin admin, ClientQuotaEntity entity, String name, Double value) throws Exception {
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(
                entity, List.of(new ClientQuotaAlteration.Op(name, value))))).all().get();
    }

    private static Map<String, Double> describeQuota(Admin admin, ClientQuotaEntity entity) {
        try {
            ClientQuotaFilter filter = ClientQuotaFilter.containsOnly(entity.entries().entrySet().stream()
                    .map(e -> ClientQuotaFilterComponent.ofEntity(e.getKey(), e.getValue())).toList());
            return admin.describeClientQuotas(filter).entities().get().getOrDefault(entity, Map.of());
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void throttling() throws Exception {
        String topic = Cluster.topic(1);
        String client = Cluster.unique("client");
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, client));
        try (Admin admin = Cluster.admin()) {
            setQuota(admin, entity, "producer_byte_rate", 50_000.0);
            Suite.eventually(10, "the quota is described", () -> !describeQuota(admin, entity).isEmpty());
            double throttled = 0;
            try (Producer<String, String> producer = Cluster.producer("client.id", client, "batch.size", "20000")) {
                for (int i = 0; i < 60; i++) {
                    producer.send(new ProducerRecord<>(topic, "x".repeat(15_000))).get();
                    throttled = producer.metrics().entrySet().stream()
                            .filter(m -> m.getKey().name().equals("produce-throttle-time-max"))
                            .mapToDouble(m -> (Double) m.getValue().metricValue()).max().orElse(0);
                    if (throttled > 0) {
                        break;
                    }
                }
            }
            Suite.check(throttled > 0, "900 kB at 50 kB/s are throttled");
            setQuota(admin, entity, "producer_byte_rate", null);
        }
    }

    private static void electLeaders() throws Exception {
        TopicPartition partition = new TopicPartition(Cluster.topic(1), 0);
        try (Admin admin = Cluster.admin()) {
            Optional<Throwable> result =
                    admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition);
            Suite.check(result.isPresent() && result.get() instanceof ElectionNotNeededException,
                    "ElectionNotNeededException, found " + result);
        }
    }

    private static void reassignments() throws Exception {
        TopicPartition partition = new TopicPartition(Cluster.topic(1), 0);
        try (Admin admin = Cluster.admin()) {
            Suite.equal(Map.of(), admin.listPartitionReassignments().reassignments().get(), "reassignments");
            Suite.fails(NoReassignmentInProgressException.class,
                    () -> admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all().get());
            int node = admin.describeCluster().nodes().get().iterator().next().id();
            admin.alterPartitionReassignments(
                    Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node))))).all().get();
            Suite.fails(KafkaException.class, () -> admin.alterPartitionReassignments(
                    Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node + 77))))).all().get());
        }
    }

    private static void acls() {
        try (Admin admin = Cluster.admin()) {
            Suite.fails(SecurityDisabledException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
        }
    }
}
