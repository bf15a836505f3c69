//! What proxies say of the clients behind them: the PROXY protocol, and the headers for forwarding.
//!
//! Behind a proxy every connection comes from the proxy's address. Two things tell where the client
//! is: the header of the PROXY protocol, which comes before anything else on a connection
//! ([`Place::proxy_protocol`](crate::Place::proxy_protocol)), and a header of the request
//! ([`Builder::client_address`](crate::Builder::client_address)). A client can write both, so each
//! is believed only if it comes from a network that was named ([`Networks`]).
//!
//! Without I/O, for fuzzing and other servers.

mod forwarded;
mod header;
mod networks;
mod node;

pub use forwarded::{Client, ClientAddress, Forwarding};
pub use header::{Header, HeaderError, Source};
pub use networks::Networks;
