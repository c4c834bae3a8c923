import java.io.File;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Another JVM with the same class path: something that can be stopped and killed. */
final class Child implements AutoCloseable {
    private final Process process;
    private final Path log;

    /** Starts `main` with these arguments; its output goes to `log`. */
    Child(Path log, String main, List<String> arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
                "-cp", System.getProperty("java.class.path"), main));
        command.addAll(arguments);
        this.log = log;
        File file = log.toFile();
        process = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(file)).start();
        // Whatever ends this process, the child must not stay.
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
    }

    /** Fails if it has ended by itself. */
    void checkAlive() {
        Suite.check(process.isAlive(), "the process still runs; its output is in " + log);
    }

    /** SIGTERM, then waits for its end. */
    void stop() throws InterruptedException {
        process.destroy();
        Suite.check(process.waitFor(30, TimeUnit.SECONDS), "the process ends within 30 s of SIGTERM");
    }

    /** SIGKILL. */
    void kill() throws InterruptedException {
        process.destroyForcibly();
        process.waitFor();
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
