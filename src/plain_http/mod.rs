//! Plain HTTP/1.1 on the WebSocket port: requests in, responses out (RFC 9112).
//!
//! This module does no I/O, like [`handshake`](crate::handshake), whose parser reads the request
//! heads. A [`Reader`] takes bytes in any pieces and returns requests with their bodies; a
//! [`Response`] is an answer. This is enough for a page, a health check or a small form beside a
//! WebSocket. It is not a web server: there are no ranges, no compression and no streams.
//!
//! ```
//! use std::time::SystemTime;
//! use wsloop::Limits;
//! use wsloop::plain_http::{Item, Reader, Response, Then};
//!
//! # fn main() -> Result<(), wsloop::HandshakeError> {
//! let mut reader = Reader::new(&Limits::default());
//! let bytes = b"PUT /motd HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
//! let (first, rest) = bytes.split_at(30);
//! assert!(matches!(reader.read(first)?, (None, 30)));
//! let (Some(Item::Request(request)), _) = reader.read(rest)? else {
//!     panic!("the request is whole")
//! };
//! assert_eq!((request.path(), request.body()), ("/motd", &b"hello"[..]));
//! let mut out = Vec::new();
//! Response::new(204).encode(&request, Then::KeepAlive, SystemTime::now(), &mut out);
//! assert!(out.starts_with(b"HTTP/1.1 204 No Content\r\nDate: "));
//! # Ok(())
//! # }
//! ```

mod body;
mod reader;
mod response;

pub use reader::{CONTINUE, Item, Reader};
pub use response::{Response, Then};

#[cfg(test)]
mod tests;
