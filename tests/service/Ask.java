import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.stream.IntStream;

/** Asks a server as the JDK's own client does unless it is told otherwise: each first request offers HTTP/2. */
class Ask {
    public static void main(String[] arguments) throws Exception {
        URI events = URI.create(arguments[0] + "/v1/events");
        String event = "{\"type\": \"view\", \"user_id\": \"ann\", \"item_id\": \"mug\"}";
        byte[] bytes = event.getBytes(StandardCharsets.UTF_8);
        for (BodyPublisher body : new BodyPublisher[] {
            BodyPublishers.ofString(event),
            // Without a length it is sent in chunks.
            BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(bytes)),
        }) {
            HttpClient client = HttpClient.newHttpClient();
            HttpRequest request = HttpRequest.newBuilder(events)
                .header("Content-Type", "application/json").POST(body).build();
            for (int number : IntStream.range(0, 3).toArray()) {
                var answer = client.send(request, BodyHandlers.ofString());
                System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
            }
            var many = IntStream.range(0, 8).mapToObj(n -> client.sendAsync(request, BodyHandlers.ofString())).toList();
            for (var each : many) {
                System.out.println(each.get().statusCode() + " " + each.get().version() + " " + each.get().body());
            }
        }
    }
}
