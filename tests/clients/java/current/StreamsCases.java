import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Kafka Streams: repartition and changelog topics, state restored, nothing counted twice. */
final class StreamsCases {
    private static final List<String> WORDS = List.of("order", "wave", "task", "pick", "pack", "ship", "stock", "error");
    private static final int LINES = 1200;

    private StreamsCases() {}

    static void addTo(Suite suite) {
        suite.add("streams/word-count-exactly-once-over-kill", StreamsCases::wordCount);
    }

    private static void wordCount() throws Exception {
        String input = Cluster.topic(2);
        String output = Cluster.topic(2);
        Path folder = Files.createTempDirectory("word-count");
        List<String> arguments = List.of(Cluster.unique("word-count"), input, output, folder.resolve("state").toString());
        Path log = folder.resolve("log");
        Map<String, Integer> expected = new HashMap<>();
        send(input, 0, LINES / 3, expected);
        try (Child first = new Child(log, "WordCount", arguments)) {
            counted(first, output, 2 * LINES / 3);
            send(input, LINES / 3, 2 * LINES / 3, expected);
            counted(first, output, LINES);
            first.kill();
        }
        send(input, 2 * LINES / 3, LINES, expected);
        try (Child second = new Child(log, "WordCount", arguments)) {
            counted(second, output, 3 * LINES);
            second.stop();
        }
        // Every count of every word, in order, once: 1, 2, 3 …
        Map<String, Integer> counts = new HashMap<>();
        for (ConsumerRecord<String, String> record : Cluster.readAll(output, "isolation.level", "read_committed")) {
            int next = counts.merge(record.key(), 1, Integer::sum);
            Suite.equal(Integer.toString(next), record.value(), "next count of " + record.key());
        }
        Suite.equal(expected, counts, "final counts");
    }

    /** Each line holds three words. */
    private static void send(String topic, int from, int to, Map<String, Integer> expected) {
        try (Producer<String, String> producer = Cluster.producer("linger.ms", "5")) {
            for (int i = from; i < to; i++) {
                String[] words = {word(i), word(i * 7 + 3), word(i / 5)};
                for (String word : words) {
                    expected.merge(word, 1, Integer::sum);
                }
                producer.send(new ProducerRecord<>(topic, i % 2, null, String.join(" ", words)));
            }
        }
    }

    private static String word(int i) {
        return WORDS.get(i % WORDS.size());
    }

    private static void counted(Child child, String output, int atLeast) throws InterruptedException {
        Suite.eventually(60, atLeast + " counts", () -> {
            child.checkAlive();
            return Cluster.readAll(output, "isolation.level", "read_committed").size() >= atLeast;
        });
    }
}
