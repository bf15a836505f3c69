//! A WebSocket server on one event loop.
mod config;
mod connection;
mod error;
pub mod event;
pub mod handshake;
pub mod protocol;
mod server;
mod stats;
mod transport;

pub use config::{Limits, SlowConsumer};
pub use connection::{Connection, ConnectionId, Handle, Hub};
pub use error::{
    BuildError, Error, Fault, HandlerError, HandshakeError, PemProblem, ProtocolError, Result,
    SendError,
};
pub use protocol::{CloseCode, CloseFrame, OpCode, Prepared};
pub use server::{Builder, Server};
pub use stats::Stats;
#[cfg(feature = "tls")]
pub use transport::config_from_pem;
