//! The names that handlers are registered by, what each handler is given, and what it may answer.
//!
//! An event is a unit type: [`Builder::on`](crate::Builder::on) takes it like a name, and the
//! compiler checks its spelling, the handler's arguments and its answer. Every handler takes two
//! arguments: what it acts on (a [`Connection`] or the [`Hub`]), and what happened.
//!
//! For one connection the order is [`Accept`], [`Connect`], [`Origin`], [`Handshake`], [`Ready`],
//! then any of [`Utf8`], [`Binary`], [`Ping`], [`Pong`] and [`Drain`], then [`PeerClose`] if the
//! peer closed, and always [`Disconnect`]: exactly one for each `Connect`. [`Error`] comes before
//! the `Disconnect` that it causes. [`Request`] comes for each plain request before the upgrade, if
//! there is one.
//!
//! A handler returns nothing, or a `Result` whose error is logged and closes its connection with
//! 1011 (RFC 6455, 7.4.1), like a `die` in the Perl servers; a panic does the same. `Connect`,
//! `Origin`, `Handshake` and `Ping` take a [`Verdict`], a `bool`, or a `Result` of one. `Request`
//! takes a [`Response`], an `Option` of one, or a `Result` of either.

mod handlers;
mod outcome;
mod payload;

pub(crate) use handlers::Handler;
pub use handlers::Handlers;
pub use outcome::{Answer, Outcome, Verdict};
pub use payload::{Accepted, Cause, Disconnected, Ticks};

use crate::connection::{Connection, Hub};
use crate::error::Fault;
use crate::handshake::{self, Upgrade};
use crate::plain_http::Response;
use crate::protocol::{CloseFrame, Piece};
use crate::stats::Stats;

/// Something that happens, and that one handler can be registered for.
pub trait Event: Sized + 'static {
    /// What the handler acts on: a [`Connection`], or the [`Hub`].
    type Target<'t>;
    /// What happened.
    type Payload<'p>;
    /// What the handler answers.
    type Output: Answer;

    #[doc(hidden)]
    fn slot(handlers: &mut Handlers) -> &mut Option<Handler<Self>>;

    /// Lends the payload to one of several handlers.
    #[doc(hidden)]
    fn lend<'a, 'p: 'a>(payload: &'a mut Self::Payload<'p>) -> Self::Payload<'a>;
}

/// An event of one connection, which can be set on the connection as well as on the server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is an event of the server",
    label = "register it on the server's builder"
)]
pub trait ConnectionEvent: for<'t> Event<Target<'t> = Connection<'t>> {}

/// Lends a payload: a reborrow where it is exclusive, else a copy.
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

