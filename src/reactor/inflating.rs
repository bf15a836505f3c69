//! Delivering compressed messages: whole, or in pieces as they come out.

use super::dispatch::Dispatch;
use super::input_half::Share;
use super::{Reactor, is_stalled};
use crate::connection::Phase;
use crate::connection::event::{Binary, Fragment, Utf8};
use crate::error::ProtocolError;
use crate::protocol::{Message, OpCode};

impl Dispatch<'_> {
    /// Expands what came of a compressed message and delivers it; a whole one that is larger than
    /// `max_recv_size` comes in pieces if they are wanted. Returns whether all of it was delivered
    /// that can be by now: if not, the share is used up, or the connection is not to be read.
    pub(super) fn expand(
        &mut self,
        message: Message<'_>,
        in_pieces: bool,
        share: &mut Share,
    ) -> Result<bool, ProtocolError> {
        let (opcode, payload) = match message {
            Message::Compressed(opcode, payload) => (opcode, payload),
            Message::CompressedPiece(piece) => {
                self.core.arrive(self.slot, &piece);
                return self.hand_out(share);
            }
            _ => return Ok(true),
        };
        let mut room = std::mem::take(&mut self.core.room);
        match self.expand_whole(opcode, payload, &mut room) {
            Err(ProtocolError::MessageTooBig { size, .. }) if in_pieces => {
                // What came out by now is in memory anyway; the rest will not be.
                room.truncate(size as usize);
                self.core.arrive_large(self.slot, opcode, payload, room);
                self.hand_out(share)
            }
            result => {
                self.keep_room(room);
                result.map(|()| true)
            }
        }
    }

    /// Expands a whole message in `room` and delivers it.
    fn expand_whole(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        room: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let message = self.core.inflate(self.slot, payload, room)?;
        self.core.count_in(self.slot);
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
        let slot = self.slot;
        let mut room = std::mem::take(&mut self.core.room);
        let result = loop {
            let Some(peer) = self.core.peers.get(slot) else {
                return Ok(true);
            };
            if peer.phase != Phase::Open || peer.is_cut() {
                self.core.stop_expanding(slot);
                break Ok(true);
            }
            if share.bytes == 0 {
                share.messages = 0;
            }
            if share.messages == 0 || is_stalled(self.core, peer) {
                break Ok(!self.core.is_expanding(slot));
            }
            let piece = match self.core.expand(slot, &mut room) {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            };
            share.messages -= 1;
            share.bytes = share.bytes.saturating_sub(piece.payload.len());
            if piece.last {
                self.core.count_in(slot);
            }
            self.emit::<Fragment>(piece);
        };
        self.keep_room(room);
        result
    }

    /// Keeps the memory for what expands next, unless that is much.
    fn keep_room(&mut self, room: Vec<u8>) {
        if room.len() <= ROOM_MAX {
            self.core.room = room;
        }
    }
}

impl Reactor {
    /// Goes on with the compressed message of which not all was delivered that came, if there is
    /// one; returns whether all was now.
    pub(super) fn expand_on(&mut self, slot: usize, share: &mut Share) -> bool {
        if !self.core.is_expanding(slot) {
            return true;
        }
        if let Some(half) = self.halves.get_mut(slot) {
            // It was heard, however long it takes to deliver.
            half.hear(self.now);
        }
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
const ROOM_MAX: usize = 1 << 20;
