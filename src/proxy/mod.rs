//! Information from proxies about their clients: the PROXY protocol, and forwarding headers.
//!
//! Behind a proxy, every connection comes from the proxy's address. Two sources give the client's:
//! the header of the PROXY protocol, which precedes everything else on a connection
//! ([`Place::proxy_protocol`](crate::Place::proxy_protocol)), and a header of the request
//! ([`Builder::client_address`](crate::Builder::client_address)). A client can forge both, so each
//! is accepted only from configured networks ([`Networks`]).
//!
//! This module does no I/O, so it also serves fuzzing and other servers.

mod forwarded;
mod header;
mod networks;
mod node;

pub use forwarded::{Client, ClientAddress, Forwarding};
pub use header::{Header, HeaderError, Source};
pub use networks::Networks;
