import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Produced;

/** Kafka Streams' word count with exactly-once: `WordCount APPLICATION INPUT OUTPUT FOLDER`. */
public final class WordCount {
    private WordCount() {}

    public static void main(String[] arguments) {
        Properties settings = Cluster.settings(
                "application.id", arguments[0],
                "processing.guarantee", "exactly_once_v2",
                "state.dir", arguments[3],
                "num.stream.threads", "2",
                "commit.interval.ms", "100",
                // Every update is emitted, so that the output shows each count once.
                "statestore.cache.max.bytes", "0",
                "replication.factor", "1",
                "consumer.auto.offset.reset", "earliest",
                "consumer.session.timeout.ms", "6000",
                "consumer.heartbeat.interval.ms", "500",
                "producer.transaction.timeout.ms", "8000");
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(arguments[1], Consumed.with(Serdes.String(), Serdes.String()))
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                .count()
                .toStream()
                .mapValues(count -> Long.toString(count))
                .to(arguments[2], Produced.with(Serdes.String(), Serdes.String()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
