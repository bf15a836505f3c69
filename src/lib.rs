//! A WebSocket server on one event loop: as fast as the kernel allows, strict about RFC 6455, and
//! as pleasant to write for as the Perl servers that it succeeds.
//!
//! ```no_run
//! use wsloop::{Server, event::{Binary, Disconnect, Utf8}};
//!
//! fn main() -> wsloop::Result<()> {
//!     Server::builder()
//!         .listen("127.0.0.1:8080")
//!         .on(Utf8, |conn, text| conn.send_utf8(text))
//!         .on(Binary, |conn, data| conn.send_binary(data))
//!         .on(Disconnect, |conn, why| log::info!("{} left: {why}", conn.id()))
//!         .build()?
//!         .start()
//! }
//! ```
//!
//! A [`Server`] polls its listeners and its connections and calls the handlers that were
//! registered by the names in [`event`]. A handler acts on a [`Connection`] or on the whole
//! [`Hub`]; other threads use a [`Handle`].
//!
//! # Two contracts
//!
//! * **Handlers never run inside handlers.** What a handler causes (a message, a disconnect, a
//!   drain) happens after it returned. So a handler may do anything to any connection, its own
//!   included, and exactly one [`Disconnect`](event::Disconnect) follows each
//!   [`Connect`](event::Connect), on every path.
//! * **A handler must not block.** There is one thread: while a handler runs, nobody else is
//!   served. Work that takes long goes to another thread, and comes back by a [`Handle`].
//!
//! A handler's error or panic ends its connection (close code 1011), never the server.
//!
//! # Safe by default
//!
//! Every limit and deadline has a name, a unit and a safe default, listed at [`Builder`]. Bad
//! input costs bounded memory and linear time, is answered with the close code or the HTTP status
//! that it deserves, and the next client is served. There is no `unsafe` code here.
//!
//! # The log
//!
//! A client that does not get in, or is closed for a fault of its own, leaves a line at `info` that says
//! why, in a bounded number of lines a second for each reason; [`Stats::refusals`],
//! [`Stats::tls_failures`] and [`Stats::failures`] count the same reasons. `docs/logs.md` has the
//! targets and what each line means. A logger is called on the loop's thread and must not block.
//!
//! # Layers
//!
//! ```text
//! server                           listeners, poll loop, timers, other threads
//!   event   connection             handlers and what they reach
//!     transport                    TCP, Unix sockets, TLS
//!       plain_http  handshake  protocol RFC 9112 and 6455 without I/O
//!       proxy                      RFC 7239 and the PROXY protocol without I/O
//!         config   error
//! ```
//!
//! [`protocol`], [`handshake`], [`plain_http`] and [`proxy`] stand on their own: bytes in, messages out,
//! for benchmarks, fuzzing and other reactors.
//!
//! # What is sent when
//!
//! All replies to what one read brought leave in one write, right after the connection's handlers
//! returned; what they sent to other connections leaves at the end of the turn. What the kernel
//! does not take waits in the connection's backlog, up to
//! [`max_backlog`](Builder::max_backlog). A connection whose backlog is half full is not read
//! until it drains, so that TCP slows down a peer that sends without reading.
//!
//! # Features
//!
//! * `deflate` (default): permessage-deflate (RFC 7692), with `Builder::deflate`.
//! * `aws-lc-rs` (default): TLS listeners by rustls with the provider aws-lc-rs, with
//!   `Builder::listen_tls`.
//! * `ring`: TLS with ring. Where both are enabled, aws-lc-rs is used.
//! * `tls`, which the two above contain: TLS without a provider, for programs that install their
//!   own (`rustls::crypto::CryptoProvider::install_default`). A provider that the process has
//!   installed comes first with every feature; see `crypto_provider`.
//!
//! # Platforms
//!
//! Unix. Linux is what it is developed and tested on.

#[cfg(test)]
mod client_frames;
mod close_code;
mod config;
mod connection;
mod date;
mod error;
pub mod handshake;
mod limits;
mod panics;
pub mod plain_http;
pub mod protocol;
pub mod proxy;
mod reactor;
mod reasons;
mod server;
#[cfg(test)]
mod simulation;
mod stats;
mod tokens;
mod transport;

pub use close_code::CloseCode;
pub use config::{OverRate, Rate, SlowConsumer};
#[doc(inline)]
pub use connection::event;
pub use connection::{
    Connection, ConnectionId, Descriptor, Handle, Hub, Outgoing, Phase, Sent, TimerId, WatchId,
    Watched, WindDown,
};
pub use error::{
    AnswerError, BuildError, Error, Fault, HandlerError, HandshakeError, PemProblem, ProtocolError,
    Result, SendError,
};
/// The version of the crate `http` that requests and answers are made of.
pub use http;
pub use limits::Limits;
/// The version of mio whose sources [`Hub::watch`] takes.
pub use mio;
#[cfg(feature = "deflate")]
pub use protocol::deflate::DeflateConfig;
pub use protocol::{CloseFrame, Compress, OpCode, Prepared};
pub use proxy::ClientAddress;
pub use reasons::{ProtocolReason, RefusalReason, TlsFailure};
/// The version of rustls that [`Builder::listen_tls`] takes its configuration from.
#[cfg(feature = "tls")]
pub use rustls;
pub use server::{Builder, Listening, Place, Server, ServerThread};
pub use stats::{ConnectionStats, Rates, Stats};
pub use transport::StreamSocket;
#[cfg(feature = "tls")]
pub use transport::{Certificates, ClientCertificates, config_from_pem, crypto_provider};

/// The README's examples are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Those of the page on the log as well.
#[cfg(doctest)]
#[doc = include_str!("../docs/logs.md")]
struct Logs;

/// Those of the page on deployment as well.
#[cfg(all(doctest, feature = "tls", feature = "deflate"))]
#[doc = include_str!("../docs/deployment.md")]
struct Deployment;

/// Those of the page on porting as well.
#[cfg(doctest)]
#[doc = include_str!("../docs/porting.md")]
struct Porting;

// Those of the guide as well, page by page.

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/getting-started.md")]
struct GuideGettingStarted;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/handlers.md")]
struct GuideHandlers;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/sending.md")]
struct GuideSending;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/closing.md")]
struct GuideClosing;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/threads.md")]
struct GuideThreads;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/testing.md")]
struct GuideTesting;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/limits.md")]
struct GuideLimits;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/listeners.md")]
struct GuideListeners;

#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../docs/guide/tls.md")]
struct GuideTls;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/http.md")]
struct GuideHttp;

#[cfg(all(doctest, feature = "deflate"))]
#[doc = include_str!("../docs/guide/compression.md")]
struct GuideCompression;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/latency.md")]
struct GuideLatency;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/from-tokio.md")]
struct GuideFromTokio;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/from-node-ws.md")]
struct GuideFromNodeWs;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide/from-perl.md")]
struct GuideFromPerl;
