//! Messages with options.

use super::connection::Connection;
use super::sent::Sent;
use crate::connection::callbacks::Done;
use crate::connection::event::Outcome;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode, Prepared};

/// A message with options, for [`Connection::send_message`] and for topics
/// ([`Hub::publish`](crate::Hub::publish)): its payload, whether it is compressed, its key, and a
/// callback for when it was sent.
///
/// ```
/// # use wsloop::{Compress, Connection, OpCode, Outgoing, SendError, Sent};
/// # fn handler(conn: &mut Connection<'_>, image: &[u8]) -> Result<Sent, SendError> {
/// // The image is compressed already.
/// conn.send_message(Outgoing::binary(image).compress(Compress::No))?;
/// // One frame from several slices, without joining them first.
/// conn.send_message(Outgoing::parts(OpCode::Text, &["{\"user\":\"", "ada", "\"}"]))?;
/// conn.send_message(Outgoing::text("goodbye").then(|conn, result| {
///     log::info!("{}: {result:?}", conn.id());
///     conn.disconnect(1000, "")
/// }))
/// # }
/// ```
#[must_use]
pub struct Outgoing<'m> {
    pub(super) body: Body<'m>,
    pub(super) compress: Compress,
    pub(super) key: Option<&'m [u8]>,
}

/// A message with a callback, made by [`Outgoing::then`], for [`Connection::send_message`].
#[must_use]
pub struct Awaited<'m> {
    message: Outgoing<'m>,
    done: Option<Done>,
}

pub(super) enum Body<'m> {
    Whole(OpCode, &'m [u8]),
    /// All parts in one frame.
    Gathered(OpCode, Vec<&'m [u8]>),
    /// Each part in a frame of its own.
    Frames(OpCode, Vec<&'m [u8]>),
    Prepared(&'m Prepared),
}

impl<'m> Outgoing<'m> {
    fn new(body: Body<'m>) -> Self {
        Self {
            body,
            compress: Compress::Auto,
            key: None,
        }
    }

    /// A text message.
    pub fn text(text: &'m str) -> Self {
        Self::new(Body::Whole(OpCode::Text, text.as_bytes()))
    }

    /// A binary message.
    pub fn binary(bytes: &'m [u8]) -> Self {
        Self::new(Body::Whole(OpCode::Binary, bytes))
    }

    /// A message that was framed once for many connections.
    pub fn prepared(prepared: &'m Prepared) -> Self {
        Self::new(Body::Prepared(prepared))
    }

    /// A text or binary message whose payload lies in several slices. It is sent in one frame, and
    /// the parts are not joined first: unless the message is compressed, large parts go to the
    /// kernel without a copy. A character may be split between two parts.
    #[doc(alias = "send_parts")]
    pub fn parts(opcode: OpCode, parts: &'m [impl AsRef<[u8]>]) -> Self {
        let parts = parts.iter().map(AsRef::as_ref).collect();
        Self::new(Body::Gathered(opcode, parts))
    }

    /// Sends each part in a frame of its own (RFC 6455, 5.4), for a message that was created by
    /// [`parts`](Self::parts). Empty parts are omitted. In a compressed message, the peer can
    /// expand each part when its frame arrives.
    #[doc(alias = "send_multiframe")]
    pub fn in_frames(mut self) -> Self {
        self.body = match self.body {
            Body::Gathered(opcode, mut parts) => {
                parts.retain(|part| !part.is_empty());
                if parts.is_empty() {
                    parts.push(&[]);
                }
                Body::Frames(opcode, parts)
            }
            body => body,
        };
        self
    }

    /// Sets whether the message is compressed, where permessage-deflate was negotiated. Default
    /// [`Compress::Auto`]. A prepared message has [its own setting](Prepared::compress).
    #[doc(alias = "deflate")]
    pub fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }

    /// Sets the key of a message that is published to a topic that conflates: see
    /// [`SlowConsumer::Conflate`](crate::SlowConsumer::Conflate). Elsewhere it has no effect.
    pub fn key(mut self, key: &'m (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Calls `done` once when the message has been handed to the kernel, as
    /// [`Connection::when_sent`] does. If the slow-consumer policy drops the message, at once or
    /// later, `done` receives [`SendError::Dropped`]. If [`Connection::send_message`] returns an
    /// error, `done` is dropped without a call.
    pub fn then<R: Outcome<()>>(
        self,
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Awaited<'m> {
        Awaited {
            message: self,
            done: Some(boxed(done)),
        }
    }
}

impl<'m> From<Outgoing<'m>> for Awaited<'m> {
    fn from(message: Outgoing<'m>) -> Self {
        Self {
            message,
            done: None,
        }
    }
}

impl<'m> From<&'m str> for Awaited<'m> {
    fn from(text: &'m str) -> Self {
        Outgoing::text(text).into()
    }
}

impl<'m> From<&'m String> for Awaited<'m> {
    fn from(text: &'m String) -> Self {
        Outgoing::text(text).into()
    }
}

