//! The events that handlers are registered for, with their arguments and return values.
//!
//! An event is a unit type. [`Builder::on`](crate::Builder::on) takes it like a name, and the
//! compiler checks its spelling, the handler's arguments and its return value. Every handler has
//! two arguments: the object that it acts on (a [`Connection`] or the [`Hub`]), and the data of the
//! event.
//!
//! The order for one connection is [`Accept`], [`Connect`], [`Origin`], [`Handshake`], [`Ready`],
//! then any of [`Utf8`], [`Binary`], [`Fragment`], [`Ping`], [`Pong`] and [`Drain`], then
//! [`PeerClose`] if the peer has closed, and always [`Disconnect`]: exactly one for each `Connect`.
//! [`Error`] comes before the `Disconnect` that it causes. [`Request`] comes for each plain request
//! before the upgrade.
//!
//! A handler returns nothing, or a `Result`. An error is logged and closes the connection with 1011
//! (RFC 6455, 7.4.1), like `die` in the Perl servers; so does a panic. `Connect`, `Origin`,
//! `Handshake` and `Ping` take a [`Verdict`], a `bool`, or a `Result` of one. `Request` takes a
//! [`Response`], an `Option` of one, or a `Result` of either.

mod handlers;
mod outcome;
mod payload;

pub(crate) use handlers::Handler;
pub use handlers::Handlers;
pub use outcome::{Answer, Outcome, Verdict};
pub use payload::{Accepted, Cause, Disconnected, Lost, Ticks};

use crate::connection::{Connection, Hub};
use crate::error::Fault;
use crate::handshake::{self, Upgrade};
use crate::plain_http::Response;
use crate::protocol::{CloseFrame, Piece};
use crate::stats::Stats;
use crate::topics::Recovery;

/// An event that a handler can be registered for.
pub trait Event: sealed::Sealed + Sized + 'static {
    /// The object that the handler acts on: a [`Connection`], or the [`Hub`].
    type Target<'t>;
    /// The data of the event.
    type Payload<'p>;
    /// The result of the handler.
    type Output: Answer;

    #[doc(hidden)]
    fn slot(handlers: &mut Handlers) -> &mut Option<Handler<Self>>;

    /// Lends the payload to one of several handlers.
    #[doc(hidden)]
    fn lend<'a, 'p: 'a>(payload: &'a mut Self::Payload<'p>) -> Self::Payload<'a>;
}

/// An event of one connection, whose handler can be registered on the connection as well as on the
/// server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is an event of the server",
    label = "register it on the server's builder"
)]
pub trait ConnectionEvent: for<'t> Event<Target<'t> = Connection<'t>> {}

mod sealed {
    /// Keeps the events to those of this module, so that a new one breaks no program.
    #[expect(unnameable_types, reason = "it seals the events")]
    pub trait Sealed {}
}

/// Lends a payload: a reborrow of an exclusive reference, otherwise a copy.
macro_rules! lend {
    ($payload:ident, & $p:lifetime mut $type:ty) => {
        &mut **$payload
    };
    ($payload:ident, $($type:tt)+) => {
        *$payload
    };
}

/// Implements [`ConnectionEvent`] for an event whose handler acts on a [`Connection`].
macro_rules! connection_event {
    (Connection, $name:ident) => {
        impl ConnectionEvent for $name {}
    };
    (Hub, $name:ident) => {};
}

/// Declares the events; this is the only list of them. A new event needs a line here and the place
/// that emits it.
macro_rules! events {
    ($($(#[$docs:meta])* $name:ident in $slot:ident:
        ($target:ident, $($payload:tt)+) -> $output:ty;)*) => {
        $(
            $(#[$docs])*
            #[doc = ""]
            #[doc = concat!(
                "Its handler: `FnMut(&mut ", stringify!($target), ", ", stringify!($($payload)+),
                ") -> ", stringify!($output), "`.",
            )]
            #[expect(clippy::exhaustive_structs, reason = "a name")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl sealed::Sealed for $name {}

            impl Event for $name {
                type Target<'t> = $target<'t>;
                type Payload<'p> = $($payload)+;
                type Output = $output;

                fn slot(handlers: &mut Handlers) -> &mut Option<Handler<Self>> {
                    &mut handlers.slots.$slot
                }

                fn lend<'a, 'p: 'a>(payload: &'a mut Self::Payload<'p>) -> Self::Payload<'a> {
                    lend!(payload, $($payload)+)
                }
            }

            connection_event!($target, $name);
        )*

        /// One handler for each event.
        #[derive(Default)]
        struct Slots {
            $($slot: Option<Handler<$name>>,)*
        }

        impl Slots {
            /// Overwrites each slot that `newer` fills.
            fn merge(&mut self, newer: Self) {
                $(
                    if newer.$slot.is_some() {
                        self.$slot = newer.$slot;
                    }
                )*
            }
        }
    };
}

