//! Delivering compressed messages: whole, or in pieces as they are inflated.

use super::Reactor;
use super::dispatch::Dispatch;
use super::input_half::Share;
use crate::connection::Phase;
use crate::connection::event::{Binary, Fragment, Utf8};
use crate::error::ProtocolError;
use crate::protocol::{Message, OpCode};

impl Dispatch<'_> {
    /// Inflates a compressed message, or the next bytes of one, and delivers it. A message that is
    /// larger than `max_recv_size` is delivered in pieces if `in_pieces` is set.
    ///
    /// Returns whether everything was delivered that can be by now. If not, the share is used up,
    /// or the connection is stalled.
    pub(super) fn inflate_message(
        &mut self,
        message: Message<'_>,
        in_pieces: bool,
        share: &mut Share,
    ) -> Result<bool, ProtocolError> {
        let (opcode, payload) = match message {
            Message::Compressed(opcode, payload) => (opcode, payload),
            Message::CompressedPiece(piece) => {
                self.conn().arrive(&piece);
                return self.hand_out(share);
            }
            _ => return Ok(true),
        };
        let mut room = std::mem::take(&mut self.core.shared.inflated);
        match self.inflate_whole(opcode, payload, &mut room) {
            Err(ProtocolError::MessageTooBig { size, .. }) if in_pieces => {
                // The bytes inflated so far are in memory anyway; the others are inflated piece by
                // piece.
                room.truncate(size as usize);
                self.conn().arrive_large(opcode, payload, room);
                self.hand_out(share)
            }
            result => {
                self.keep_room(room);
                result.map(|()| true)
            }
        }
    }

    /// Inflates a whole message into `room` and delivers it.
    fn inflate_whole(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        room: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let mut conn = self.conn();
        let message = conn.inflate(payload, room)?;
        conn.count_received();
        if opcode == OpCode::Text {
            let text = simdutf8::basic::from_utf8(message).map_err(|_| ProtocolError::BadUtf8)?;
            self.emit::<Utf8>(text);
        } else {
            self.emit::<Binary>(message);
        }
        Ok(())
    }

    /// Delivers the pieces of a compressed message, as far as it was received; returns whether none
    /// is left for later.
    ///
    /// Data may inflate to a thousand times its size, so pieces count against the share of the turn
    /// as if they had been read.
    fn hand_out(&mut self, share: &mut Share) -> Result<bool, ProtocolError> {
        let mut room = std::mem::take(&mut self.core.shared.inflated);
        let result = loop {
            let mut conn = self.conn();
            if conn.peer.phase() != Phase::Open || conn.peer.is_cut() {
                conn.stop_pieces();
                break Ok(true);
            }
            if share.bytes == 0 {
                share.messages = 0;
            }
            if share.messages == 0 || conn.is_stalled() {
                break Ok(!conn.has_more_pieces());
            }
            let piece = match conn.next_piece(&mut room) {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            };
            share.messages -= 1;
            share.bytes = share.bytes.saturating_sub(piece.payload.len());
            if piece.last {
                conn.count_received();
            }
            self.emit::<Fragment>(piece);
        };
        self.keep_room(room);
        result
    }

    /// Keeps the memory for the next compressed message, unless it is large.
    fn keep_room(&mut self, room: Vec<u8>) {
        if room.len() <= INFLATED_MAX {
            self.core.shared.inflated = room;
        }
    }
}

impl Reactor {
    /// Continues with a compressed message that is partly delivered, if there is one; returns
    /// whether all that was received is delivered now.
    pub(super) fn inflate_on(&mut self, slot: usize, share: &mut Share) -> bool {
        let now = self.now;
        let Some((half, conn)) = self.both(slot) else {
            return true;
        };
        if !conn.has_more_pieces() {
            return true;
        }
        // Its data counts as a sign of life, however long the delivery takes.
        half.hear(now, conn.peer.phase());
        let Some(mut dispatch) = self.dispatch(slot) else {
            return true;
        };
        dispatch.hand_out(share).unwrap_or_else(|error| {
            dispatch.fail(error);
            true
        })
    }
}

/// Most memory for inflated data that is kept from one message to the next, in bytes.
const INFLATED_MAX: usize = 1 << 20;
