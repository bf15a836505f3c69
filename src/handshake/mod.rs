//! The opening handshake: a request head in, response bytes out (RFC 6455, 4.2).
//!
//! Nothing here knows a socket or a clock. A [`Parser`] takes bytes as they arrive and returns a
//! [`Request`]; [`Request::accept_key`] checks it against RFC 6455; an [`Upgrade`] holds what the
//! server decides about it. The answer is the 101 of [`Upgrade::encode`], or the [`Refusal`] that
//! any [`HandshakeError`](crate::HandshakeError) converts into.
//!
//! Two duties remain with the caller. It enforces a deadline for the head. And unless it answers a
//! request with 101, it ignores all bytes after it and closes the connection, so that they cannot
//! form an unchecked tunnel.
//!
//! ```
//! use std::time::SystemTime;
//! use wsloop::handshake::{Parser, Refusal, Upgrade};
//! use wsloop::{HandshakeError, Limits};
//!
//! /// Returns the answer once the head is complete, and how many bytes of `input` belong to it.
//! fn answer(
//!     parser: &mut Parser,
//!     input: &[u8],
//! ) -> Result<Option<(Vec<u8>, usize)>, HandshakeError> {
//!     let Some((request, taken)) = parser.parse(input)? else {
//!         return Ok(None);
//!     };
//!     let accept = request.accept_key()?;
//!     let mut upgrade = Upgrade::new(request, accept);
//!     upgrade.choose_subprotocol(&["chat.v2", "chat"]);
//!     let mut out = Vec::new();
//!     upgrade.encode(SystemTime::now(), &mut out);
//!     Ok(Some((out, taken)))
//! }
//!
//! # fn main() -> Result<(), HandshakeError> {
//! let request = "GET /room?id=7 HTTP/1.1\r\n\
//!                Host: example.com\r\n\
//!                Upgrade: websocket\r\n\
//!                Connection: keep-alive, Upgrade\r\n\
//!                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
//!                Sec-WebSocket-Version: 13\r\n\
//!                Sec-WebSocket-Protocol: chat, chat.v2\r\n\r\n";
//! let mut parser = Parser::new(&Limits::default());
//! let (first, rest) = request.as_bytes().split_at(40);
//! assert_eq!(answer(&mut parser, first)?, None);
//! let (response, taken) = answer(&mut parser, rest)?.expect("the head is whole");
//! assert_eq!(taken, rest.len());
//! assert_eq!(
//!     String::from_utf8_lossy(&response),
//!     "HTTP/1.1 101 Switching Protocols\r\n\
//!      Upgrade: websocket\r\n\
//!      Connection: Upgrade\r\n\
//!      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
//!      Sec-WebSocket-Protocol: chat.v2\r\n\r\n"
//! );
//!
//! // A browser that opens the port as a web page gets a 426.
//! let error = answer(&mut parser, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap_err();
//! let mut out = Vec::new();
//! Refusal::from(error).encode(SystemTime::now(), &mut out);
//! assert!(out.starts_with(b"HTTP/1.1 426 Upgrade Required\r\n"));
//! # Ok(())
//! # }
//! ```

mod check;
mod fields;
mod head;
mod host;
mod hosts;
mod key;
mod origins;
mod parser;
mod parts;
mod query;
mod refusal;
mod request;
mod scan;
mod upgrade;

pub(crate) use head::Head;
pub(crate) use host::is_host;
pub(crate) use hosts::Hosts;
pub use key::AcceptKey;
pub use origins::Origins;
pub use parser::Parser;
pub(crate) use parts::Parts;
pub use refusal::Refusal;
pub use request::Request;
pub use upgrade::Upgrade;

#[cfg(test)]
mod samples {
    use super::{Parser, Request};
    use crate::limits::Limits;

    /// The request of RFC 6455, 1.3.
    pub(super) const SAMPLE: &str = "GET /chat HTTP/1.1\r\n\
        Host: server.example.com\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    /// Parses a complete head.
    pub(super) fn request(head: impl AsRef<[u8]>) -> Request {
        let head = head.as_ref();
        let (request, taken) = Parser::new(&Limits::default())
            .parse(head)
            .unwrap()
            .unwrap();
        assert_eq!(taken, head.len());
        request
    }

    /// Parses [`SAMPLE`] with one of its parts replaced.
    pub(super) fn altered(from: &str, to: &str) -> Request {
        assert!(SAMPLE.contains(from), "{from:?}");
        request(SAMPLE.replacen(from, to, 1))
    }
}
