import java.io.File;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Collections;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Utils;

/**
 * Apache Kafka's own encoder, decoder and partitioner, driven from the tests by one line of
 * arguments each: it writes what we must read and reads what we have written.
 *
 * <pre>
 * write DIR           one file per codec with batches as Kafka's producer encodes them
 * read FILE           every record of a segment or batch file, one line each; checks each CRC
 * partition N         reads keys (base64, one a line) and prints the partition Kafka picks of N
 * transcode           reads messages (kind, API key, version, base64, one a line), decodes and encodes
 *                     them with Kafka's code, prints them, or "!" and why not
 * definitions         Kafka's definitions of its messages (JSON), each behind a line "=== name"
 * </pre>
 *
 * A record's line: offset timestamp key value headers batch-attributes, tab-separated, bytes as
 * base64, null as "-".
 */
public final class Interop {
    private static final long BASE_TIMESTAMP = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        switch (args[0]) {
            case "write" -> write(Path.of(args[1]));
            case "read" -> read(new File(args[1]), out);
            case "partition" -> partition(Integer.parseInt(args[1]), out);
            case "transcode" -> transcode(out);
            case "definitions" -> definitions(out);
            default -> throw new IllegalArgumentException(
                "write DIR | read FILE | partition N | transcode | definitions");
        }
        out.flush();
    }

    private static void write(Path dir) throws Exception {
        Files.createDirectories(dir);
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            Compression compression = Compression.of(codec).build();
            ByteBuffer file = ByteBuffer.allocate(4 << 20);
            long offset = 0;
            for (int batch = 0; batch < 8; batch++) {
                int records = 1 + batch * 37;
                offset += appendBatch(file, compression, offset, batch, records);
            }
            file.flip();
            byte[] bytes = new byte[file.remaining()];
            file.get(bytes);
            Files.write(dir.resolve(codec + ".batches"), bytes);
        }
        ByteBuffer marker = ByteBuffer.allocate(1 << 10);
        MemoryRecords.writeEndTransactionalMarker(marker, 7L, BASE_TIMESTAMP, 3, 4711L, (short) 5,
            new EndTransactionMarker(ControlRecordType.COMMIT, 9));
        marker.flip();
        byte[] bytes = new byte[marker.remaining()];
        marker.get(bytes);
        Files.write(dir.resolve("commit.batches"), bytes);
    }

    private static int appendBatch(ByteBuffer file, Compression compression, long base, int batch,
                                   int records) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 19);
        // As an idempotent producer does, once without one.
        long producerId = batch == 0 ? RecordBatch.NO_PRODUCER_ID : 1000L + batch;
        short epoch = batch == 0 ? RecordBatch.NO_PRODUCER_EPOCH : (short) batch;
        int sequence = batch == 0 ? RecordBatch.NO_SEQUENCE : batch * 1000;
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, RecordBatch.MAGIC_VALUE_V2,
            compression, TimestampType.CREATE_TIME, base, RecordBatch.NO_TIMESTAMP, producerId, epoch,
            sequence);
        for (int i = 0; i < records; i++) {
            byte[] key = i % 7 == 3 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
            byte[] value = i % 11 == 5 ? null
                : ("value-" + batch + "-" + i + "-" + "x".repeat(i % 300)).getBytes(StandardCharsets.UTF_8);
            Header[] headers = i % 3 != 0 ? new Header[0] : new Header[] {
                new RecordHeader("content-type", "application/cloudevents+json".getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("repeated", new byte[] {1}),
                new RecordHeader("repeated", new byte[] {2, 3}),
                new RecordHeader("none", null),
            };
            // Not in order: the batch's maximum is not its last timestamp.
            builder.append(BASE_TIMESTAMP + batch * 1000L + (i * 13L) % 101, key, value, headers);
        }
        file.put(builder.build().buffer());
        return records;
    }

    private static void read(File file, PrintStream out) throws Exception {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file.toPath())));
        for (RecordBatch batch : records.batches()) {
            batch.ensureValid();
            for (Record record : batch) {
                StringBuilder headers = new StringBuilder();
                for (Header header : record.headers()) {
                    if (headers.length() > 0) {
                        headers.append(',');
                    }
                    headers.append(header.key()).append('=').append(base64(header.value()));
                }
                out.println(String.join("\t", Long.toString(record.offset()),
                    Long.toString(record.timestamp()), base64(bytes(record.key())),
                    base64(bytes(record.value())), headers.toString(),
                    batch.compressionType().name + "/" + batch.producerId() + "/" + batch.producerEpoch()
                        + "/" + batch.baseSequence() + "/" + batch.partitionLeaderEpoch()
                        + "/" + (batch.isControlBatch() ? "control" : "data")
                        + "/" + batch.maxTimestamp()));
            }
        }
    }

    private static void partition(int partitions, PrintStream out) throws Exception {
        for (String line : new String(System.in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
            byte[] key = Base64.getDecoder().decode(line.trim());
            out.println(Utils.toPositive(Utils.murmur2(key)) % partitions);
        }
    }

    private static void transcode(PrintStream out) throws Exception {
        for (String line : new String(System.in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
            String[] fields = line.split("\t", -1);
            ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(fields[1]));
            ApiMessage message = fields[0].equals("request") ? type.newRequest() : type.newResponse();
            short version = Short.parseShort(fields[2]);
            ByteBuffer bytes = ByteBuffer.wrap(Base64.getDecoder().decode(fields[3]));
            try {
                message.read(new ByteBufferAccessor(bytes), version);
                if (bytes.hasRemaining()) {
                    throw new IllegalStateException(bytes.remaining() + " bytes left over");
                }
                out.println(base64(bytes(MessageUtil.toByteBufferAccessor(message, version).buffer())));
            } catch (RuntimeException e) {
                out.println("!" + e);
            }
        }
    }

    private static void definitions(PrintStream out) throws Exception {
        String jar = ApiMessageType.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        try (JarFile file = new JarFile(jar)) {
            for (JarEntry entry : Collections.list(file.entries())) {
                String name = entry.getName();
                if (name.startsWith("common/message/") && name.endsWith(".json")) {
                    out.println("=== " + name.substring(name.lastIndexOf('/') + 1, name.length() - 5));
                    out.println(new String(file.getInputStream(entry).readAllBytes(), StandardCharsets.UTF_8));
                }
            }
        }
    }

    private static byte[] bytes(ByteBuffer buffer) {
        return buffer == null ? null : Utils.toArray(buffer);
    }

    private static String base64(byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }
}
