//! A WebSocket server on one event loop: fast, strict about RFC 6455, and with the interface of the
//! Perl servers that it succeeds.
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
//!         .run()
//! }
//! ```
//!
//! A [`Server`] polls its listeners and its connections and calls the handlers that are registered
//! for the events in [`event`]. A handler acts on a [`Connection`] or on the whole [`Hub`]; other
//! threads use a [`Handle`].
//!
//! The [guide] has a page for each task: [getting
//! started](crate::guide::getting_started), [handlers](crate::guide::handlers),
//! [sending](crate::guide::sending), [topics](crate::guide::topics),
//! [closing](crate::guide::closing), [limits](crate::guide::limits),
//! [testing](crate::guide::testing), [deployment](crate::guide::deployment), [porting from
//! Perl](crate::guide::porting) and others.
//!
//! # Two rules
//!
//! * **Handlers never run inside handlers.** Events that a handler causes (a message, a disconnect,
//!   a drain) are delivered after it has returned. A handler may therefore do anything to any
//!   connection, its own included. Exactly one [`Disconnect`](event::Disconnect) follows each
//!   [`Connect`](event::Connect), on every path.
//! * **A handler must not block.** One thread serves all connections. Slow work goes to another
//!   thread, which replies through a [`Handle`].
//!
//! A handler's error or panic closes its connection with 1011. It never ends the server.
//!
//! # Safe by default
//!
//! Every limit and deadline has a name, a unit and a safe default; [`Builder`] lists them. Bad
//! input costs bounded memory and linear time. It is answered with the appropriate close code or
//! HTTP status, and the server continues with the next client. This crate contains no `unsafe`
//! code.
//!
//! # The log
//!
//! For each client that is refused, or closed for a fault of its own, the server logs a line at
//! `info` with the reason; the number of lines per second and reason is limited.
//! [`Stats::refusals`], [`Stats::tls_failures`] and [`Stats::failures`] count the same reasons.
//! [The log](crate::guide::logs) lists the targets and the meaning of each line. A logger is called
//! on the loop's thread and must not block.
//!
//! # Layers
//!
//! ```text
//! server                     listeners, the poll loop, the clock, other threads
//!   reactor                  what a turn of the loop does with the connections; no poll, no clock
//!     connection             connections and their queues, events, timers, limits
//!       backplane            messages from and to other loops and processes
//!         topics             names, their subscribers and histories
//!       config               the settings
//!       transport            TCP, Unix sockets, TLS
//!       plain_http           plain requests (RFC 9112), without I/O
//!         handshake          the opening handshake (RFC 6455, 4), without I/O
//!           protocol         frames, messages, compression (RFC 6455, RFC 7692), without I/O
//!       proxy                addresses of clients behind proxies (RFC 7239, PROXY protocol)
//! ```
//!
//! A module uses only modules below it, and small leaves: [`CloseCode`], [`Limits`], the errors,
//! the counters. [`protocol`], [`handshake`], [`plain_http`] and [`proxy`] can be used without the
//! rest, for benchmarks, fuzzing and other reactors: bytes in, messages out.
//!
//! # When data is sent
//!
//! All replies to the data of one read leave in one write, right after the connection's handlers
//! have returned. Messages that they sent to other connections, or published to
//! [topics](crate::guide::topics), leave at the end of the turn. Data that the kernel does not
//! accept waits in the connection's backlog, up to [`max_backlog`](Builder::max_backlog). A
//! connection whose backlog is more than half full is not read until it drains, so that TCP slows
//! down a peer that sends without reading. [Sending](crate::guide::sending) has the details.
//!
//! # Features
//!
//! * `deflate` (default): permessage-deflate (RFC 7692), with `Builder::deflate`.
//! * `aws-lc-rs` (default): TLS listeners by rustls with the provider aws-lc-rs, with
//!   `Builder::listen_tls`.
//! * `ring`: TLS with ring. If both are enabled, aws-lc-rs is used.
//! * `tls`, which the two above include: TLS without a provider, for programs that install their
//!   own (`rustls::crypto::CryptoProvider::install_default`). With every feature, a provider that
//!   the process has installed takes precedence; see `crypto_provider`.
//!
//! # Platforms
//!
//! Unix. The crate is developed and tested on Linux.