impl<'m> From<&'m [u8]> for Awaited<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Outgoing::binary(bytes).into()
    }
}

impl<'m> From<&'m Prepared> for Awaited<'m> {
    fn from(prepared: &'m Prepared) -> Self {
        Outgoing::prepared(prepared).into()
    }
}

impl std::fmt::Debug for Awaited<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaited")
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl<'m> From<&'m str> for Outgoing<'m> {
    fn from(text: &'m str) -> Self {
        Self::text(text)
    }
}

impl<'m> From<&'m String> for Outgoing<'m> {
    fn from(text: &'m String) -> Self {
        Self::text(text)
    }
}

impl<'m> From<&'m [u8]> for Outgoing<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::binary(bytes)
    }
}

impl<'m> From<&'m Prepared> for Outgoing<'m> {
    fn from(prepared: &'m Prepared) -> Self {
        Self::prepared(prepared)
    }
}

impl std::fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("compress", &self.compress)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Boxes a callback.
fn boxed<R: Outcome<()>>(
    done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
) -> Done {
    Box::new(move |conn, result| done(conn, result).into_outcome())
}

impl Connection<'_> {
    /// Sends a message with options: see [`Outgoing`]. Text, bytes and prepared messages convert
    /// into a message without options.
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8). Also [`SendError::BadFrame`] for parts whose kind is
    /// neither text nor binary, and [`SendError::BadUtf8`] if the parts of a text together are not
    /// UTF-8.
    #[doc(alias = "message")]
    #[doc(alias = "send_parts")]
    #[doc(alias = "send_with")]
    #[doc(alias = "send_utf8_then")]
    #[doc(alias = "send_multiframe")]
    pub fn send_message<'m>(&mut self, message: impl Into<Awaited<'m>>) -> Result<Sent, SendError> {
        let Awaited { message, done } = message.into();
        let Outgoing { body, compress, .. } = message;
        let mut conn = self.entry();
        let size = match body {
            Body::Whole(opcode, payload) => conn.send_any(opcode, payload, compress),
            Body::Gathered(opcode, parts) => conn.send_gathered(opcode, &parts, compress),
            Body::Frames(opcode, parts) => conn.send_frames(opcode, &parts, compress),
            Body::Prepared(prepared) => conn.send_prepared(prepared),
        }?;
        if let Some(done) = done {
            conn.await_message(size, done)?;
        }
        Ok(Sent::one(size))
    }

    /// Calls `done` once, when all data that was sent to the connection so far has been handed to
    /// the kernel (with TLS: all of its records). This does not mean that the peer has received it.
    ///
    /// `done` is called like a handler: after the running handler has returned, in the order of the
    /// messages. Its error or panic closes the connection with 1011. It receives
    /// [`SendError::Gone`] if the connection ends first, just before the `Disconnect`. It receives
    /// [`SendError::Dropped`], without waiting for earlier messages, if the last message so far is
    /// dropped (see [`SlowConsumer`](crate::SlowConsumer)).
    ///
    /// ```
    /// # use wsloop::{Connection, SendError};
    /// # fn handler(conn: &mut Connection<'_>) -> Result<(), SendError> {
    /// conn.send_utf8("goodbye")?;
    /// conn.when_sent(|conn, result| log::info!("{}: {result:?}", conn.id()))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SendError::NotReady`] before `Ready`, and [`SendError::Closing`] in or after
    /// `Disconnect`; `done` is then dropped.
    pub fn when_sent<R: Outcome<()>>(
        &mut self,
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Result<(), SendError> {
        self.entry().await_sent(boxed(done))
    }
}
