// A uWebSockets server that follows its examples/EchoServer.cpp,
// examples/BroadcastingEchoServer.cpp and, with several threads, examples/EchoServerThreaded.cpp.
// server-uws.rs calls it.

#include <sys/socket.h>

#include <condition_variable>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "App.h"

namespace {

struct PerSocketData {};

constexpr const char *EVERYBODY = "everybody";

// Where messages go; the same numbers as in server-uws.rs.
enum Mode { ECHO = 0, BROADCAST = 1, TOPICS = 2 };

struct Settings {
    const char *host;
    int port;
    int mode;
    bool shared, dedicated;
    unsigned max_message;
    unsigned loops;
    bool greet;
};

// The threads of a server, each with an App on an event loop of its own.
template <class App> struct Threads {
    struct Thread {
        uWS::Loop *loop;
        App *app;
    };
    std::vector<Thread> threads;
    std::mutex mutex;
    std::condition_variable progress;
    // The number of threads that have tried to listen, and whether one of them failed.
    unsigned started = 0;
    bool failed = false;

    explicit Threads(unsigned count) : threads(count) {}

    // Enters a thread. Waits until all are entered; returns whether all of them listen.
    bool enter(unsigned number, Thread thread, bool listens) {
        std::unique_lock lock(mutex);
        threads[number] = thread;
        failed |= !listens;
        started++;
        progress.notify_all();
        progress.wait(lock, [&]() { return started == threads.size(); });
        return !failed;
    }

    // Publishes to the subscribers of this thread, then to those of the others.
    void publish(App &own, std::string_view topic, std::string_view message, uWS::OpCode code,
                 bool compress) {
        own.publish(topic, message, code, compress);
        for (auto [loop, app] : threads) {
            if (app != &own) {
                loop->defer([app, topic = std::string(topic), message = std::string(message), code,
                             compress]() { app->publish(topic, message, code, compress); });
            }
        }
    }
};

// Runs the App of one thread.
template <class App>
void serve(App app, unsigned number, Threads<App> &all, const Settings &settings) {
    bool compress = settings.shared || settings.dedicated;
    typename App::template WebSocketBehavior<PerSocketData> behavior = {
        .compression = settings.dedicated ? uWS::CompressOptions(uWS::DEDICATED_COMPRESSOR |
                                                                 uWS::DEDICATED_DECOMPRESSOR)
                       : settings.shared ? uWS::CompressOptions(uWS::SHARED_COMPRESSOR |
                                                                uWS::SHARED_DECOMPRESSOR)
                                         : uWS::DISABLED,
        .maxPayloadLength = settings.max_message,
        .idleTimeout = 0,
        .maxBackpressure = 0, // no limit
        .closeOnBackpressureLimit = false,
        .resetIdleTimeoutOnSend = false,
        .sendPingsAutomatically = false,
    };
    if (settings.mode == TOPICS) {
        behavior.message = [&](auto *ws, std::string_view message, uWS::OpCode code) {
            if (message.starts_with('+')) {
                ws->subscribe(message.substr(1));
            } else if (message.starts_with('-')) {
                ws->unsubscribe(message.substr(1));
            } else {
                all.publish(app, message.substr(0, message.find(' ')), message, code, compress);
            }
        };
    } else if (settings.mode == BROADCAST) {
        behavior.message = [&](auto *, std::string_view message, uWS::OpCode code) {
            app.publish(EVERYBODY, message, code, compress);
        };
    } else {
        behavior.message = [compress](auto *ws, std::string_view message, uWS::OpCode code) {
            ws->send(message, code, compress);
        };
    }
    if (settings.greet) {
        behavior.open = [number](auto *ws) {
            ws->send("loop " + std::to_string(number), uWS::OpCode::TEXT);
        };
    } else if (settings.mode == BROADCAST) {
        behavior.open = [](auto *ws) { ws->subscribe(EVERYBODY); };
    }
    app.template ws<PerSocketData>("/*", std::move(behavior));
    // By default uSockets sets SO_REUSEPORT, so that all threads can listen on one port.
    int options = settings.loops > 1 ? LIBUS_LISTEN_DEFAULT : LIBUS_LISTEN_EXCLUSIVE_PORT;
    int port = 0;
    app.listen(settings.host, settings.port, options, [&](us_listen_socket_t *listener) {
        if (listener) {
            // uSockets uses an accept queue of 512; a second call of listen() lengthens it.
            auto *socket = (us_socket_t *) listener;
            ::listen((int) (intptr_t) us_socket_get_native_handle(0, socket), 4096);
            port = us_socket_local_port(0, socket);
        }
    });
    if (!all.enter(number, {uWS::Loop::get(), &app}, port != 0)) {
        return;
    }
    if (number == 0) {
        std::cout << "listening " << settings.host << ":" << port << std::endl;
    }
    app.run();
}

// Runs all threads; `make` makes the App of a thread, on that thread.
template <class App, class Make> bool run(Make make, const Settings &settings) {
    Threads<App> all(settings.loops);
    std::vector<std::thread> others;
    for (unsigned number = 1; number < settings.loops; number++) {
        others.emplace_back([&, number]() { serve<App>(make(), number, all, settings); });
    }
    serve<App>(make(), 0, all, settings);
    for (auto &other : others) {
        other.join();
    }
    return !all.failed;
}

} // namespace

// Prints on standard output that it listens, and serves for ever. Returns false if it cannot
// listen. Without TLS, `chain` and `key` are null.
extern "C" bool wsloop_peers_uws(const char *host, int port, const char *chain, const char *key,
                                 int mode, bool shared, bool dedicated, unsigned max_message,
                                 unsigned loops, bool greet) {
    Settings settings = {host, port, mode, shared, dedicated, max_message, loops, greet};
    if (chain) {
        uWS::SocketContextOptions files = {.key_file_name = key, .cert_file_name = chain};
        if (uWS::SSLApp(files).constructorFailed()) {
            return false;
        }
        return run<uWS::SSLApp>([&]() { return uWS::SSLApp(files); }, settings);
    }
    return run<uWS::App>([]() { return uWS::App(); }, settings);
}
