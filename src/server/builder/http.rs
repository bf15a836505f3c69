//! The settings of what comes before a WebSocket, or instead of it: plain requests, origins.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Sets the size of the largest body of a plain request, in bytes; a larger one is answered with
    /// 413, before anything of it is kept. Default 65,536. A client can make the server hold that
    /// much for each connection. Without a [`Request`](crate::event::Request) handler there are no
    /// bodies.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.config.limits.max_body_size = bytes;
        self
    }

    /// Answers health checks at this path, `/health` for instance, on the WebSocket port: GET, HEAD
    /// and OPTIONS get a 200, and a 503 from when the server goes down, [`lame_duck`](Self::lame_duck)
    /// included. Default none. The path is compared as it is, without the query.
    ///
    /// It is for balancers and supervisors. It is answered before [`hosts`](Self::hosts) is looked at
    /// and before a [`Request`](crate::event::Request) handler, and without one as well. HTTP/1.0 and
    /// a request without a `Host` header will do. A check that only connects and leaves is no error
    /// either.
    pub fn health_check(mut self, path: impl Into<String>) -> Self {
        self.config.health_check = Some(path.into().into_boxed_str());
        self
    }

    /// Sets how long health checks fail before a [drain](crate::Hub::drain) begins, while clients are
    /// still accepted and served. Default zero: a drain closes the listeners at once.
    ///
    /// A balancer notices a server that goes down at its next health check at the earliest; until then
    /// it sends clients to listeners that are closed. Choose a little more than the time between two
    /// checks times the number of those that have to fail. [`health_check`](Self::health_check) fails
    /// by itself; a [`Request`](crate::event::Request) handler that answers health checks asks
    /// [`Hub::is_shutting_down`](crate::Hub::is_shutting_down).
    ///
    /// The deadline of the drain counts from the end of this time, and the `Shutdown` event comes
    /// then. A second `drain` ends the time, and so does `shutdown`.
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.config.lame_duck = time;
        self
    }

    /// Sets how many plain requests are answered on one connection; behind the last it ends. Default
    /// 1,000; `usize::MAX` means no limit.
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.config.max_requests = requests;
        self
    }

    /// Sets how long a connection may wait for its next plain request, from when its last answer
    /// has been sent; then it ends. Default 15 s. Zero ends it behind the first answer.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.config.keep_alive_timeout = timeout;
        self
    }

    /// Sets which origins may connect; all others are refused with 403, before the `Origin` handler
    /// is asked. Default: all may, and the handler decides alone.
    ///
    /// An entry is an origin as browsers write it (`https://example.com`, with the port unless it is
    /// the scheme's own), or `self` for the host that the request is sent to, `null` for pages
    /// without an origin, `none` for requests without one, which no browser sends, or `*` for
    /// anything; see [`Origins`](crate::handshake::Origins). What is no entry is an error of
    /// [`build`](Self::build).
    ///
    /// Any web page can make a browser connect to any server, with that server's cookies
    /// (RFC 6455, 10.2): a server that trusts cookies, or the network that it is in, needs this or
    /// the handler. One that has neither, nor a `Handshake` handler, logs a warning when it is built;
    /// `*` says that it is meant so. Plain requests are not concerned.
    ///
    /// ```
    /// # use wsloop::Server;
    /// let builder = Server::builder().origins(["self", "https://example.com", "none"]);
    /// ```
    pub fn origins<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.origins = Some(entries.into_iter().map(Into::into).collect());
        self
    }

    /// Sets which hosts the server answers to: names or addresses as in `Host`, with a port, or
    /// without for any. Ports 80 and 443 are those of requests that name none. A request that names another is answered with 421, also a plain one, before
    /// any handler is asked. Default: any. What is no host is an error of [`build`](Self::build).
    ///
    /// A page can be loaded from a name that becomes this server's address afterwards (DNS
    /// rebinding): for the browser they are of one origin then, and `self` among the
    /// [`origins`](Self::origins) takes it for that, too. A server that is reached by addresses that
    /// others know, on `localhost` or in a private network, should name its hosts.
    ///
    /// ```
    /// # use wsloop::Server;
    /// let builder = Server::builder().origins(["self"]).hosts(["localhost:8080", "app.example"]);
    /// ```
    pub fn hosts<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.hosts = Some(entries.into_iter().map(Into::into).collect());
        self
    }

    /// Sets whether the `Handshake` handler is shown bad requests, too: those that ask for an
    /// upgrade and may not have it, with [`error`](crate::handshake::Upgrade::error) telling why.
    /// It can look at them, but what it answers does not count: the status is that of the error.
    /// Default false.
    ///
    /// What is no request at all, or exceeds a limit, is told by `Error` alone.
    pub fn bad_handshakes(mut self, show: bool) -> Self {
        self.config.bad_handshakes = show;
        self
    }

    /// Sets whether the 101 is handed to the kernel by itself, before what the `Ready` handler sends.
    /// Default false: both leave in one write.
    ///
    /// One write is lawful and saves a packet, but some small clients drop what comes behind the 101
    /// in the same read (esp-protocols issue 396, zephyr issue 89193). With true they mostly get it in
    /// another packet; TCP promises nothing of the kind, so a server for such clients had better wait
    /// for their first message.
    pub fn separate_switch(mut self, separate: bool) -> Self {
        self.config.separate_switch = separate;
        self
    }

    /// Sets whether the server may do without a listener, for one that only serves what it
    /// [adopts](crate::Handle::adopt). Default false: no listener is an error of
    /// [`build`](Self::build).
    pub fn headless(mut self, headless: bool) -> Self {
        self.headless = headless;
        self
    }
}
