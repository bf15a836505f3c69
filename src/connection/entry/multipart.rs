//! Sending messages in parts: in several frames over time, or in one call from several slices.

use super::PeerMut;
use crate::connection::deflate::{Compressed, Layout};
use crate::connection::send::{Frames, Kind, Partial};
use crate::error::SendError;
use crate::protocol::{Compress, OpCode};

impl PeerMut<'_> {
    /// Begins a message in parts; nothing is sent yet.
    pub(crate) fn start_message(
        &mut self,
        opcode: OpCode,
        choice: Compress,
    ) -> Result<(), SendError> {
        self.check_open()?;
        let message = Partial::new(opcode, choice)?;
        if self.peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        self.peer.set_message(Some(message));
        Ok(())
    }

    /// Sends a part of the message under way.
    pub(crate) fn send_part(&mut self, part: &[u8]) -> Result<usize, SendError> {
        self.check_open()?;
        let mut message = self.peer.message().ok_or(SendError::NoMessage)?;
        message.add(part, self.peer.max_send_size())?;
        if part.is_empty() {
            return Ok(0);
        }
        let size = self.send_next(&mut message, part, false)?;
        self.peer.set_message(Some(message));
        Ok(size)
    }

    /// Sends the last part of the message under way.
    pub(crate) fn end_message(&mut self, part: &[u8]) -> Result<usize, SendError> {
        self.check_open()?;
        let mut message = self.peer.message().ok_or(SendError::NoMessage)?;
        message.add(part, self.peer.max_send_size())?;
        message.finish()?;
        let size = self.send_next(&mut message, part, true)?;
        self.count_sent(true, 0);
        self.peer.set_message(None);
        self.end_compressed_parts();
        Ok(size)
    }

    /// Sends the next frame of a message.
    fn send_next(
        &mut self,
        message: &mut Partial,
        part: &[u8],
        last: bool,
    ) -> Result<usize, SendError> {
        if let Some((opcode, choice)) = message.first() {
            let compressed = self.begin_compressed_parts(opcode, part.len(), choice);
            message.set_compressed(compressed);
        }
        if !message.is_compressed() {
            let head = message.head(part.len(), last);
            return self.send_pieces(&[&head, part], Kind::Part);
        }
        self.send_compressed_part(part, last, |conn, compressed| {
            let head = message.head(compressed.bytes.len(), last);
            conn.send_pieces(&[&head, &compressed.bytes], Kind::Part)
        })
    }

    /// Sends a message in one frame from several slices.
    pub(crate) fn send_gathered(
        &mut self,
        opcode: OpCode,
        parts: &[&[u8]],
        choice: Compress,
    ) -> Result<usize, SendError> {
        let mut message = self.check_parts(opcode, parts)?;
        let layout = Layout::Gathered(parts);
        let sent =
            self.send_compressed(opcode, layout, message.size(), choice, |conn, deflated| {
                let head = message.compressed_head(deflated.bytes.len());
                conn.send_pieces(&[&head, &deflated.bytes], Kind::Message)
            });
        if let Some(sent) = sent {
            return sent;
        }
        let head = message.head(message.size(), true);
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(parts.len() + 1);
        pieces.push(&head);
        pieces.extend(parts);
        self.send_pieces(&pieces, Kind::Message)
    }

    /// Sends a message in one frame for each of `parts`, of which there is at least one.
    pub(crate) fn send_frames(
        &mut self,
        opcode: OpCode,
        parts: &[&[u8]],
        choice: Compress,
    ) -> Result<usize, SendError> {
        let mut message = self.check_parts(opcode, parts)?;
        let layout = Layout::Frames(parts);
        let sent =
            self.send_compressed(opcode, layout, message.size(), choice, |conn, deflated| {
                message.set_compressed(true);
                let payloads = payloads(deflated);
                let frames = Frames::new(&mut message, &payloads);
                conn.send_pieces(&frames.pieces(&payloads), Kind::Message)
            });
        if let Some(sent) = sent {
            return sent;
        }
        let frames = Frames::new(&mut message, parts);
        self.send_pieces(&frames.pieces(parts), Kind::Message)
    }

    /// Checks a message whose parts are all known.
    fn check_parts(&mut self, opcode: OpCode, parts: &[&[u8]]) -> Result<Partial, SendError> {
        self.check_open()?;
        let mut message = Partial::new(opcode, Compress::No)?;
        if self.peer.is_under_way() {
            return Err(SendError::MessageUnderWay);
        }
        let limit = self.peer.max_send_size();
        for part in parts {
            message.add(part, limit)?;
        }
        message.finish()?;
        Ok(message)
    }
}

/// Returns the payloads of the frames of a compressed message.
fn payloads(compressed: &Compressed) -> Vec<&[u8]> {
    let starts = std::iter::once(&0).chain(&compressed.ends);
    starts
        .zip(&compressed.ends)
        .map(|(start, end)| compressed.bytes.get(*start..*end).unwrap_or_default())
        .collect()
}