events! {
    /// A connection was accepted. This is its first event, before TLS and before [`Connect`]. On
    /// the server only.
    #[doc(alias = "on_accept")]
    #[doc(alias = "new_connection")]
    Accept in accept: (Hub, Accepted<'p>) -> ();
    /// A binary message has arrived.
    #[doc(alias = "on_binary")]
    #[doc(alias = "message_event")]
    Binary in binary: (Connection, &'p [u8]) -> ();
    /// A client has connected, and its opening handshake has not begun: the place to set handlers
    /// and limits of this connection. A refusal is answered with 403 and closes the connection; a
    /// TLS client is cut.
    #[doc(alias = "on_connect")]
    Connect in connect: (Connection, ()) -> Verdict;
    /// The connection has ended. Nothing can be sent any more; the connection's data, address and
    /// topics are still available.
    #[doc(alias = "on_disconnect")]
    #[doc(alias = "close_event")]
    #[doc(alias = "disconnection_event")]
    Disconnect in disconnect: (Connection, Disconnected<'p>) -> ();
    /// The kernel has accepted all queued data, or all but [`drain_at`](crate::Builder::drain_at)
    /// bytes. The event comes once for each time that the kernel left more than that in the queue.
    Drain in drain: (Connection, ()) -> ();
    /// The connection has failed; its `Disconnect` follows.
    ///
    /// The event also comes for requests that the server itself refuses, including those refused by
    /// the lists of [`hosts`](crate::Builder::hosts) and [`origins`](crate::Builder::origins), and
    /// not for those that a handler refuses. A connection that ends by FIN or RST before it sends a
    /// byte of a request is not an error, because load balancers probe ports in this way
    /// ([`Stats::probes`](crate::Stats::probes) counts these).
    #[doc(alias = "error_event")]
    Error in error: (Connection, &'p Fault) -> ();
    /// The next bytes of a message that consists of several frames or is larger than
    /// `max_recv_size`.
    ///
    /// With a handler for this event such messages are not collected but delivered as they arrive,
    /// and neither `max_recv_size` nor `max_fragments` limits them. A message in one frame of at
    /// most `max_recv_size` still comes whole, as `Utf8` or `Binary`. The pieces of a text are
    /// validated together; a piece may end within a character. Control frames are delivered in
    /// between.
    ///
    /// Compressed data is expanded as it arrives, in pieces of at most 64 KiB. This includes a
    /// single frame that expands to more than `max_recv_size`. No more is expanded than is
    /// delivered: pieces count against [`turn_bytes`](crate::Builder::turn_bytes) with their bytes,
    /// and after [`pause`](Connection::pause) none is delivered until the connection is resumed.
    #[doc(alias = "get_frames")]
    Fragment in fragment: (Connection, Piece<'p>) -> ();
    /// Messages of a topic were lost on the way to this loop, from another loop or process: see
    /// [`backplane`](crate::backplane). The event comes at the end of a turn, for a topic that has
    /// subscribers here. An application can load the current state from elsewhere, or tell its
    /// clients to do so.
    Gap in gap: (Hub, Lost<'p>) -> ();
    /// The request is valid and its origin is allowed: the place to examine it, to add headers and
    /// cookies, to choose a subprotocol, or to refuse with any HTTP response. A refusal without a
    /// response is a 403. With [`Builder::bad_handshakes`](crate::Builder::bad_handshakes) the
    /// event also comes for invalid requests, whose [`error`](Upgrade::error) is the reason.
    #[doc(alias = "on_handshake")]
    #[doc(alias = "handshake_callback")]
    Handshake in handshake: (Connection, &'p mut Upgrade) -> Verdict;
    /// A topic, whose name is the data, has its first subscriber. The event comes at the end of the
    /// turn of the subscription, unless the topic has no subscriber any more by then.
    Occupied in occupied: (Hub, &'p str) -> ();
    /// The request's `Origin` (RFC 6454); `None` if there is none. Browsers always send it, other
    /// clients often do not (RFC 6455, 10.2). A refusal is a 403.
    #[doc(alias = "on_origin")]
    Origin in origin: (Connection, Option<&'p str>) -> Verdict;
    /// The peer has closed: its Close frame, or `None` if the stream ended without one. Unless the
    /// handler closes with a code of its own, the peer's code is echoed.
    #[doc(alias = "peer_close_event")]
    PeerClose in peer_close: (Connection, Option<CloseFrame<'p>>) -> ();
    /// A ping has arrived. It is answered by a pong with the same payload, unless the handler
    /// refuses.
    #[doc(alias = "on_ping")]
    #[doc(alias = "ping_event")]
    Ping in ping: (Connection, &'p [u8]) -> Verdict;
    /// A pong has arrived, including those that answer the server's own pings.
    #[doc(alias = "on_pong")]
    #[doc(alias = "pong_event")]
    Pong in pong: (Connection, &'p [u8]) -> ();
    /// The opening handshake is complete: the first moment at which messages can be sent.
    #[doc(alias = "on_ready")]
    #[doc(alias = "connection_event")]
    Ready in ready: (Connection, ()) -> ();
    /// The answer to a subscription that returned [`Recovery::Pending`](crate::Recovery::Pending):
    /// the name of the topic, and the outcome. What was missed has been sent. The event does not
    /// come for a connection that has unsubscribed meanwhile.
    Recovered in recovered: (Connection, (&'p str, Recovery)) -> ();
    /// A plain HTTP request has arrived, one without an upgrade to `websocket`: its method, target,
    /// headers and body (at most `max_body_size`). The handler returns the response. `None` is a
    /// 404, or leaves the request to the next handler that was [added](crate::Builder::add_on). A
    /// server without this handler answers plain requests with 426, 405 or 400 and closes the
    /// connection.
    ///
    /// The handler is called for requests of every origin. If a request changes something, check
    /// [`origin`](handshake::Request::origin) as on any other web server.
    ///
    /// ```
    /// use wsloop::{Server, event::Request, plain_http::Response};
    ///
    /// let builder = Server::builder().on(Request, |_, request| {
    ///     match (request.method().as_str(), request.path()) {
    ///         ("GET" | "HEAD", "/health") => Some(Response::new(200).body("fine")),
    ///         // A WebSocket is expected here: 426, with the headers that belong to it.
    ///         (_, "/chat") => Some(Response::new(426)),
    ///         _ => None,
    ///     }
    /// });
    /// ```
    #[doc(alias = "request_event")]
    Request in request: (Connection, &'p handshake::Request) -> Option<Response>;
    /// The server shuts down, at once or by [`wind_down`](Hub::wind_down); messages can still be
    /// sent. On the server only.
    #[doc(alias = "on_shutdown")]
    Shutdown in shutdown: (Hub, ()) -> ();
    /// The event loop starts. On the server only.
    Start in start: (Hub, ()) -> ();
    /// The server has shut down, and its connections have ended. The data is its counters, with the
    /// number of connections that were [cut](Stats::cut). This is the last event; a server that is
    /// dropped earlier has none. On the server only.
    Stopped in stopped: (Hub, Stats) -> ();
    /// `tick_period` has passed. On the server only.
    #[doc(alias = "on_tick")]
    Tick in tick: (Hub, Ticks) -> ();
    /// A text message has arrived.
    #[doc(alias = "on_utf8")]
    #[doc(alias = "message_event")]
    Utf8 in utf8: (Connection, &'p str) -> ();
    /// A topic, whose name is the data, has lost its last subscriber. The event comes at the end of
    /// the turn, unless the topic has a subscriber again by then.
    Vacated in vacated: (Hub, &'p str) -> ();
}
