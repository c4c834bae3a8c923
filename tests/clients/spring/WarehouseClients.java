package conveyor.clients.spring;

import com.fasterxml.jackson.databind.JsonNode;
import io.cloudevents.CloudEvent;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.autoconfigure.kafka.KafkaProperties;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Primary;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaAdmin.NewTopics;
import org.springframework.kafka.core.KafkaOperations;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.ContainerProperties.AckMode;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.support.serializer.JsonDeserializer;
import org.springframework.kafka.support.serializer.JsonSerializer;
import org.springframework.util.backoff.FixedBackOff;

/** Templates and factories beside those that Boot makes from the settings. */
@Configuration
class WarehouseClients {
    private final KafkaProperties properties;

    @Value("${warehouse.prefix}")
    String prefix;

    @Value("${warehouse.partitions}")
    int partitions;

    WarehouseClients(KafkaProperties properties) {
        this.properties = properties;
    }

    @Bean
    @Primary
    ProducerFactory<String, CloudEvent> producers() {
        return new DefaultKafkaProducerFactory<>(properties.buildProducerProperties(null));
    }

    @Bean
    @Primary
    KafkaTemplate<String, CloudEvent> template(ProducerFactory<String, CloudEvent> producers) {
        KafkaTemplate<String, CloudEvent> template = new KafkaTemplate<>(producers);
        // With observation, spring-kafka asks the broker for the cluster's id.
        template.setObservationEnabled(true);
        return template;
    }

    private Map<String, Object> producer(Object valueSerializer) {
        Map<String, Object> settings = new HashMap<>(properties.buildProducerProperties(null));
        settings.put("key.serializer", StringSerializer.class);
        settings.put("value.serializer", valueSerializer);
        return settings;
    }

    @Bean
    KafkaTemplate<String, byte[]> bytes() {
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(producer(ByteArraySerializer.class)));
    }

    @Bean
    KafkaTemplate<String, Object> json() {
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(producer(JsonSerializer.class)));
    }

    @Bean
    KafkaTemplate<String, String> transactional() {
        Map<String, Object> settings = producer(StringSerializer.class);
        DefaultKafkaProducerFactory<String, String> factory = new DefaultKafkaProducerFactory<>(settings);
        factory.setTransactionIdPrefix("warehouse-" + java.util.UUID.randomUUID() + "-");
        return new KafkaTemplate<>(factory);
    }

    @Bean
    @Primary
    ConsumerFactory<String, CloudEvent> consumers() {
        return new DefaultKafkaConsumerFactory<>(properties.buildConsumerProperties(null));
    }

    private Map<String, Object> consumer() {
        Map<String, Object> settings = new HashMap<>(properties.buildConsumerProperties(null));
        settings.put("key.deserializer", StringDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        return settings;
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, byte[]> deadFactory() {
        ConcurrentKafkaListenerContainerFactory<String, byte[]> factory = new ConcurrentKafkaListenerContainerFactory<>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(consumer()));
        return factory;
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, JsonNode> taskFactory() {
        Map<String, Object> settings = consumer();
        ConcurrentKafkaListenerContainerFactory<String, JsonNode> factory = new ConcurrentKafkaListenerContainerFactory<>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(
                settings, new StringDeserializer(), new JsonDeserializer<>(JsonNode.class, false)));
        factory.getContainerProperties().setAckMode(AckMode.MANUAL);
        return factory;
    }

    @Bean
    NewTopics topics() {
        List<NewTopic> topics = new ArrayList<>();
        for (String name : List.of("wave-events", "order-events", "inventory-events", "task-events")) {
            topics.add(TopicBuilder.name(prefix + name).partitions(partitions).replicas(1)
                    .config("retention.ms", "604800000").build());
        }
        topics.add(TopicBuilder.name(prefix + "inventory-events.DLT").partitions(partitions).replicas(1).build());
        topics.add(TopicBuilder.name(prefix + "product-catalog").partitions(3).replicas(1).compact().build());
        return new NewTopics(topics.toArray(NewTopic[]::new));
    }

    @Bean
    DefaultErrorHandler errorHandler(KafkaTemplate<String, CloudEvent> template, KafkaTemplate<String, byte[]> bytes) {
        Map<Class<?>, KafkaOperations<?, ?>> templates = new LinkedHashMap<>();
        templates.put(byte[].class, bytes);
        templates.put(Object.class, template);
        DeadLetterPublishingRecoverer recoverer = new DeadLetterPublishingRecoverer(templates,
                (record, error) -> new TopicPartition(record.topic() + ".DLT", record.partition()));
        DefaultErrorHandler handler = new DefaultErrorHandler(recoverer, new FixedBackOff(50, 2));
        handler.setCommitRecovered(true);
        return handler;
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, CloudEvent> events(
            ConsumerFactory<String, CloudEvent> consumers, DefaultErrorHandler errors) {
        ConcurrentKafkaListenerContainerFactory<String, CloudEvent> factory =
                new ConcurrentKafkaListenerContainerFactory<>();
        factory.setConsumerFactory(consumers);
        factory.setConcurrency(3);
        factory.setCommonErrorHandler(errors);
        factory.getContainerProperties().setAckMode(AckMode.MANUAL_IMMEDIATE);
        factory.getContainerProperties().setObservationEnabled(true);
        return factory;
    }
}
