// A uWebSockets server that follows its examples/EchoServer.cpp and
// examples/BroadcastingEchoServer.cpp. server-uws.rs calls it.

#include <sys/socket.h>

#include <iostream>

#include "App.h"

namespace {

struct PerSocketData {};

constexpr const char *EVERYBODY = "everybody";

// Where messages go; the same numbers as in server-uws.rs.
enum Mode { ECHO = 0, BROADCAST = 1, TOPICS = 2 };

template <class App>
bool serve(App app, const char *host, int port, int mode, bool shared, bool dedicated,
           unsigned max_message) {
    bool compress = shared || dedicated;
    typename App::template WebSocketBehavior<PerSocketData> behavior = {
        .compression = dedicated ? uWS::CompressOptions(uWS::DEDICATED_COMPRESSOR |
                                                        uWS::DEDICATED_DECOMPRESSOR)
                       : shared  ? uWS::CompressOptions(uWS::SHARED_COMPRESSOR |
                                                        uWS::SHARED_DECOMPRESSOR)
                                 : uWS::DISABLED,
        .maxPayloadLength = max_message,
        .idleTimeout = 0,
        .maxBackpressure = 0, // no limit
        .closeOnBackpressureLimit = false,
        .resetIdleTimeoutOnSend = false,
        .sendPingsAutomatically = false,
    };
    if (mode == TOPICS) {
        behavior.message = [&app, compress](auto *ws, std::string_view message, uWS::OpCode code) {
            if (message.starts_with('+')) {
                ws->subscribe(message.substr(1));
            } else if (message.starts_with('-')) {
                ws->unsubscribe(message.substr(1));
            } else {
                app.publish(message.substr(0, message.find(' ')), message, code, compress);
            }
        };
    } else if (mode == BROADCAST) {
        behavior.open = [](auto *ws) { ws->subscribe(EVERYBODY); };
        behavior.message = [&app, compress](auto *, std::string_view message, uWS::OpCode code) {
            app.publish(EVERYBODY, message, code, compress);
        };
    } else {
        behavior.message = [compress](auto *ws, std::string_view message, uWS::OpCode code) {
            ws->send(message, code, compress);
        };
    }
    bool listens = false;
    app.template ws<PerSocketData>("/*", std::move(behavior));
    app.listen(host, port, LIBUS_LISTEN_EXCLUSIVE_PORT, [&](us_listen_socket_t *listener) {
        if (listener) {
            listens = true;
            // uSockets uses an accept queue of 512; a second call of listen() lengthens it.
            auto *socket = (us_socket_t *) listener;
            ::listen((int) (intptr_t) us_socket_get_native_handle(0, socket), 4096);
            std::cout << "listening " << host << ":" << us_socket_local_port(0, socket) << std::endl;
        }
    });
    app.run();
    return listens;
}

} // namespace

// Prints on standard output that it listens, and serves for ever. Returns false if it cannot
// listen. Without TLS, `chain` and `key` are null.
extern "C" bool wsloop_peers_uws(const char *host, int port, const char *chain, const char *key,
                                 int mode, bool shared, bool dedicated,
                                 unsigned max_message) {
    if (chain) {
        uWS::SSLApp app({.key_file_name = key, .cert_file_name = chain});
        if (app.constructorFailed()) {
            return false;
        }
        return serve(std::move(app), host, port, mode, shared, dedicated, max_message);
    }
    return serve(uWS::App(), host, port, mode, shared, dedicated, max_message);
}
