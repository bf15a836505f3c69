//! Messages in parts: in several frames over time, or one from several places.

use super::backlog::Kind;
use super::core::{Core, unsendable};
use super::cursor::Connection;
use super::gather::WRITE_THROUGH;
use super::outbox::Outbox;
use super::peer::{Peer, Phase};
use crate::error::SendError;
use crate::protocol::{FrameHead, OpCode, Utf8Validator};

/// A message that was begun and has not ended.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    /// That of the next frame: text or binary, then continuation.
    next: OpCode,
    text: Option<Utf8Validator>,
    /// Bytes of payload so far.
    size: usize,
}

impl Partial {
    /// # Errors
    ///
    /// [`SendError::BadFrame`] unless it is text or binary.
    fn new(opcode: OpCode) -> Result<Self, SendError> {
        let text = match opcode {
            OpCode::Text => Some(Utf8Validator::default()),
            OpCode::Binary => None,
            _ => return Err(SendError::BadFrame),
        };
        Ok(Self {
            next: opcode,
            text,
            size: 0,
        })
    }

    /// Adds a part.
    fn add(&mut self, part: &[u8], limit: usize) -> Result<(), SendError> {
        self.size = self.size.saturating_add(part.len());
        if self.size > limit {
            let size = self.size;
            return Err(SendError::TooBig { size, limit });
        }
        match &mut self.text {
            Some(text) => text.feed(part).map_err(|_| SendError::BadUtf8),
            None => Ok(()),
        }
    }

    /// Ends the message.
    fn finish(&mut self) -> Result<(), SendError> {
        match &mut self.text {
            Some(text) => text.finish().map_err(|_| SendError::BadUtf8),
            None => Ok(()),
        }
    }

    /// Returns the header of the next frame, which is not the last one.
    fn head(&mut self, len: usize) -> FrameHead {
        self.last_head(len).unfinished()
    }

    /// Returns the header of the last frame.
    fn last_head(&mut self, len: usize) -> FrameHead {
        FrameHead::new(std::mem::replace(&mut self.next, OpCode::Continuation), len)
    }
}

impl Core {
    /// Returns a connection that can be sent to.
    fn open_peer(&mut self, slot: usize) -> Result<&mut Peer, SendError> {
        match self.peers.get_mut(slot) {
            None => Err(SendError::Gone),
            Some(peer) if peer.phase != Phase::Open => Err(unsendable(peer.phase)),
            Some(peer) => Ok(peer),
        }
    }

    fn start_message(&mut self, slot: usize, opcode: OpCode) -> Result<(), SendError> {
        let peer = self.open_peer(slot)?;
        let message = Partial::new(opcode)?;
        if peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        peer.set_message(Some(message));
        Ok(())
    }

