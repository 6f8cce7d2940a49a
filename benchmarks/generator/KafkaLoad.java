import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Open-loop load on a topic of Kafka: lateness is counted from the scheduled time, so a stalled broker cannot hide.
 *
 * <pre>KafkaLoad ADDRESS TOPIC FILE RATE SECONDS MESSAGES_MAX [producer.setting=value ...]</pre>
 *
 * FILE holds messages, each a line "LENGTH\n" and that many bytes; they are sent in turn, from the beginning again when
 * all were sent. Thirteen '@' in a message are a place for the time of its sending, in milliseconds as digits; the eight
 * bytes "@INT64@@" are a place for the same as a little-endian integer, which is how Arrow holds it. RATE is messages a
 * second (exponential gaps, fixed seed); 0 = as fast as the producer's buffer takes them. It ends after SECONDS or
 * MESSAGES_MAX messages, whichever is first, and waits until all are acknowledged. Prints one line of JSON, times in
 * microseconds: "late" from the scheduled time to the call, "acked" from the call to the acknowledgement.
 */
public final class KafkaLoad {
    private static final byte[] DIGITS = "@@@@@@@@@@@@@".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] INTEGER = "@INT64@@".getBytes(StandardCharsets.US_ASCII);
    private static final int TIMES_MAX = 20_000_000;
    private static final int LENGTH_MAX = 1 << 28;

    private record Message(byte[] content, int[] digits, int[] integers) {
        /** Returns a copy with a time in all its places: the producer keeps the bytes until they are sent. */
        byte[] at(long ms) {
            byte[] copy = content.clone();
            byte[] text = Long.toString(ms).getBytes(StandardCharsets.US_ASCII);
            for (int place : digits) {
                System.arraycopy(text, 0, copy, place, DIGITS.length);
            }
            ByteBuffer buffer = ByteBuffer.wrap(copy).order(ByteOrder.LITTLE_ENDIAN);
            for (int place : integers) {
                buffer.putLong(place, ms);
            }
            return copy;
        }
    }

    private static List<Message> read(Path path) throws IOException {
        List<Message> messages = new ArrayList<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(path), 1 << 20))) {
            for (int length = length(in); length >= 0; length = length(in)) {
                byte[] content = new byte[length];
                in.readFully(content);
                messages.add(new Message(content, places(content, DIGITS), places(content, INTEGER)));
            }
        }
        if (messages.isEmpty()) {
            throw new EOFException(path + " holds no message");
        }
        return messages;
    }

    private static int length(DataInputStream in) throws IOException {
        long length = 0;
        int count = 0;
        for (int each = in.read(); each != '\n'; each = in.read()) {
            if (each < 0 && count == 0) {
                return -1;
            }
            if (each < '0' || each > '9' || (length = length * 10 + each - '0') > LENGTH_MAX) {
                throw new IOException("a length is digits, at most " + LENGTH_MAX);
            }
            count++;
        }
        return (int) length;
    }

    private static int[] places(byte[] content, byte[] mark) {
        int[] found = new int[content.length / mark.length];
        int count = 0;
        for (int at = 0; at + mark.length <= content.length; at++) {
            if (content[at] == '@' && Arrays.equals(content, at, at + mark.length, mark, 0, mark.length)) {
                found[count++] = at;
                at += mark.length - 1;
            }
        }
        return Arrays.copyOf(found, count);
    }

    private static double quantile(long[] sorted, double share) {
        return sorted.length == 0 ? 0 : sorted[Math.max((int) Math.ceil(share * sorted.length) - 1, 0)] / 1e3;
    }

    private static String quantiles(String name, long[] times, int count) {
        long[] sorted = Arrays.copyOf(times, count);
        Arrays.sort(sorted);
        return String.format(Locale.ROOT, "\"%s_p50_us\":%.1f,\"%s_p99_us\":%.1f,\"%s_max_us\":%.1f", name,
                quantile(sorted, 0.5), name, quantile(sorted, 0.99), name, quantile(sorted, 1));
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("batch.size", "131072");
        settings.put("linger.ms", "2");
        settings.put("max.request.size", Integer.toString(LENGTH_MAX));
        for (String each : Arrays.copyOfRange(arguments, 6, arguments.length)) {
            int equals = each.indexOf('=');
            settings.put(each.substring(0, equals), each.substring(equals + 1));
        }
        return settings;
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 6) {
            System.err.println("usage: KafkaLoad ADDRESS TOPIC FILE RATE SECONDS MESSAGES_MAX [setting=value ...]");
            System.exit(2);
        }
        String topic = arguments[1];
        List<Message> messages = read(Path.of(arguments[2]));
        double rate = Double.parseDouble(arguments[3]);
        long span = (long) (Double.parseDouble(arguments[4]) * 1e9);
        long most = Long.parseLong(arguments[5]);
        int room = (int) Math.min(most, TIMES_MAX);
        long[] late = new long[room];
        long[] acked = new long[room];
        AtomicLong failed = new AtomicLong();
        AtomicLong answered = new AtomicLong();
        long sent = 0;
        long bytes = 0;
        long start;
        long last;
        try (var producer = new KafkaProducer<>(settings(arguments), new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.partitionsFor(topic); // the first call waits for metadata: no part of what is measured
            Random random = new Random(42);
            start = System.nanoTime();
            double due = 0;
            while (sent < most) {
                long now = System.nanoTime() - start;
                if (now >= span || due >= span) {
                    break;
                }
                if (rate > 0 && now < due) {
                    LockSupport.parkNanos((long) (due - now));
                    continue;
                }
                byte[] content = messages.get((int) (sent % messages.size())).at(System.currentTimeMillis());
                int place = sent < room ? (int) sent : -1;
                if (place >= 0) {
                    late[place] = rate > 0 ? (long) (now - due) : 0;
                }
                producer.send(new ProducerRecord<>(topic, content), (metadata, error) -> {
                    if (error != null && failed.getAndIncrement() == 0) {
                        System.err.println("first error: " + error);
                    }
                    answered.incrementAndGet();
                    if (place >= 0) {
                        acked[place] = System.nanoTime() - start - now;
                    }
                });
                bytes += content.length;
                sent++;
                if (rate > 0) {
                    due += -Math.log(1 - random.nextDouble()) / rate * 1e9;
                }
            }
            producer.flush();
            last = System.nanoTime();
        }
        double seconds = (last - start) / 1e9;
        int kept = (int) Math.min(sent, room);
        System.out.printf(Locale.ROOT, "{\"count\":%d,\"errors\":%d,\"bytes\":%d,\"seconds\":%.3f,\"per_second\":%.1f,%s,%s}%n",
                answered.get() - failed.get(), failed.get(), bytes, seconds, sent / seconds,
                quantiles("late", late, kept), quantiles("acked", acked, kept));
        System.exit(failed.get() == 0 ? 0 : 1);
    }
}
