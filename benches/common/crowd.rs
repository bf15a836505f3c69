//! A server with many subscribers, without a network.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use wsloop::event::Ready;
use wsloop::handshake::Parser;
use wsloop::{Builder, ConnectionId, Limits, Server};

use crate::common::BROWSER;

/// The topic that all connections of a [`Crowd`] are subscribed to.
pub(crate) const TOPIC: &str = "prices.fx";

/// A server that has adopted connections.
pub(crate) struct Crowd {
    pub(crate) server: Server,
    pub(crate) ids: Vec<ConnectionId>,
}

impl Crowd {
    /// Returns a server with `count` connections, all of them subscribed to [`TOPIC`]. Their
    /// clients have left, which the server has not noticed yet, so that each connection takes only
    /// one descriptor.
    pub(crate) fn new(count: usize, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let streams = (0..count).map(|_| UnixStream::pair().expect("descriptors are left").0);
        Self::of(streams, settings)
    }

    /// Returns a server with one connection, and its client.
    #[allow(dead_code, reason = "not all benches need it")]
    pub(crate) fn of_one(settings: impl FnOnce(Builder) -> Builder) -> (Self, UnixStream) {
        let (stream, client) = UnixStream::pair().expect("descriptors are left");
        (Self::of([stream], settings), client)
    }

    fn of(
        streams: impl IntoIterator<Item = UnixStream>,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let limits = Limits::default();
        let request = Parser::new(&limits).parse(BROWSER.as_bytes());
        let (request, _) = request.expect("it is valid").expect("it is complete");
        let builder = Server::builder()
            .headless(true)
            .on(Ready, |conn, ()| conn.subscribe(TOPIC).map(drop));
        let mut server = settings(builder).build().expect("the settings are valid");
        let mut count = 0;
        for stream in streams {
            count += 1;
            let mut hub = server.hub();
            hub.adopt_upgraded(stream, [], request.clone(), None);
        }
        let turn = server.turn(Some(Duration::ZERO));
        turn.expect("the event queue works");
        let ids: Vec<_> = server.hub().subscribers(TOPIC).collect();
        assert_eq!(ids.len(), count, "all are subscribed");
        Self { server, ids }
    }
}
