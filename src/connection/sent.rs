//! Being told when a message was sent.

use super::core::{Core, unsendable};
use super::cursor::Connection;
use super::peer::Phase;
use super::sending::Done;
use crate::connection::event::Outcome;
use crate::error::SendError;
use crate::protocol::Prepared;

impl Core {
    /// Has `done` told when everything is sent that the connection was sent until now.
    fn await_sent(&mut self, slot: usize, done: Done) -> Result<(), SendError> {
        let Some(peer) = self.peers.get_mut(slot) else {
            return Err(SendError::Gone);
        };
        if !matches!(peer.phase, Phase::Open | Phase::Closing) {
            return Err(unsendable(peer.phase));
        }
        if self.current == slot && !self.out.is_empty() {
            // From here on the end of this message has to be known.
            peer.enqueue(self.out.as_slice());
            self.out.clear();
        }
        peer.await_sent(done);
        self.mark(slot);
        Ok(())
    }

    /// Has `done` told what becomes of a message of which `size` bytes were queued: none if it was
    /// dropped.
    fn await_message(&mut self, slot: usize, size: usize, done: Done) -> Result<usize, SendError> {
        if size > 0 {
            self.await_sent(slot, done)?;
        } else if let Some(peer) = self.peers.get_mut(slot) {
            peer.await_dropped(done);
            self.mark(slot);
        }
        Ok(size)
    }
}

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
        self.core.await_sent(self.slot, boxed(done))
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
        self.core.await_message(self.slot, size, boxed(done))
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
        self.core.await_message(self.slot, size, boxed(done))
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
        self.core.await_message(self.slot, size, boxed(done))
    }
}
