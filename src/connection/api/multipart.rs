//! Messages in parts, as handlers send them.

use super::connection::Connection;
use crate::error::SendError;
use crate::protocol::{Compress, OpCode};

impl Connection<'_> {
    /// Begins a message whose parts are sent one after the other, each in a frame of its own
    /// (RFC 6455, 5.4): by [`send_part`](Self::send_part) as often as it takes, then by
    /// [`end_message`](Self::end_message), in this handler or in later ones. Nothing is sent yet.
    ///
    /// Until it ends only control frames go between its parts: other messages, those of broadcasts
    /// too, are refused with [`SendError::MessageUnderWay`], and the connection is passed over. A
    /// close does not wait for its end. Whether it is compressed is decided by its first part, see
    /// [`start_message_with`](Self::start_message_with).
    ///
    /// ```
    /// # use wsloop::{Connection, OpCode, SendError};
    /// # fn handler(conn: &mut Connection<'_>) -> Result<usize, SendError> {
    /// conn.start_message(OpCode::Text)?;
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
    pub fn start_message(&mut self, opcode: OpCode) -> Result<(), SendError> {
        self.start_message_with(opcode, Compress::Auto)
    }

    /// Begins a message as [`start_message`](Self::start_message), and says whether it is compressed,
    /// where permessage-deflate was agreed on.
    ///
    /// How large it will be is not known, so with [`Compress::Auto`] its first part that is not empty
    /// decides: the message is compressed if that part would be, as a message. Each part is
    /// compressed so that the peer can expand it when it comes, which costs some 5 bytes each; many
    /// short ones may be better off with [`Compress::No`]. Where the server's messages stand by
    /// themselves, a message under way has a compressor of its own, of up to 330 KB, until its end.
    ///
    /// # Errors
    ///
    /// As [`start_message`](Self::start_message).
    pub fn start_message_with(
        &mut self,
        opcode: OpCode,
        compress: Compress,
    ) -> Result<(), SendError> {
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
    pub fn send_part(&mut self, part: impl AsRef<[u8]>) -> Result<usize, SendError> {
        self.entry().send_part(part.as_ref())
    }

    /// Sends the last part of the message that was begun, which may be empty; returns the bytes
    /// queued, with the frame's header. It counts as one message then.
    ///
    /// # Errors
    ///
    /// As [`send_part`](Self::send_part); [`SendError::BadUtf8`] also if the text ends inside a
    /// character.
    pub fn end_message(&mut self, part: impl AsRef<[u8]>) -> Result<usize, SendError> {
        self.entry().end_message(part.as_ref())
    }

    /// Returns whether a message that was begun has not ended.
    pub fn is_message_under_way(&self) -> bool {
        self.peer().is_under_way()
    }

    /// Sends a message, text or binary, whose payload lies in several places, in one frame, without
    /// joining it first; returns the bytes queued, with the frame's header. What is large goes to the
    /// kernel from where it lies, unless it is compressed: see
    /// [`send_parts_with`](Self::send_parts_with).
    ///
    /// # Errors
    ///
    /// As [`send_utf8`](Self::send_utf8); [`SendError::BadFrame`] for other frames,
    /// [`SendError::BadUtf8`] if the parts together are no text.
    pub fn send_parts(
        &mut self,
        opcode: OpCode,
        parts: &[impl AsRef<[u8]>],
    ) -> Result<usize, SendError> {
        self.send_parts_with(opcode, parts, Compress::Auto)
    }

    /// Sends a message as [`send_parts`](Self::send_parts), and says whether it is compressed, where
    /// permessage-deflate was agreed on.
    ///
    /// # Errors
    ///
    /// As [`send_parts`](Self::send_parts).
    pub fn send_parts_with(
        &mut self,
        opcode: OpCode,
        parts: &[impl AsRef<[u8]>],
        compress: Compress,
    ) -> Result<usize, SendError> {
        let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
        self.entry().send_gathered(opcode, &parts, compress)
    }

    /// Sends a message, text or binary, in one frame for each part that is not empty; in one empty
    /// frame if all are. Returns the bytes queued, with the frames' headers.
    ///
    /// # Errors
    ///
    /// As [`send_parts`](Self::send_parts).
    pub fn send_multiframe(
        &mut self,
        opcode: OpCode,
        parts: &[impl AsRef<[u8]>],
    ) -> Result<usize, SendError> {
        self.send_multiframe_with(opcode, parts, Compress::Auto)
    }

    /// Sends a message as [`send_multiframe`](Self::send_multiframe), and says whether it is
    /// compressed, where permessage-deflate was agreed on. Each part is compressed so that the peer
    /// can expand it when its frame comes.
    ///
    /// # Errors
    ///
    /// As [`send_parts`](Self::send_parts).
    pub fn send_multiframe_with(
        &mut self,
        opcode: OpCode,
        parts: &[impl AsRef<[u8]>],
        compress: Compress,
    ) -> Result<usize, SendError> {
        let parts = parts.iter().map(AsRef::as_ref);
        let mut parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        self.entry().send_frames(opcode, &parts, compress)
    }
}
