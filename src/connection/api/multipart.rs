//! Messages in parts, as handlers send them.

use super::connection::Connection;
use super::sent::Sent;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode};

impl Connection<'_> {
    /// Begins a message whose parts are sent one after the other, each in a frame of its own
    /// (RFC 6455, 5.4): by [`send_part`](Self::send_part) as often as it takes, then by
    /// [`end_message`](Self::end_message), in this handler or in later ones. Nothing is sent yet.
    ///
    /// Until it ends only control frames go between its parts: other messages, those of broadcasts
    /// too, are refused with [`SendError::MessageUnderWay`], and the connection is passed over. A
    /// close does not wait for its end.
    ///
    /// `compress` says whether it is compressed, where permessage-deflate was agreed on. Its size is
    /// not known yet, so with [`Compress::Auto`] its first part that is not empty decides: the
    /// message is compressed if that part would be, as a message. Each part is compressed so that the
    /// peer can inflate it when it comes, which costs some 5 bytes each; many short ones may be
    /// better off with [`Compress::No`]. Where the server's messages stand by themselves, a message
    /// under way has a compressor of its own, of up to 330 KB, until its end.
    ///
    /// ```
    /// # use wsloop::{Compress, Connection, OpCode, SendError, Sent};
    /// # fn handler(conn: &mut Connection<'_>) -> Result<Sent, SendError> {
    /// conn.start_message(OpCode::Text, Compress::Auto)?;
    /// conn.send_part("one, ")?;
    /// conn.send_part("two, ")?;
    /// conn.end_message("three")
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::BadFrame`] unless it is to be text or binary, [`SendError::MessageUnderWay`]
    /// if the one before has not ended, [`SendError::NotReady`] and [`SendError::Closing`].
    pub fn start_message(&mut self, opcode: OpCode, compress: Compress) -> Result<(), SendError> {
        self.entry().start_message(opcode, compress)
    }

    /// Sends a part of the message that was begun, in a frame; returns the bytes queued, with the
    /// frame's header. An empty part sends nothing.
    ///
    /// # Errors
    ///
    /// [`SendError::NoMessage`] if none was begun, [`SendError::TooBig`] if all parts together are
    /// above `max_send_size`, [`SendError::BadUtf8`] if all parts together cannot be text: a
    /// character may be cut by the end of a part. Else as [`send_utf8`](Self::send_utf8). Nothing was
    /// sent then, and the message is still under way: after [`SendError::BacklogFull`] the same
    /// part can be sent at `Drain`. That is also the error where the policy is to drop.
    pub fn send_part(&mut self, part: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.entry().send_part(part.as_ref()).map(Sent::one)
    }

    /// Sends the last part of the message that was begun, which may be empty; returns the bytes
    /// queued, with the frame's header. It counts as one message then.
    ///
    /// # Errors
    ///
    /// As [`send_part`](Self::send_part); [`SendError::BadUtf8`] also if the text ends inside a
    /// character.
    pub fn end_message(&mut self, part: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.entry().end_message(part.as_ref()).map(Sent::one)
    }

    /// Returns whether a message that was begun has not ended.
    pub fn is_message_under_way(&self) -> bool {
        self.peer().is_under_way()
    }
}
