//! Messages that are sent in parts over time.

use super::connection::Connection;
use super::sent::Sent;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode};

impl Connection<'_> {
    /// Begins a message that is sent in parts, each in a frame of its own (RFC 6455, 5.4): any
    /// number of calls of [`send_part`](Self::send_part), then one of
    /// [`end_message`](Self::end_message), in this handler or in later ones. This call sends
    /// nothing yet.
    ///
    /// Until the message ends, only control frames can be sent between its parts. Other messages
    /// are refused with [`SendError::MessageUnderWay`], and broadcasts pass the connection over. A
    /// close does not wait for the end of the message.
    ///
    /// `compress` sets whether the message is compressed, where permessage-deflate was negotiated.
    /// The size of the message is not known yet, so with [`Compress::Auto`] the first non-empty
    /// part decides: the message is compressed if that part would be compressed as a message. Each
    /// part is compressed so that the peer can expand it on arrival, which costs some 5 bytes per
    /// part; for many short parts [`Compress::No`] may be better. With a shared compressor, a
    /// message in parts has a compressor of its own, of up to 330 KB, until its end.
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
    /// Returns [`SendError::BadFrame`] if the kind is neither text nor binary,
    /// [`SendError::MessageUnderWay`] if the previous message has not ended, and
    /// [`SendError::NotReady`] or [`SendError::Closing`] if nothing can be sent.
    pub fn start_message(&mut self, opcode: OpCode, compress: Compress) -> Result<(), SendError> {
        self.entry().start_message(opcode, compress)
    }

    /// Sends a part of the message that was begun, in a frame of its own. An empty part sends
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::NoMessage`] if no message was begun, [`SendError::TooBig`] if all parts
    /// together exceed `max_send_size`, and [`SendError::BadUtf8`] if the parts so far cannot be
    /// the beginning of a text (a character may be split between two parts); otherwise as
    /// [`send_utf8`](Self::send_utf8). Nothing was sent then, and the message is still under way.
    /// After [`SendError::BacklogFull`] the same part can be sent again at `Drain`; the error is
    /// the same with a policy that drops messages.
    pub fn send_part(&mut self, part: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.entry().send_part(part.as_ref()).map(Sent::one)
    }

    /// Sends the last part of the message that was begun; the part may be empty. All parts together
    /// count as one message.
    ///
    /// # Errors
    ///
    /// As [`send_part`](Self::send_part). [`SendError::BadUtf8`] also if the text ends within a
    /// character.
    pub fn end_message(&mut self, part: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.entry().end_message(part.as_ref()).map(Sent::one)
    }

    /// Returns whether a message that was begun has not ended.
    pub fn is_message_under_way(&self) -> bool {
        self.peer().is_under_way()
    }
}
