//! Settings of plain requests, origins, hosts and the opening handshake.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Sets the maximum size of the body of a plain request, in bytes; a larger one is answered
    /// with 413 before any of it is stored. Default 65,536. A client can make the server hold this
    /// much memory per connection. Without a [`Request`](crate::event::Request) handler no bodies
    /// are accepted.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_body_size = bytes;
        self
    }

    /// Answers health checks at this path, for instance `/health`, on the WebSocket port. GET, HEAD
    /// and OPTIONS get a 200, and a 503 while the server shuts down, [`lame_duck`](Self::lame_duck)
    /// included. Default none. The path is compared literally, without the query.
    ///
    /// The check is for load balancers and supervisors. It is answered before
    /// [`hosts`](Self::hosts) is checked and before a [`Request`](crate::event::Request) handler,
    /// and works without one. HTTP/1.0 and a request without a `Host` header are accepted. A check
    /// that only connects and disconnects is not an error either.
    pub fn health_check(mut self, path: impl Into<String>) -> Self {
        self.config.health_check = Some(path.into().into_boxed_str());
        self
    }

    /// Sets how long health checks fail before a [wind-down](crate::Hub::wind_down) begins, while
    /// clients are still accepted and served. Default zero: the listeners close at once.
    ///
    /// A load balancer notices that a server shuts down at its next health check at the earliest;
    /// until then it sends clients to listeners that are closed. Choose a little more than the
    /// check interval times the number of failures that the load balancer requires.
    /// [`health_check`](Self::health_check) fails by itself; a [`Request`](crate::event::Request)
    /// handler that answers health checks uses
    /// [`Hub::is_shutting_down`](crate::Hub::is_shutting_down).
    ///
    /// The deadline of the wind-down counts from the end of this time; the `Shutdown` event comes
    /// then, too. A second `wind_down` ends the time, and so does `shutdown`.
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.config.lame_duck = time;
        self
    }

    /// Sets how many plain requests are answered on one connection; it closes after the last.
    /// Default 1,000; `usize::MAX` means no limit.
    #[doc(alias = "max_keepalive_requests")]
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.config.max_requests = requests;
        self
    }

    /// Sets how long a connection may wait for its next plain request, from the moment when the
    /// last response has been sent; then it closes. Default 15 s. With zero it closes after the
    /// first response.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.config.keep_alive_timeout = timeout;
        self
    }

    /// Sets the origins that may connect; all others are refused with 403, before the `Origin`
    /// handler is called. Default: all origins are accepted, and the handler alone decides.
    ///
    /// An entry is an origin as browsers write it (`https://example.com`, with the port unless it
    /// is the default of the scheme), or `self` for the host that the request is sent to, `null`
    /// for pages without an origin, `none` for requests without the header, which browsers never
    /// send, or `*` for anything; see [`Origins`](crate::handshake::Origins). Any other entry is an
    /// error of [`build`](Self::build).
    ///
    /// Any web page can make a browser connect to any server, with that server's cookies (RFC 6455,
    /// 10.2). A server that trusts cookies, or the network that it is in, needs this list or the
    /// handler. A server with neither, and without a `Handshake` handler, logs a warning when the
    /// first page of another host connects; `*` says that this is intended. The list does not apply
    /// to plain requests.
    ///
    /// ```
    /// # use wsloop::Server;
    /// let builder = Server::builder().origins(["self", "https://example.com", "none"]);
    /// ```
    pub fn origins<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.origins = Some(entries.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the hosts that the server answers to: names or addresses as in `Host`, with a port, or
    /// without one for any port. Ports 80 and 443 also match requests that name no port. A request
    /// with any other host is answered with 421, also a plain one, before any handler is called.
    /// Default: any host. An entry that is not a host is an error of [`build`](Self::build).
    ///
    /// A page can be loaded from a name that resolves to this server's address afterwards (DNS
    /// rebinding). The browser then considers the page and this server to have the same origin, and
    /// so does the entry `self` of [`origins`](Self::origins). A server on `localhost`, in a
    /// private network, or at any address that others know should list its hosts.
    ///
    /// ```
    /// # use wsloop::Server;
    /// let builder = Server::builder().origins(["self"]).hosts(["localhost:8080", "app.example"]);
    /// ```
    pub fn hosts<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.hosts = Some(entries.into_iter().map(Into::into).collect());
        self
    }

    /// Sets whether the `Handshake` handler is also called for invalid requests: those that ask for
    /// an upgrade and have to be refused, with the reason in
    /// [`error`](crate::handshake::Upgrade::error). The handler can examine such a request, but its
    /// result does not count: the status is that of the error. Default false.
    ///
    /// Data that is not a request at all, or exceeds a limit, causes only the `Error` event.
    #[doc(alias = "handshake_callback")]
    pub fn bad_handshakes(mut self, show: bool) -> Self {
        self.config.bad_handshakes = show;
        self
    }

    /// Sets whether the 101 is handed to the kernel separately, before the messages that the
    /// `Ready` handler sends. Default false: both leave in one write.
    ///
    /// One write is allowed and saves a packet, but some small clients drop data that arrives in
    /// the same read as the 101 (esp-protocols issue 396, zephyr issue 89193). With true they
    /// usually receive it in another packet. TCP does not guarantee that, so a server for such
    /// clients should wait for their first message.
    pub fn separate_switch(mut self, separate: bool) -> Self {
        self.config.separate_switch = separate;
        self
    }

    /// Sets whether the server works without a listener, for a server that only serves connections
    /// that it [adopts](crate::Handle::adopt). Default false: a missing listener is an error of
    /// [`build`](Self::build).
    pub fn headless(mut self, headless: bool) -> Self {
        self.headless = headless;
        self
    }
}
