//! Compressed messages that are delivered in pieces.

use super::{Compressors, Deflate, INFLATER};
use crate::error::ProtocolError;
use crate::protocol::deflate::{Context, Inflater};
use crate::protocol::{OpCode, Piece, Utf8Validator};

/// A compressed message that is inflated as it arrives.
pub(super) struct Arriving {
    opcode: OpCode,
    /// Set for text.
    text: Option<Utf8Validator>,
    /// The inflater of this message, if it has no context; otherwise the connection's own is used.
    inflater: Option<Box<Inflater>>,
    /// Whether a piece of it was delivered.
    begun: bool,
    /// Data that was inflated before the message turned out to be too large, and how much of that
    /// was delivered.
    made: Vec<u8>,
    handed: usize,
    /// Received data that is not inflated completely.
    input: Option<Input>,
}

/// Compressed data.
struct Input {
    bytes: Vec<u8>,
    used: usize,
    /// Whether the message ends with this data.
    last: bool,
}

impl Arriving {
    /// Returns about how many bytes of memory the message takes.
    pub(super) fn held(&self) -> usize {
        let inflater = usize::from(self.inflater.is_some()) * INFLATER;
        let input = self
            .input
            .as_ref()
            .map_or(0, |input| input.bytes.capacity());
        inflater + input + self.made.capacity()
    }

    fn new(opcode: OpCode, inflater: Option<Box<Inflater>>) -> Box<Self> {
        Box::new(Self {
            opcode,
            text: (opcode == OpCode::Text).then(Utf8Validator::default),
            inflater,
            begun: false,
            made: Vec::new(),
            handed: 0,
            input: None,
        })
    }

    /// Returns whether there may be more to deliver before more data arrives.
    fn has_more(&self) -> bool {
        self.handed < self.made.len() || self.input.is_some()
    }

    /// Fills `room` with inflated data; returns how much that is, and whether the message ends
    /// there. `own` is the connection's inflater.
    fn fill(
        &mut self,
        own: &mut Option<Box<Inflater>>,
        room: &mut [u8],
    ) -> Result<(usize, bool), ProtocolError> {
        let made = self.made.get(self.handed..).unwrap_or_default();
        let size = made.len().min(room.len());
        let (front, room) = room.split_at_mut(size);
        front.copy_from_slice(made.get(..size).unwrap_or_default());
        self.handed += size;
        if self.handed == self.made.len() {
            (self.made, self.handed) = (Vec::new(), 0);
        }
        let Some(input) = self.input.as_mut().filter(|_| !room.is_empty()) else {
            return Ok((size, false));
        };
        let inflater = self.inflater.as_mut().or(own.as_mut());
        let inflater = inflater.ok_or(ProtocolError::BadDeflate)?;
        let mut rest = input.bytes.get(input.used..).unwrap_or_default();
        let (more, ended) = inflater.piece(&mut rest, input.last, room)?;
        input.used = input.bytes.len() - rest.len();
        if ended || more < room.len() {
            self.input = None;
        }
        Ok((size + more, ended))
    }
}

impl Deflate {
    /// Takes the next data of a compressed message that arrives in pieces;
    /// [`next_piece`](Self::next_piece) returns the pieces. The reactor calls it only when no
    /// earlier data is left.
    pub(crate) fn arrive(&mut self, all: &mut Compressors, piece: &Piece<'_>) {
        if piece.first {
            let max_ratio = all.max_ratio();
            let alone = self.agreed.client_no_context_takeover();
            let mut apart = alone.then(|| all.inflater.take().unwrap_or_default());
            match &mut apart {
                Some(apart) => apart.begin(Context::Reset, max_ratio),
                None => {
                    let own = self.inflater.get_or_insert_default();
                    own.begin(Context::Keep, max_ratio);
                }
            }
            self.arriving = Some(Arriving::new(piece.opcode, apart));
        }
        if let Some(arriving) = &mut self.arriving {
            debug_assert!(!arriving.has_more());
            arriving.input = Some(Input {
                bytes: piece.payload.to_vec(),
                used: 0,
                last: piece.last,
            });
        }
    }

    /// Takes a whole compressed message that turned out to be too large;
    /// [`next_piece`](Self::next_piece) returns its pieces. The data in `made` is inflated already.
    pub(crate) fn arrive_large(
        &mut self,
        all: &mut Compressors,
        opcode: OpCode,
        payload: &[u8],
        made: Vec<u8>,
    ) {
        // The inflater that `inflate` has used.
        let alone = self.agreed.client_no_context_takeover();
        let apart = if alone { all.inflater.take() } else { None };
        let inflater = apart.as_ref().or(self.inflater.as_ref());
        let taken = inflater.map_or(0, |inflater| inflater.taken()) as usize;
        let mut arriving = Arriving::new(opcode, apart);
        arriving.made = made;
        arriving.input = Some(Input {
            bytes: payload.get(taken..).unwrap_or_default().to_vec(),
            used: 0,
            last: true,
        });
        self.arriving = Some(arriving);
    }

    /// Returns whether there may be more to deliver before more data arrives.
    pub(crate) fn has_more(&self) -> bool {
        let arriving = self.arriving.as_deref();
        arriving.is_some_and(Arriving::has_more)
    }

    /// Inflates the next piece of the message under way into `room`, and returns it: at most
    /// [`PIECE_MAX`] bytes. Returns `None` if more data has to arrive first.
    pub(crate) fn next_piece<'r>(
        &mut self,
        all: &mut Compressors,
        room: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        let Some(arriving) = &mut self.arriving else {
            return Ok(None);
        };
        if room.len() < PIECE_MAX {
            room.resize(PIECE_MAX, 0);
        }
        let room = room.get_mut(..PIECE_MAX).unwrap_or_default();
        let (size, last) = arriving.fill(&mut self.inflater, room)?;
        if size == 0 && !last {
            return Ok(None);
        }
        let payload = room.get(..size).unwrap_or_default();
        if let Some(text) = &mut arriving.text {
            text.feed(payload)?;
            if last {
                text.finish()?;
            }
        }
        let piece = Piece {
            opcode: arriving.opcode,
            payload,
            first: !std::mem::replace(&mut arriving.begun, true),
            last,
        };
        if last
            && let Some(arriving) = self.arriving.take()
            && let Some(inflater) = arriving.inflater
        {
            all.inflater.get_or_insert(inflater);
        }
        Ok(Some(piece))
    }

    /// Discards the message under way; the rest of it is not delivered.
    pub(crate) fn stop_pieces(&mut self) {
        self.arriving = None;
    }
}

/// Largest piece, in bytes.
const PIECE_MAX: usize = 64 << 10;
