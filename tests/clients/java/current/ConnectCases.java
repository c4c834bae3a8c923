import java.io.IOException;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.config.ConfigResource;

/** A Kafka Connect worker in distributed mode: a file into a topic and the topic into a file. */
final class ConnectCases {
    private ConnectCases() {}

    static void addTo(Suite suite) {
        suite.add("connect/distributed-worker-over-restart", ConnectCases::worker);
    }

    private static void worker() throws Exception {
        Path folder = Files.createTempDirectory("connect");
        Path source = folder.resolve("in.txt");
        Path sink = folder.resolve("out.txt");
        String topic = Cluster.topic(1);
        String name = Cluster.unique("connect");
        int port = freePort();
        Path settings = settings(folder, name, port);
        Path log = folder.resolve("log");
        Rest rest = new Rest("http://127.0.0.1:" + port);
        List<String> lines = lines(0, 50);
        Files.write(source, lines);
        String main = "org.apache.kafka.connect.cli.ConnectDistributed";
        try (Child worker = new Child(log, main, List.of(settings.toString()))) {
            rest.untilReady(worker);
            for (String internal : List.of("offsets", "configs", "status")) {
                Suite.equal("compact", cleanupPolicy(name + "-" + internal), "cleanup.policy of " + internal);
            }
            rest.put("/connectors/source/config", "{\"connector.class\": \"FileStreamSource\", \"tasks.max\": \"1\", "
                    + "\"file\": \"" + source + "\", \"topic\": \"" + topic + "\"}");
            rest.put("/connectors/sink/config", "{\"connector.class\": \"FileStreamSink\", \"tasks.max\": \"1\", "
                    + "\"file\": \"" + sink + "\", \"topics\": \"" + topic + "\"}");
            reached(worker, sink, lines);
            rest.untilRunning(worker, "source");
            rest.untilRunning(worker, "sink");
            worker.stop();
        }
        List<String> more = lines(50, 80);
        Files.write(source, more, StandardOpenOption.APPEND);
        lines.addAll(more);
        try (Child worker = new Child(log, main, List.of(settings.toString()))) {
            rest.untilReady(worker);
            // Nothing is copied twice: both connectors go on where they were.
            reached(worker, sink, lines);
            Suite.equal(lines, Cluster.values(Cluster.readAll(topic, "isolation.level", "read_committed")), "records");
            Suite.check(rest.get("/connectors/source/offsets").contains("position"), "the source's offset is told");
            rest.delete("/connectors/source");
            rest.delete("/connectors/sink");
            worker.stop();
        }
    }

    private static List<String> lines(int from, int to) {
        List<String> lines = new ArrayList<>();
        for (int i = from; i < to; i++) {
            lines.add("line " + i);
        }
        return lines;
    }

    private static void reached(Child worker, Path sink, List<String> lines) throws Exception {
        try {
            Suite.eventually(60, lines.size() + " lines in the sink's file", () -> {
                worker.checkAlive();
                return read(sink).size() >= lines.size();
            });
        } finally {
            Suite.equal(lines, read(sink), "lines of the sink's file");
        }
    }

    private static List<String> read(Path file) {
        try {
            return Files.exists(file) ? Files.readAllLines(file) : List.of();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static Path settings(Path folder, String name, int port) throws IOException {
        String converter = "org.apache.kafka.connect.storage.StringConverter";
        return Files.write(folder.resolve("worker.properties"), List.of(
                "bootstrap.servers=" + Cluster.BOOTSTRAP,
                "group.id=" + name,
                "listeners=http://127.0.0.1:" + port,
                "key.converter=" + converter,
                "value.converter=" + converter,
                "offset.storage.topic=" + name + "-offsets",
                "offset.storage.partitions=5",
                "offset.storage.replication.factor=1",
                "config.storage.topic=" + name + "-configs",
                "config.storage.replication.factor=1",
                "status.storage.topic=" + name + "-status",
                "status.storage.replication.factor=1",
                "status.storage.partitions=2",
                "offset.flush.interval.ms=500",
                "session.timeout.ms=6000",
                "heartbeat.interval.ms=500",
                "scheduled.rebalance.max.delay.ms=0",
                "exactly.once.source.support=enabled",
                "consumer.isolation.level=read_committed",
                "plugin.discovery=service_load"));
    }

    private static String cleanupPolicy(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = Cluster.admin()) {
            Map<ConfigResource, org.apache.kafka.clients.admin.Config> all =
                    admin.describeConfigs(List.of(resource)).all().get();
            return all.get(resource).get("cleanup.policy").value();
        }
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    /** The worker's REST interface. */
    private record Rest(String address) {
        private static final HttpClient HTTP = HttpClient.newHttpClient();

        String get(String path) throws Exception {
            return call(request(path).GET().build());
        }

        void put(String path, String body) throws Exception {
            call(request(path).PUT(HttpRequest.BodyPublishers.ofString(body)).build());
        }

        void delete(String path) throws Exception {
            call(request(path).DELETE().build());
        }

        private HttpRequest.Builder request(String path) {
            return HttpRequest.newBuilder(URI.create(address + path)).header("Content-Type", "application/json");
        }

        /** Tries again while the worker rebalances. */
        private String call(HttpRequest request) throws Exception {
            for (int attempt = 0; ; attempt++) {
                HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
                if (answer.statusCode() < 300) {
                    return answer.body();
                }
                Suite.check(attempt < 50 && answer.statusCode() != 400,
                        "success of " + request + ", found " + answer.statusCode() + " " + answer.body());
                Thread.sleep(200);
            }
        }

        void untilReady(Child worker) throws InterruptedException {
            Suite.eventually(60, "the worker answers", () -> answersWith(worker, "/connectors", "["));
        }

        void untilRunning(Child worker, String connector) throws InterruptedException {
            Suite.eventually(30, connector + " runs with a task", () -> answersWith(worker,
                    "/connectors/" + connector + "/status", "\"tasks\":[{\"id\":0,\"state\":\"RUNNING\""));
        }

        private boolean answersWith(Child worker, String path, String text) {
            worker.checkAlive();
            try {
                HttpResponse<String> answer =
                        HTTP.send(request(path).GET().build(), HttpResponse.BodyHandlers.ofString());
                return answer.statusCode() == 200 && answer.body().contains(text);
            } catch (IOException error) {
                return false;
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }
    }
}