    fn send_part(&mut self, slot: usize, part: &[u8]) -> Result<usize, SendError> {
        let peer = self.open_peer(slot)?;
        let mut message = peer.message().ok_or(SendError::NoMessage)?;
        message.add(part, peer.max_send_size())?;
        if part.is_empty() {
            return Ok(0);
        }
        let head = message.head(part.len());
        let size = self.send_pieces(slot, &[&head, part], Kind::Part)?;
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.set_message(Some(message));
        }
        Ok(size)
    }

    fn end_message(&mut self, slot: usize, part: &[u8]) -> Result<usize, SendError> {
        let peer = self.open_peer(slot)?;
        let mut message = peer.message().ok_or(SendError::NoMessage)?;
        message.add(part, peer.max_send_size())?;
        message.finish()?;
        let head = message.last_head(part.len());
        let size = self.send_pieces(slot, &[&head, part], Kind::Part)?;
        self.count_all(slot, true, 0);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.set_message(None);
        }
        Ok(size)
    }

    /// Checks a message whose parts are all there; returns its size.
    fn check_parts(
        &mut self,
        slot: usize,
        opcode: OpCode,
        parts: &[&[u8]],
    ) -> Result<Partial, SendError> {
        let peer = self.open_peer(slot)?;
        let message = Partial::new(opcode)?;
        if peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        let limit = peer.max_send_size();
        let mut whole = message;
        for part in parts {
            whole.add(part, limit)?;
        }
        whole.finish()?;
        whole.text = None;
        Ok(whole)
    }

    /// Sends whole frames that belong together, header and payload by turns.
    fn send_pieces(
        &mut self,
        slot: usize,
        pieces: &[&[u8]],
        kind: Kind,
    ) -> Result<usize, SendError> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        if !self.reply_pieces(slot, pieces) {
            if !self.admit(slot, size, kind)? {
                return Ok(0);
            }
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.enqueue_frame(pieces, kind);
            }
            self.mark(slot);
        }
        self.count_all(slot, kind == Kind::Message, size);
        Ok(size)
    }

    /// Sends to the connection whose events are being delivered, if it is this one and nothing is
    /// queued before. Large pieces are handed to the kernel from where they lie.
    fn reply_pieces(&mut self, slot: usize, pieces: &[&[u8]]) -> bool {
        let is_free = |peer: &Peer| !peer.is_queued();
        if self.current != slot || !self.peers.get(slot).is_some_and(is_free) {
            return false;
        }
        for some in pieces.chunks(Outbox::SLICES - 1) {
            let Some(peer) = self.peers.get_mut(slot) else {
                return true;
            };
            if peer.is_queued() {
                // The kernel is full by now.
                peer.enqueue_frame(some, Kind::Part);
                continue;
            }
            let size: usize = some.iter().map(|piece| piece.len()).sum();
            if size < WRITE_THROUGH {
                for piece in some {
                    self.out.push(piece);
                }
                if self.out.is_full() {
                    self.release_out(slot);
                }
            } else {
                peer.write_gathered(self.out.as_slice(), some);
                self.out.clear();
            }
        }
        true
    }
}

impl Connection<'_> {
    /// Begins a message whose parts are sent one after the other, each in a frame of its own
    /// (RFC 6455, 5.4): by [`send_part`](Self::send_part) as often as it takes, then by
    /// [`end_message`](Self::end_message), in this handler or in later ones. Nothing is sent yet.
    ///
    /// Until it ends only control frames go between its parts: other messages, those of broadcasts
    /// too, are refused with [`SendError::MessageUnderWay`], and the connection is passed over. A
    /// close does not wait for its end.
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
        self.core.start_message(self.slot, opcode)
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
        self.core.send_part(self.slot, part.as_ref())
    }

    /// Sends the last part of the message that was begun, which may be empty; returns the bytes
    /// queued, with the frame's header. It counts as one message then.
    ///
    /// # Errors
    ///
    /// As [`send_part`](Self::send_part); [`SendError::BadUtf8`] also if the text ends inside a
    /// character.
    pub fn end_message(&mut self, part: impl AsRef<[u8]>) -> Result<usize, SendError> {
        self.core.end_message(self.slot, part.as_ref())
    }

    /// Returns whether a message that was begun has not ended.
    pub fn is_message_under_way(&self) -> bool {
        self.peer().is_under_way()
    }

    /// Sends a message, text or binary, whose payload lies in several places, in one frame, without
    /// joining it first; returns the bytes queued, with the frame's header. What is large goes to the
    /// kernel from where it lies.
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
        let mut pieces = Vec::with_capacity(parts.len() + 1);
        pieces.push(&[][..]);
        pieces.extend(parts.iter().map(AsRef::as_ref));
        let mut message = self.core.check_parts(self.slot, opcode, &pieces)?;
        let head = message.last_head(message.size);
        pieces[0] = &head;
        self.core.send_pieces(self.slot, &pieces, Kind::Message)
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
        let parts = parts.iter().map(AsRef::as_ref);
        let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
        let mut message = self.core.check_parts(self.slot, opcode, &parts)?;
        let nothing: &[u8] = &[];
        let (last, others) = parts.split_last().unwrap_or((&nothing, &[]));
        let mut heads: Vec<FrameHead> =
            others.iter().map(|part| message.head(part.len())).collect();
        heads.push(message.last_head(last.len()));
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * heads.len());
        for (head, part) in heads.iter().zip(others.iter().chain([last])) {
            pieces.push(head);
            pieces.push(part);
        }
        self.core.send_pieces(self.slot, &pieces, Kind::Message)
    }
}
