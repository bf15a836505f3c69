//! Being told when a message was sent.

use super::connection::Connection;
use crate::connection::callbacks::Done;
use crate::connection::event::Outcome;
use crate::error::SendError;
use crate::protocol::Prepared;

/// Boxes what is to be told.
fn boxed<R: Outcome<()>>(
    done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
) -> Done {
    Box::new(move |conn, result| done(conn, result).into_outcome())
}

impl Connection<'_> {
    /// Calls `done` once, when everything that the connection was sent until now has been handed to
    /// the kernel (over TLS: its records have). It tells nothing of what the peer has got.
    ///
    /// `done` is a handler like others: it runs after the one that is running has returned, in the
    /// order of what was sent; its error or panic closes the connection with 1011. It is given
    /// [`SendError::Gone`] if the connection ends before, just before its `Disconnect`, and
    /// [`SendError::Dropped`], without waiting for the messages before, if the last message until
    /// now is dropped (see [`SlowConsumer`](crate::SlowConsumer)).
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
    /// [`SendError::NotReady`] before `Ready`, [`SendError::Closing`] in or after `Disconnect`;
    /// `done` is dropped then.
    pub fn when_sent<R: Outcome<()>>(
        &mut self,
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Result<(), SendError> {
        self.entry().await_sent(boxed(done))
    }

    /// Sends a text message as [`send_utf8`](Self::send_utf8), and calls `done` once, as
    /// [`when_sent`](Self::when_sent) does. A message that is dropped at once, so that this returns
    /// 0, is told of by [`SendError::Dropped`].
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8). This is the answer then: `done` is dropped.
    pub fn send_utf8_then<R: Outcome<()>>(
        &mut self,
        text: &str,
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Result<usize, SendError> {
        let size = self.send_utf8(text)?;
        self.entry().await_message(size, boxed(done))
    }

    /// Sends a binary message, and calls `done` as [`send_utf8_then`](Self::send_utf8_then) does.
    ///
    /// # Errors
    ///
    /// As [`send_utf8_then`](Self::send_utf8_then).
    pub fn send_binary_then<R: Outcome<()>>(
        &mut self,
        bytes: &[u8],
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Result<usize, SendError> {
        let size = self.send_binary(bytes)?;
        self.entry().await_message(size, boxed(done))
    }

    /// Sends a message that was framed once for many, and calls `done` as
    /// [`send_utf8_then`](Self::send_utf8_then) does.
    ///
    /// # Errors
    ///
    /// As [`send_utf8_then`](Self::send_utf8_then).
    pub fn send_prepared_then<R: Outcome<()>>(
        &mut self,
        prepared: &Prepared,
        done: impl FnOnce(&mut Connection<'_>, Result<(), SendError>) -> R + 'static,
    ) -> Result<usize, SendError> {
        let size = self.send_prepared(prepared)?;
        self.entry().await_message(size, boxed(done))
    }
}
