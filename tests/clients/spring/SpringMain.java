package conveyor.clients.spring;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.AppInfoParser;

/** The cases of spring-kafka, one after the other: `SpringMain [FILTER]`. */
public final class SpringMain {
    /** What a case does; it fails by throwing. */
    interface Body {
        void run() throws Exception;
    }

    private SpringMain() {}

    public static void main(String[] arguments) {
        // Spring logs to standard output, which belongs to the cases.
        PrintStream out = System.out;
        System.setOut(System.err);
        String filter = arguments.length > 0 ? arguments[0] : "";
        String prefix = "spring-kafka-" + org.springframework.kafka.core.KafkaTemplate.class.getPackage()
                .getImplementationVersion() + " (client " + AppInfoParser.getVersion() + ")";
        Map<String, Body> cases = new LinkedHashMap<>();
        SpringCases.addTo(cases);
        List<String> failed = new ArrayList<>();
        int ran = 0;
        for (Map.Entry<String, Body> one : cases.entrySet()) {
            if (!one.getKey().contains(filter)) {
                continue;
            }
            ran++;
            long start = System.nanoTime();
            try {
                one.getValue().run();
                out.printf("ok      %s %s (%.1f s)%n", prefix, one.getKey(), (System.nanoTime() - start) / 1e9);
            } catch (Throwable error) {
                failed.add(one.getKey());
                error.printStackTrace();
                out.printf("FAILED  %s %s: %s%n", prefix, one.getKey(), error);
                List.of(error.getStackTrace()).stream().limit(8).forEach(e -> out.println("        at " + e));
            }
        }
        out.printf("spring: %d passed, %d failed%n", ran - failed.size(), failed.size());
        System.exit(failed.isEmpty() && ran > 0 ? 0 : 1);
    }
}
