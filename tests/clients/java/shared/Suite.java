import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * Named cases, run side by side: most of their time they wait for the broker. One line a case,
 * `ok` or `FAILED` with what was expected; every case makes topics and groups of its own.
 */
public final class Suite {
    /** What a case does; it fails by throwing. */
    public interface Body {
        void run() throws Exception;
    }

    private record Case(String name, Body body) {}

    private static final int SIDE_BY_SIDE = 4;
    private static final int STACK_LINES = 12;
    private static final long CASE_LIMIT_MS = 90_000;

    private final String prefix;
    private final List<Case> cases = new ArrayList<>();

    /** @param prefix what every line begins with: the client and its version */
    public Suite(String prefix) {
        this.prefix = prefix;
    }

    /** Adds a case. */
    public void add(String name, Body body) {
        cases.add(new Case(name, body));
    }

    /** Runs the cases whose names contain `filter`, and ends the process: 0 if all were right. */
    public void runAndExit(String filter) throws InterruptedException {
        List<Case> chosen = cases.stream().filter(c -> c.name.contains(filter)).toList();
        ExecutorService threads = Executors.newFixedThreadPool(SIDE_BY_SIDE);
        List<Future<Boolean>> results = new ArrayList<>();
        for (Case c : chosen) {
            results.add(threads.submit(() -> run(c)));
        }
        threads.shutdown();
        int failed = 0;
        for (Future<Boolean> result : results) {
            try {
                failed += result.get() ? 0 : 1;
            } catch (java.util.concurrent.ExecutionException error) {
                failed += 1;
            }
        }
        System.out.printf("%s: %d passed, %d failed%n", prefix, chosen.size() - failed, failed);
        // Threads of a failed case may still hang on a client.
        System.exit(failed == 0 && !chosen.isEmpty() ? 0 : 1);
    }

    private boolean run(Case c) throws InterruptedException {
        long start = System.nanoTime();
        Throwable[] failure = new Throwable[1];
        Thread thread = new Thread(() -> {
            try {
                c.body.run();
            } catch (Throwable error) {
                failure[0] = error;
            }
        }, c.name);
        thread.setDaemon(true);
        thread.start();
        thread.join(CASE_LIMIT_MS);
        if (thread.isAlive()) {
            Exception stuck = new Exception("not done within " + CASE_LIMIT_MS / 1000 + " s");
            stuck.setStackTrace(thread.getStackTrace());
            failure[0] = stuck;
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        synchronized (System.out) {
            if (failure[0] == null) {
                System.out.printf("ok      %s %s (%.1f s)%n", prefix, c.name, seconds);
            } else {
                System.out.printf("FAILED  %s %s (%.1f s): %s%n", prefix, c.name, seconds, failure[0]);
                for (StackTraceElement element : where(failure[0])) {
                    System.out.println("        at " + element);
                }
            }
            System.out.flush();
        }
        return failure[0] == null;
    }

    /** The innermost cause's stack, as far as it helps. */
    private static List<StackTraceElement> where(Throwable error) {
        Throwable cause = error;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        return List.of(cause.getStackTrace()).stream().limit(STACK_LINES).toList();
    }

    /** Fails unless both are equal. */
    public static void equal(Object expected, Object actual, String what) {
        if (!Objects.deepEquals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", found " + actual);
        }
    }

    /** Fails unless `condition` holds. */
    public static void check(boolean condition, String expectation) {
        if (!condition) {
            throw new AssertionError("expected: " + expectation);
        }
    }

    /** Waits until `condition` holds; fails after `seconds`. */
    public static void eventually(int seconds, String expectation, BooleanSupplier condition)
            throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("expected within " + seconds + " s: " + expectation);
            }
            Thread.sleep(50);
        }
    }

    /** Runs `body`, which must throw `type` (or wrap it), and gives it back. */
    public static <E extends Throwable> E fails(Class<E> type, Body body) {
        try {
            body.run();
        } catch (Throwable error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (type.isInstance(cause)) {
                    return type.cast(cause);
                }
            }
            throw new AssertionError("expected " + type.getSimpleName() + ", found " + error, error);
        }
        throw new AssertionError("expected " + type.getSimpleName() + ", but nothing failed");
    }
}
