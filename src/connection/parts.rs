//! Messages in parts: in several frames over time, or one from several places.

use super::backlog::Kind;
use super::core::{Core, unsendable};
use super::cursor::Connection;
use super::gather::WRITE_THROUGH;
use super::outbox::Outbox;
use super::peer::{Peer, Phase};
use crate::error::SendError;
use crate::protocol::{Compress, FrameHead, OpCode, Utf8Validator};

/// A message that was begun and has not ended.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    /// That of the next frame: text or binary, then continuation.
    next: OpCode,
    text: Option<Utf8Validator>,
    /// Bytes of payload so far.
    size: usize,
    /// Whether it is to be compressed, and whether it is: that is known with its first frame.
    choice: Compress,
    deflated: bool,
}

impl Partial {
    /// # Errors
    ///
    /// [`SendError::BadFrame`] unless it is text or binary.
    fn new(opcode: OpCode, choice: Compress) -> Result<Self, SendError> {
        let text = match opcode {
            OpCode::Text => Some(Utf8Validator::default()),
            OpCode::Binary => None,
            _ => return Err(SendError::BadFrame),
        };
        Ok(Self {
            next: opcode,
            text,
            size: 0,
            choice,
            deflated: false,
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

    /// Returns whether no frame of it was sent.
    fn is_new(&self) -> bool {
        self.next != OpCode::Continuation
    }

    /// Returns the header of the next frame, which is not the last one.
    fn head(&mut self, len: usize) -> FrameHead {
        self.last_head(len).unfinished()
    }

    /// Returns the header of the last frame.
    fn last_head(&mut self, len: usize) -> FrameHead {
        let opcode = std::mem::replace(&mut self.next, OpCode::Continuation);
        let head = FrameHead::new(opcode, len);
        // RFC 7692, 6.1: the bit is set on the first frame alone.
        if self.deflated && opcode != OpCode::Continuation {
            head.compressed()
        } else {
            head
        }
    }
}

/// The headers of a message's frames.
struct Frames(Vec<FrameHead>);

impl Frames {
    /// Makes them for all frames of a message.
    fn new(message: &mut Partial, payloads: &[&[u8]]) -> Self {
        let mut heads: Vec<FrameHead> = Vec::with_capacity(payloads.len());
        if let Some((last, others)) = payloads.split_last() {
            heads.extend(others.iter().map(|payload| message.head(payload.len())));
            heads.push(message.last_head(last.len()));
        }
        Self(heads)
    }

    /// Returns headers and payloads by turns.
    fn pieces<'p>(&'p self, payloads: &[&'p [u8]]) -> Vec<&'p [u8]> {
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * self.0.len());
        for (head, payload) in self.0.iter().zip(payloads) {
            pieces.push(head);
            pieces.push(payload);
        }
        pieces
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

    fn start_message(
        &mut self,
        slot: usize,
        opcode: OpCode,
        choice: Compress,
    ) -> Result<(), SendError> {
        let peer = self.open_peer(slot)?;
        let message = Partial::new(opcode, choice)?;
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
        let size = self.send_next(slot, &mut message, part, false)?;
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
        let size = self.send_next(slot, &mut message, part, true)?;
        self.count_all(slot, true, 0);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.set_message(None);
        }
        self.end_deflated(slot);
        Ok(size)
    }

    /// Sends the next frame of a message.
    fn send_next(
        &mut self,
        slot: usize,
        message: &mut Partial,
        part: &[u8],
        last: bool,
    ) -> Result<usize, SendError> {
        if message.is_new() {
            message.deflated = self.begin_deflated(slot, message.next, part.len(), message.choice);
        }
        if !message.deflated {
            let head = match last {
                true => message.last_head(part.len()),
                false => message.head(part.len()),
            };
            return self.send_pieces(slot, &[&head, part], Kind::Part);
        }
        let deflated = self.deflate_part(slot, part, last).ok_or(SendError::Gone)?;
        let head = match last {
            true => message.last_head(deflated.len()),
            false => message.head(deflated.len()),
        };
        let sent = self.send_pieces(slot, &[&head, &deflated], Kind::Part);
        self.after_deflated(slot, deflated, sent)
    }

    /// Takes a compressed message or part back, and sees to it that nothing refers to it if it was
    /// not sent.
    pub(super) fn after_deflated(
        &mut self,
        slot: usize,
        deflated: Vec<u8>,
        sent: Result<usize, SendError>,
    ) -> Result<usize, SendError> {
        if !matches!(sent, Ok(size) if size > 0) {
            self.forget_deflated(slot);
        }
        self.recycle_deflated(deflated);
        sent
    }

    /// Sends a message in one frame from several places; the first of `pieces` is empty.
    fn send_gathered(
        &mut self,
        slot: usize,
        opcode: OpCode,
        pieces: Vec<&[u8]>,
        choice: Compress,
    ) -> Result<usize, SendError> {
        let head;
        let mut pieces = pieces;
        let mut message = self.check_parts(slot, opcode, &pieces)?;
        let parts = pieces.get(1..).unwrap_or_default();
        let Some(deflated) = self.deflate_gathered(slot, opcode, parts, message.size, choice)
        else {
            head = message.last_head(message.size);
            pieces[0] = &head;
            return self.send_pieces(slot, &pieces, Kind::Message);
        };
        message.deflated = true;
        head = message.last_head(deflated.len());
        let sent = self.send_pieces(slot, &[&head, &deflated], Kind::Message);
        self.after_deflated(slot, deflated, sent)
    }

    /// Sends a message in a frame for each of `parts`, of which there is one at least.
    fn send_frames(
        &mut self,
        slot: usize,
        opcode: OpCode,
        parts: &[&[u8]],
        choice: Compress,
    ) -> Result<usize, SendError> {
        let mut message = self.check_parts(slot, opcode, parts)?;
        let Some((deflated, ends)) = self.deflate_frames(slot, opcode, parts, message.size, choice)
        else {
            let frames = Frames::new(&mut message, parts);
            return self.send_pieces(slot, &frames.pieces(parts), Kind::Message);
        };
        message.deflated = true;
        let mut start = 0;
        let payloads: Vec<&[u8]> = ends
            .iter()
            .map(|&end| {
                let payload = deflated.get(start..end).unwrap_or_default();
                start = end;
                payload
            })
            .collect();
        let frames = Frames::new(&mut message, &payloads);
        let sent = self.send_pieces(slot, &frames.pieces(&payloads), Kind::Message);
        self.after_deflated(slot, deflated, sent)
    }

    /// Checks a message whose parts are all there; returns its size.
    fn check_parts(
        &mut self,
        slot: usize,
        opcode: OpCode,
        parts: &[&[u8]],
    ) -> Result<Partial, SendError> {
        let peer = self.open_peer(slot)?;
        let message = Partial::new(opcode, Compress::No)?;
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
        if !self.reply_pieces(slot, pieces) && !self.queue_pieces(slot, pieces, kind)? {
            return Ok(0);
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
        self.core.start_message(self.slot, opcode, compress)
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
        let mut pieces = Vec::with_capacity(parts.len() + 1);
        pieces.push(&[][..]);
        pieces.extend(parts.iter().map(AsRef::as_ref));
        self.core.send_gathered(self.slot, opcode, pieces, compress)
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
        self.core.send_frames(self.slot, opcode, &parts, compress)
    }
}
