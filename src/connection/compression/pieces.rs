//! Compressed messages that are handed out in pieces.

use super::{Compression, INFLATER};
use crate::connection::core::Core;
use crate::error::ProtocolError;
use crate::protocol::deflate::{DeflateConfig, Inflater};
use crate::protocol::{OpCode, Piece, Utf8Validator};

/// A compressed message that is expanded as it comes.
pub(in crate::connection) struct Arriving {
    opcode: OpCode,
    /// Set for text.
    text: Option<Utf8Validator>,
    /// Until its end, if it stands by itself; else the connection's own serves.
    inflater: Option<Box<Inflater>>,
    /// A piece of it was handed out.
    begun: bool,
    /// What was expanded before it turned out to be too large, and how much of it was handed out.
    made: Vec<u8>,
    handed: usize,
    /// What came and was not all expanded.
    input: Option<Input>,
}

/// Compressed bytes.
struct Input {
    bytes: Vec<u8>,
    used: usize,
    /// The message ends with them.
    last: bool,
}

impl Arriving {
    /// Returns about how many bytes of memory it takes.
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

    /// Returns whether there may be more to hand out before more has come.
    fn is_expanding(&self) -> bool {
        self.handed < self.made.len() || self.input.is_some()
    }

    /// Fills `room`, as far as there is something; returns how much that is, and whether the message
    /// ends there. `own` is the connection's.
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

impl Core {
    /// Takes the next bytes of a compressed message that comes in pieces, to be handed out by
    /// [`expand`](Self::expand); nothing of those before may be left.
    pub(crate) fn arrive(&mut self, slot: usize, piece: &Piece<'_>) {
        let Compression {
            config, inflater, ..
        } = &mut self.compression;
        let peer = self.peers.get_mut(slot);
        let Some(deflate) = peer.and_then(|peer| peer.extras_mut().deflate.as_mut()) else {
            return;
        };
        if piece.first {
            let max_ratio = config.as_ref().map_or(usize::MAX, DeflateConfig::ratio);
            let alone = deflate.agreed.client_no_context_takeover();
            let mut apart = alone.then(|| inflater.take().unwrap_or_default());
            match &mut apart {
                Some(apart) => apart.begin(false, max_ratio),
                None => {
                    let own = deflate.inflater.get_or_insert_default();
                    own.begin(true, max_ratio);
                }
            }
            deflate.arriving = Some(Arriving::new(piece.opcode, apart));
        }
        if let Some(arriving) = &mut deflate.arriving {
            debug_assert!(!arriving.is_expanding());
            arriving.input = Some(Input {
                bytes: piece.payload.to_vec(),
                used: 0,
                last: piece.last,
            });
        }
    }

    /// Takes a whole compressed message that turned out to be too large, so that it is handed out by
    /// [`expand`](Self::expand): `made` of it came out by now.
    pub(crate) fn arrive_large(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
        made: Vec<u8>,
    ) {
        let peer = self.peers.get_mut(slot);
        let Some(deflate) = peer.and_then(|peer| peer.extras_mut().deflate.as_mut()) else {
            return;
        };
        // As `inflate` has it.
        let alone = deflate.agreed.client_no_context_takeover();
        let shared = &mut self.compression.inflater;
        let apart = if alone { shared.take() } else { None };
        let inflater = apart.as_ref().or(deflate.inflater.as_ref());
        let taken = inflater.map_or(0, |inflater| inflater.taken()) as usize;
        let mut arriving = Arriving::new(opcode, apart);
        arriving.made = made;
        arriving.input = Some(Input {
            bytes: payload.get(taken..).unwrap_or_default().to_vec(),
            used: 0,
            last: true,
        });
        deflate.arriving = Some(arriving);
    }

    /// Returns whether there may be more of a compressed message to hand out before more has come.
    pub(crate) fn is_expanding(&self, slot: usize) -> bool {
        let peer = self.peers.get(slot);
        let deflate = peer.and_then(|peer| peer.extras()?.deflate.as_ref());
        let arriving = deflate.and_then(|deflate| deflate.arriving.as_deref());
        arriving.is_some_and(Arriving::is_expanding)
    }

    /// Expands the next piece of the message under way in `room`, and returns it: at most
    /// [`PIECE_MAX`] bytes. `None` if more has to come first.
    pub(crate) fn expand<'r>(
        &mut self,
        slot: usize,
        room: &'r mut Vec<u8>,
    ) -> Result<Option<Piece<'r>>, ProtocolError> {
        let peer = self.peers.get_mut(slot);
        let Some(deflate) = peer.and_then(|peer| peer.extras_mut().deflate.as_mut()) else {
            return Ok(None);
        };
        let Some(arriving) = &mut deflate.arriving else {
            return Ok(None);
        };
        if room.len() < PIECE_MAX {
            room.resize(PIECE_MAX, 0);
        }
        let room = room.get_mut(..PIECE_MAX).unwrap_or_default();
        let (size, last) = arriving.fill(&mut deflate.inflater, room)?;
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
            && let Some(arriving) = deflate.arriving.take()
            && let Some(inflater) = arriving.inflater
        {
            self.compression.inflater.get_or_insert(inflater);
        }
        Ok(Some(piece))
    }

    /// Forgets the message under way: nobody is told of the rest.
    pub(crate) fn stop_expanding(&mut self, slot: usize) {
        let peer = self.peers.get_mut(slot);
        if let Some(deflate) = peer.and_then(|peer| peer.extras_mut().deflate.as_mut()) {
            deflate.arriving = None;
        }
    }
}

/// How large a piece may be, in bytes.
const PIECE_MAX: usize = 64 << 10;