/// Declares the events: the one list of them. A new one needs nothing else than its line here and
/// the place that emits it.
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
    /// A connection was accepted; the first that is heard of it, before TLS and before
    /// [`Connect`]. On the server only.
    Accept in accept: (Hub, Accepted<'p>) -> ();
    /// A binary message came.
    Binary in binary: (Connection, &'p [u8]) -> ();
    /// A client is connected, its opening handshake is to come: the place to set handlers and
    /// limits of this connection. A refusal answers 403 and closes; a TLS client is cut.
    Connect in connect: (Connection, ()) -> Verdict;
    /// The connection is over. Nothing can be sent any more; the connection's own data and address
    /// are still there.
    Disconnect in disconnect: (Connection, Disconnected<'p>) -> ();
    /// What the kernel had not taken has all been sent, or all but
    /// [`drain_at`](crate::Builder::drain_at) bytes. Comes once for each time that more was left
    /// over.
    Drain in drain: (Connection, ()) -> ();
    /// Something went wrong with the connection; its `Disconnect` follows.
    ///
    /// It comes for requests that the server refuses by itself, by the lists of
    /// [`hosts`](crate::Builder::hosts) and [`origins`](crate::Builder::origins) too, and not for
    /// those that a handler refuses. A connection that ends without a byte of a request, by FIN or
    /// RST, is no error: load balancers probe ports like that
    /// ([`Stats::probes`](crate::Stats::probes) counts them).
    Error in error: (Connection, &'p Fault) -> ();
    /// The next bytes of a message that came in several frames or is larger than `max_recv_size`.
    ///
    /// With a handler for it such messages are not collected but handed out as they come, and
    /// neither `max_recv_size` nor `max_fragments` bounds them; a message in one frame of at most
    /// `max_recv_size` still comes whole, as `Utf8` or `Binary`. Pieces of text are checked
    /// together; one may end within a character. Control frames come in between.
    ///
    /// What is compressed is expanded as it comes, in pieces of at most 64 KiB, also where a frame
    /// turns out to hold more than `max_recv_size`. No more is expanded than is handed out: pieces
    /// count against [`turn_share`](crate::Builder::turn_share) with their bytes, and none comes
    /// after [`pause`](Connection::pause) until the connection is resumed.
    Fragment in fragment: (Connection, Piece<'p>) -> ();
    /// The request is a good one and its origin allowed: the place to look at it, to add headers
    /// and cookies, to pick a subprotocol, or to refuse with any HTTP answer. A refusal without
    /// one answers 403. With [`Builder::bad_handshakes`](crate::Builder::bad_handshakes) it also
    /// comes for bad requests, whose [`error`](Upgrade::error) tells what is wrong.
    Handshake in handshake: (Connection, &'p mut Upgrade) -> Verdict;
    /// The request's `Origin` (RFC 6454), `None` if it has none: only browsers send it, and they
    /// always do (RFC 6455, 10.2). A refusal answers 403.
    Origin in origin: (Connection, Option<&'p str>) -> Verdict;
    /// The peer closed: its Close frame, or `None` if the connection ended without one. Unless the
    /// handler closes with a code of its own, the peer's is echoed.
    PeerClose in peer_close: (Connection, Option<CloseFrame<'p>>) -> ();
    /// A ping came. It is answered by a pong with the same payload, unless the handler refuses.
    Ping in ping: (Connection, &'p [u8]) -> Verdict;
    /// A pong came, also those that answer the server's own pings.
    Pong in pong: (Connection, &'p [u8]) -> ();
    /// The opening handshake is done: the first moment to send.
    Ready in ready: (Connection, ()) -> ();
    /// A plain HTTP request came, one that does not ask for an upgrade to `websocket`: its method,
    /// target, headers and body (of `max_body_size` at most). The handler answers it; `None` is a
    /// 404, or a matter for the handler that was [added](crate::Builder::add_on) behind it. A server without this handler answers plain requests with 426, 405 or 400 and closes.
    ///
    /// It is called for every origin: whoever lets a request change something checks
    /// [`origin`](handshake::Request::origin) as for any other web page.
    ///
    /// ```
    /// use wsloop::{Server, event::Request, plain_http::Response};
    ///
    /// let builder = Server::builder().on(Request, |_, request| {
    ///     match (request.method().as_str(), request.path()) {
    ///         ("GET" | "HEAD", "/health") => Some(Response::new(200).body("fine")),
    ///         // Where a WebSocket is expected: 426, with the headers that belong to it.
    ///         (_, "/chat") => Some(Response::new(426)),
    ///         _ => None,
    ///     }
    /// });
    /// ```
    Request in request: (Connection, &'p handshake::Request) -> Option<Response>;
    /// The server goes down, at once or by a [drain](Hub::drain); its clients can still be sent
    /// to. On the server only.
    Shutdown in shutdown: (Hub, ()) -> ();
    /// The event loop starts. On the server only.
    Start in start: (Hub, ()) -> ();
    /// The server went down, and its connections are gone: what it counted, with how many of them
    /// were [cut](Stats::cut). The last event; a server that is dropped before has none. On the
    /// server only.
    Stopped in stopped: (Hub, Stats) -> ();
    /// `tick_period` has passed. On the server only.
    Tick in tick: (Hub, Ticks) -> ();
    /// A text message came.
    Utf8 in utf8: (Connection, &'p str) -> ();
}
