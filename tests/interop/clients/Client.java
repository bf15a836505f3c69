// The client of `java.net.http`, as the JDK brings it.

import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Client implements WebSocket.Listener {
    static final long LIMIT = 30;
    static String base, id;
    static HttpClient http;

    final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
    final StringBuilder text = new StringBuilder();
    ByteBuffer bytes = ByteBuffer.allocate(2 << 20);
    WebSocket socket;

    interface Check {
        String run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        id = arguments[2];
        http = HttpClient.newBuilder().sslContext(trusting(arguments[1])).build();
        check("text", () -> {
            Client client = ready("text", "/");
            client.socket.sendText("grüße 🦀", true).join();
            expect(client.next(), "grüße 🦀");
            return "";
        });
        check("binary", () -> {
            byte[] sent = new byte[256];
            for (int at = 0; at < sent.length; at++) {
                sent[at] = (byte) at;
            }
            return echoed("binary", sent);
        });
        check("large", () -> {
            byte[] sent = new byte[1 << 20];
            for (int at = 0; at < sent.length; at++) {
                sent[at] = (byte) (at * 7 + (at >> 8) * 13);
            }
            return echoed("large", sent);
        });
        check("fragments", () -> {
            Client client = ready("fragments", "/fragments");
            client.socket.sendText("ab", false).join();
            client.socket.sendText("cd", false).join();
            client.socket.sendText("ef", true).join();
            expect(client.next(), "3 pieces, 6 bytes");
            return "";
        });
        System.out.println("compression\tnone\tit has none");
        check("ping", () -> {
            Client client = ready("ping", "/");
            client.socket.sendPing(ByteBuffer.wrap("hello?".getBytes())).join();
            expect(client.next(), "onPong hello?");
            return "";
        });
        check("pong", () -> {
            Client client = ready("pong", "/");
            client.socket.sendText("/ping are you there?", true).join();
            expect(client.next(), "pong are you there?");
            return "";
        });
        check("close", () -> {
            Client client = ready("close", "/");
            client.socket.sendClose(4002, "bye").join();
            expect(client.next(), "onClose 4002 bye");
            return "";
        });
        check("closed", () -> {
            Client client = ready("closed", "/");
            client.socket.sendText("/close 4001 enough", true).join();
            expect(client.next(), "onClose 4001 enough");
            return "";
        });
        check("refusal", () -> {
            try {
                new Client().open("/refused?id=" + id + ".refusal");
                throw new Exception("it opened");
            } catch (CompletionException error) {
                if (error.getCause() instanceof WebSocketHandshakeException refused) {
                    expect(refused.getResponse().statusCode(), 403);
                    return "";
                }
                throw error;
            }
        });
        System.exit(0);
    }

    static SSLContext trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream file = new FileInputStream(authority)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static void check(String name, Check action) {
        try {
            System.out.println(name + "\tyes\t" + action.run());
        } catch (Throwable error) {
            System.out.println(name + "\tno\t" + error.toString().replaceAll("\\s+", " "));
        }
    }

    static void expect(Object found, Object wanted) throws Exception {
        if (!wanted.equals(found)) {
            throw new Exception(found + " and not " + wanted);
        }
    }

    static String echoed(String name, byte[] sent) throws Exception {
        Client client = ready(name, "/");
        client.socket.sendBinary(ByteBuffer.wrap(sent), true).join();
        if (!Arrays.equals((byte[]) client.next(), sent)) {
            throw new Exception("other bytes come back");
        }
        return "";
    }

    static Client ready(String name, String path) throws Exception {
        Client client = new Client();
        client.open(path + "?id=" + id + "." + name);
        expect(client.next(), "welcome");
        expect(client.socket.getSubprotocol(), "interop");
        return client;
    }

    void open(String path) {
        socket = http.newWebSocketBuilder().subprotocols("interop").buildAsync(URI.create(base + path), this).join();
    }

    Object next() throws Exception {
        Object event = events.poll(LIMIT, TimeUnit.SECONDS);
        if (event == null) {
            throw new Exception("nothing comes");
        }
        return event;
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
        text.append(part);
        if (last) {
            events.add(text.toString());
            text.setLength(0);
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer part, boolean last) {
        bytes.put(part);
        if (last) {
            events.add(Arrays.copyOf(bytes.array(), bytes.position()));
            bytes.clear();
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onPong(WebSocket socket, ByteBuffer message) {
        byte[] payload = new byte[message.remaining()];
        message.get(payload);
        events.add("onPong " + new String(payload));
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        events.add("onClose " + code + " " + reason);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        events.add("onError " + error);
    }
}
