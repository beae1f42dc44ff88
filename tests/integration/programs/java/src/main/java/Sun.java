// SPDX-License-Identifier: Apache-2.0
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/** The JDK's own server: Sun OUT PORT LOG UPSTREAM [PKCS12]. OUT, how /call/... asks the upstream: url (HttpURLConnection) or client (HttpClient). */
public final class Sun {
    private static Log log;
    private static String out, upstream;
    private static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private static byte[] ask(String path, int[] status) throws IOException, InterruptedException {
        if (out.equals("client")) {
            var r = client.send(HttpRequest.newBuilder(URI.create(upstream + path)).build(), HttpResponse.BodyHandlers.ofByteArray());
            status[0] = r.statusCode();
            return r.body();
        }
        var c = (HttpURLConnection) URI.create(upstream + path).toURL().openConnection();
        status[0] = c.getResponseCode();
        return (status[0] < 400 ? c.getInputStream() : c.getErrorStream()).readAllBytes();
    }

    private static void serve(HttpExchange x) throws IOException {
        long begun = System.nanoTime();
        byte[] asked = x.getRequestBody().readAllBytes(), body;
        String path = x.getRequestURI().getPath();
        String[] words = path.split("/");
        int[] status = { 200 };
        try {
            switch (words[1]) {
            case "size" -> body = new byte[Integer.parseInt(words[2])];
            case "status" -> {
                status[0] = Integer.parseInt(words[2]);
                body = "status".getBytes();
            }
            case "echo" -> body = asked;
            case "call" -> body = ask("/wait" + path.substring(5), status);
            default -> {
                status[0] = 404;
                body = "none".getBytes();
            }
            }
        } catch (InterruptedException e) {
            throw new IOException(e);
        }
        x.sendResponseHeaders(status[0], body.length == 0 ? -1 : body.length);
        x.getResponseBody().write(body);
        x.close();
        log.write(x.getRequestMethod(), path, status[0], asked.length, body.length, begun);
    }

    public static void main(String[] args) throws Exception {
        out = args[0];
        upstream = args[3];
        log = new Log(args[2]);
        var at = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1]));
        HttpServer server;
        if (args.length > 4) {
            var keys = KeyStore.getInstance("PKCS12");
            keys.load(new FileInputStream(args[4]), "secret".toCharArray());
            var factory = KeyManagerFactory.getInstance("SunX509");
            factory.init(keys, "secret".toCharArray());
            var context = SSLContext.getInstance("TLS");
            context.init(factory.getKeyManagers(), null, null);
            var secure = HttpsServer.create(at, 512);
            secure.setHttpsConfigurator(new HttpsConfigurator(context));
            server = secure;
        } else
            server = HttpServer.create(at, 512);
        server.createContext("/", Sun::serve);
        server.setExecutor(Executors.newFixedThreadPool(64));
        server.start();
    }
}