// docs.rs labels what a feature brings, and leaves out what other crates implement for every type.
#![cfg_attr(docsrs, feature(doc_cfg, doc_masked))]

#[cfg_attr(docsrs, doc(masked))]
extern crate fearless_simd as _;

pub mod backplane;
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
mod topics;
mod transport;

pub use close_code::CloseCode;
pub use config::{OverRate, Rate};
#[doc(inline)]
pub use connection::event;
pub use connection::{
    Awaited, Connection, ConnectionId, Descriptor, Handle, Hub, LoopsHandle, Outgoing, Phase, Sent,
    TimerId, WatchId, Watched, WindDown,
};
pub use error::{
    AnswerError, BuildError, Error, Fault, HandlerError, HandshakeError, PemProblem, ProtocolError,
    Result, SendError,
};
/// The version of the crate `http` that requests and answers are made of.
pub use http;
pub use limits::{Limits, SlowConsumer};
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
pub use server::{Builder, Listening, LoopThreads, Loops, Place, Server, ServerThread};
pub use stats::{ConnectionStats, Rates, Stats};
pub use topics::{BadPosition, Position, Published, Recovery, Topic};
pub use transport::StreamSocket;
#[cfg(feature = "tls")]
pub use transport::{Certificates, ClientCertificates, config_from_pem, crypto_provider};

/// What other threads hold can be sent to them.
const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Handle>();
    crosses_threads::<Prepared>();
    crosses_threads::<Stats>();
    crosses_threads::<Error>();
    crosses_threads::<BuildError>();
    crosses_threads::<SendError>();
    crosses_threads::<AnswerError>();
    crosses_threads::<ConnectionId>();
};

/// The examples of the README are tests as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Declares the pages of the guide. The examples of a page are tests if the features that they need
/// are enabled; the page itself is always shown.
///
/// A page defines its links as relative paths, for readers of the repository. The definitions in
/// `docs/guide/rustdoc-links.txt` come first, and the first definition of a label is the one that
/// counts (CommonMark, 4.7).
#[cfg(any(doc, doctest))]
macro_rules! pages {
    ($($name:ident: $file:literal, if $features:meta;)*) => {
        $(
            #[doc = include_str!("../docs/guide/rustdoc-links.txt")]
            #[cfg_attr(any(not(doctest), $features), doc = include_str!($file))]
            pub mod $name {}
        )*
    };
}

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide/rustdoc-links.txt")]
#[doc = include_str!("../docs/guide/README.md")]
pub mod guide {
    pages! {
        getting_started: "../docs/guide/getting-started.md", if all();
        handlers: "../docs/guide/handlers.md", if all();
        sending: "../docs/guide/sending.md", if all();
        topics: "../docs/guide/topics.md", if all();
        closing: "../docs/guide/closing.md", if all();
        threads: "../docs/guide/threads.md", if all();
        testing: "../docs/guide/testing.md", if all();
        limits: "../docs/guide/limits.md", if all();
        listeners: "../docs/guide/listeners.md", if all();
        tls: "../docs/guide/tls.md", if feature = "tls";
        http: "../docs/guide/http.md", if all();
        compression: "../docs/guide/compression.md", if feature = "deflate";
        latency: "../docs/guide/latency.md", if all();
        scale_out: "../docs/guide/scale-out.md", if all();
        from_tokio: "../docs/guide/from-tokio.md", if all();
        from_node_ws: "../docs/guide/from-node-ws.md", if all();
        from_perl: "../docs/guide/from-perl.md", if all();
        deployment: "../docs/deployment.md", if all(feature = "tls", feature = "deflate");
        logs: "../docs/logs.md", if all();
        security: "../docs/security.md", if all();
        handshake: "../docs/handshake.md", if all();
        porting: "../docs/porting.md", if all();
    }
}
