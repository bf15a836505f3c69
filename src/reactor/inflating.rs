//! Delivering compressed messages: whole, or in pieces as they come out.

use super::Reactor;
use super::dispatch::Dispatch;
use super::input_half::Share;
use crate::connection::Phase;
use crate::connection::event::{Binary, Fragment, Utf8};
use crate::error::ProtocolError;
use crate::protocol::{Message, OpCode};

impl Dispatch<'_> {
    /// Expands what came of a compressed message and delivers it; a whole one that is larger than
    /// `max_recv_size` comes in pieces if they are wanted. Returns whether all of it was delivered
    /// that can be by now: if not, the share is used up, or the connection is not to be read.
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
                // What came out by now is in memory anyway; the rest will not be.
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

    /// Expands a whole message in `room` and delivers it.
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

    /// Delivers the message that comes in pieces, one after the other, as far as it came; returns
    /// whether that was all.
    ///
    /// What a client sends may come to a thousand times of it, so pieces count against the share of
    /// the turn as if they had been read.
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

    /// Keeps the memory for what expands next, unless that is much.
    fn keep_room(&mut self, room: Vec<u8>) {
        if room.len() <= INFLATED_MAX {
            self.core.shared.inflated = room;
        }
    }
}

impl Reactor {
    /// Goes on with the compressed message of which not all was delivered that came, if there is
    /// one; returns whether all was now.
    pub(super) fn inflate_on(&mut self, slot: usize, share: &mut Share) -> bool {
        let now = self.now;
        let Some((half, conn)) = self.both(slot) else {
            return true;
        };
        if !conn.has_more_pieces() {
            return true;
        }
        // It was heard, however long it takes to deliver.
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

/// How much memory for what expands is kept from one message to the next, in bytes.
const INFLATED_MAX: usize = 1 << 20;
