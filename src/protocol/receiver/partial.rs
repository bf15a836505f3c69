//! Frames and messages that are not complete at the end of the input.

use super::super::assembly::Assembly;
use super::super::{CloseFrame, Header, OpCode, Utf8Validator, mask};
use super::{Message, Piece};
use crate::error::ProtocolError;

pub(super) enum Progress<'b> {
    Starved,
    FrameEnd,
    MessageEnd,
    /// A piece of a message that is handed out in pieces.
    Piece(Piece<'b>),
}

/// State of the frames and messages that are not complete at the end of the input.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The first bytes of an incomplete header.
    pub(super) head: [u8; Header::MAX_SIZE],
    pub(super) head_len: u8,
    /// The frame whose payload is arriving.
    pub(super) frame: Option<Frame>,
    /// The payload of a control frame, at most 125 bytes.
    pub(super) control: Vec<u8>,
    /// The message whose fragments are arriving.
    pub(super) kind: Option<OpCode>,
    pub(super) fragments: u32,
    pub(super) assembly: Assembly,
    /// Whether the message is compressed.
    pub(super) compressed: bool,
    /// Whether the message is handed out in pieces.
    pub(super) in_pieces: bool,
    /// Whether a piece of the message was handed out.
    begun: bool,
    /// Set while the message is text and not compressed.
    pub(super) text: Option<Utf8Validator>,
    /// How many bytes of the text were validated. Bytes read into the landing buffer are validated
    /// when their frame or the message is complete, so that they are not read twice.
    pub(super) checked: usize,
    /// The message that was handed out, and may be freed at the next call.
    pub(super) delivered: Option<OpCode>,
    /// When the message began, as [`Decoder::look`](super::Decoder::look) noted it: the low 32
    /// bits, which fit into padding. Zero if it was not noted.
    pub(super) since: u32,
    /// How many bytes of the message had arrived when that was noted last: the low 32 bits.
    pub(super) noted: u32,
    /// The message's clock is stopped: `since` is the time that it had taken until then.
    pub(super) stalled: bool,
}

impl Partial {
    /// Begins a frame that is a fragment or whose payload is not whole in the input.
    pub(super) fn begin(&mut self, header: &Header, in_pieces: bool) {
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            key: header.mask.unwrap_or_default(),
            offset: 0,
            remaining: header.len,
        });
        match header.opcode {
            OpCode::Close | OpCode::Ping | OpCode::Pong => return,
            OpCode::Continuation => {}
            OpCode::Text | OpCode::Binary => {
                self.kind = Some(header.opcode);
                self.fragments = 0;
                self.compressed = header.rsv != 0;
                self.in_pieces = in_pieces;
                let text = header.opcode == OpCode::Text && !self.compressed;
                self.text = text.then(Utf8Validator::default);
                self.checked = 0;
            }
        }
        self.fragments = self.fragments.saturating_add(1);
    }

    /// Returns the approximate memory in use, in bytes.
    pub(super) fn held(&self) -> usize {
        size_of::<Self>() + self.assembly.capacity() + self.control.capacity()
    }

    /// Consumes the frame's payload from `input`.
    pub(super) fn advance<'b>(
        &mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Progress<'b>, ProtocolError> {
        let Some(frame) = &mut self.frame else {
            return Ok(Progress::FrameEnd);
        };
        let take = frame.remaining.min(input.len() as u64);
        if self.in_pieces && !frame.opcode.is_control() {
            let chunk = split(input, take).unwrap_or_default();
            frame.unmask(chunk);
            return self.piece(chunk);
        }
        if let Some(chunk) = split(input, take) {
            let remaining = frame.remaining;
            frame.unmask(chunk);
            if frame.opcode.is_control() {
                self.control.extend_from_slice(chunk);
            } else {
                let before = self.assembly.len();
                if let Some(text) = &mut self.text
                    && self.checked == before
                {
                    text.feed(chunk)?;
                    self.checked += chunk.len();
                }
                self.assembly.push(chunk, remaining);
            }
        }
        if frame.remaining > 0 {
            return Ok(Progress::Starved);
        }
        let (opcode, fin) = (frame.opcode, frame.fin);
        self.frame = None;
        if opcode.is_control() {
            self.delivered = Some(opcode);
            return Ok(Progress::MessageEnd);
        }
        if !fin {
            let text = self.assembly.as_slice();
            if let Some(validator) = &mut self.text
                && let Some(landed) = text.get(self.checked..)
            {
                self.checked = text.len();
                validator.feed(landed)?;
            }
            return Ok(Progress::FrameEnd);
        }
        // A text message is validated as a whole, to make a `str` of it.
        self.delivered = self.kind;
        Ok(Progress::MessageEnd)
    }

    /// Hands out the next bytes of the payload, if there are any.
    fn piece<'b>(&mut self, payload: &'b [u8]) -> Result<Progress<'b>, ProtocolError> {
        let (Some(frame), Some(opcode)) = (&self.frame, self.kind) else {
            return Ok(Progress::FrameEnd);
        };
        let (ended, last) = (frame.remaining == 0, frame.remaining == 0 && frame.fin);
        if ended {
            self.frame = None;
        }
        if payload.is_empty() && !last {
            return Ok(if ended {
                Progress::FrameEnd
            } else {
                Progress::Starved
            });
        }
        if let Some(text) = &mut self.text {
            text.feed(payload)?;
            if last {
                text.finish()?;
            }
        }
        Ok(Progress::Piece(Piece {
            opcode,
            payload,
            first: !std::mem::replace(&mut self.begun, true),
            last,
        }))
    }

    /// Returns the message that `delivered` names.
    pub(super) fn message(&self) -> Result<Message<'_>, ProtocolError> {
        match self.delivered {
            Some(opcode) if opcode.is_control() => message(opcode, &self.control),
            Some(opcode) if self.compressed => {
                Ok(Message::Compressed(opcode, self.assembly.as_slice()))
            }
            Some(OpCode::Text) => message(OpCode::Text, self.assembly.as_slice()),
            _ => message(OpCode::Binary, self.assembly.as_slice()),
        }
    }
}

/// A frame whose payload is arriving.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) opcode: OpCode,
    pub(super) fin: bool,
    key: [u8; 4],
    /// Bytes of payload already unmasked, modulo four.
    offset: u8,
    pub(super) remaining: u64,
}

impl Frame {
    /// Unmasks the next bytes of the payload.
    pub(super) fn unmask(&mut self, bytes: &mut [u8]) {
        mask::apply(bytes, self.key, usize::from(self.offset));
        self.offset = (usize::from(self.offset).wrapping_add(bytes.len()) % 4) as u8;
        self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
    }
}

/// Splits `len` bytes off the front of `input`, if it holds that many.
pub(super) fn split<'b>(input: &mut &'b mut [u8], len: u64) -> Option<&'b mut [u8]> {
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= input.len())?;
    let (front, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    Some(front)
}

/// Makes a message of a whole, unmasked payload.
pub(super) fn message(opcode: OpCode, payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
    match opcode {
        OpCode::Text => simdutf8::basic::from_utf8(payload)
            .map(Message::Text)
            .map_err(|_| ProtocolError::BadUtf8),
        OpCode::Binary | OpCode::Continuation => Ok(Message::Binary(payload)),
        OpCode::Ping => Ok(Message::Ping(payload)),
        OpCode::Pong => Ok(Message::Pong(payload)),
        OpCode::Close => CloseFrame::parse(payload).map(Message::Close),
    }
}

/// Allocated anew for each message that is fragmented or incomplete in one read.
const _: () = assert!(size_of::<Partial>() <= 120);
