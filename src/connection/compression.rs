//! permessage-deflate of connections: who has which compressor.

mod parts;
mod pieces;

use self::pieces::Arriving;
use super::core::Core;
use super::peer::{Extras, Peer};
use crate::config::SlowConsumer;
use crate::error::ProtocolError;
use crate::handshake::Request;
use crate::protocol::deflate::{Agreement, DeflateConfig, Deflater, Inflater};
use crate::protocol::{Compress, OpCode, Prepared};

/// What the connections of a server share.
#[derive(Default)]
pub(crate) struct Compression {
    config: Option<DeflateConfig>,
    /// For messages that stand by themselves, by bits of window from 9 on.
    deflaters: Deflaters,
    inflater: Option<Box<Inflater>>,
    /// The message that is being sent.
    scratch: Vec<u8>,
}

type Deflaters = [Option<Box<Deflater>>; 7];

/// Returns where the compressor for a window of `bits` is.
fn place(deflaters: &mut Deflaters, bits: u8) -> &mut Option<Box<Deflater>> {
    &mut deflaters[usize::from(bits.clamp(9, 15) - 9)]
}

/// What a connection has that agreed on compression.
pub(super) struct Deflate {
    agreed: Agreement,
    /// From the first compressed message on, unless each stands by itself.
    deflater: Option<Box<Deflater>>,
    inflater: Option<Box<Inflater>>,
    /// Compresses the message that is sent in parts, if that stands by itself.
    apart: Option<Box<Deflater>>,
    /// The compressed message that comes in pieces.
    arriving: Option<Box<Arriving>>,
}

/// What a compressor holds, for a window of 13 bits or less and for a larger one, in bytes: decision 37.
const DEFLATER: [usize; 2] = [220 << 10, 320 << 10];

/// Returns about what a compressor for a window of `bits` holds, in bytes.
fn deflater_size(bits: u8) -> usize {
    DEFLATER[usize::from(bits > 13)]
}

/// What an expander that remembers holds, in bytes.
const INFLATER: usize = 42 << 10;

impl Extras {
    /// Returns about how many bytes the connection's own compressors hold.
    pub(super) fn compressors(&self) -> usize {
        self.deflate.as_ref().map_or(0, |deflate| {
            let deflaters = [&deflate.deflater, &deflate.apart];
            let size = deflater_size(deflate.agreed.server_max_window_bits());
            let deflaters = deflaters.into_iter().flatten().count() * size;
            let inflaters = usize::from(deflate.inflater.is_some()) * INFLATER;
            let arriving = deflate.arriving.as_deref();
            deflaters + inflaters + arriving.map_or(0, Arriving::held)
        })
    }
}

impl Deflate {
    /// Notes that the peer's window does not hold what the deflater remembers.
    fn forget(&mut self) {
        for deflater in [&mut self.deflater, &mut self.apart].into_iter().flatten() {
            deflater.forget();
        }
    }
}

impl Compression {
    pub(crate) fn new(config: Option<DeflateConfig>) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Answers what a client offers.
    pub(crate) fn negotiate(&self, request: &Request) -> Option<Agreement> {
        let config = self.config.as_ref()?;
        let lines = request
            .headers()
            .get_all(http::header::SEC_WEBSOCKET_EXTENSIONS);
        config.negotiate(lines.iter().map(http::HeaderValue::as_bytes))
    }

    /// Returns the compressor of messages that stand by themselves.
    fn shared(deflaters: &mut Deflaters, level: u32, bits: u8) -> &mut Deflater {
        place(deflaters, bits).get_or_insert_with(|| Box::new(Deflater::new(level, bits)))
    }
}

impl Peer {
    /// Notes what was agreed on.
    pub(crate) fn set_deflate(&mut self, agreed: Agreement, config: &Compression) {
        let threshold = config
            .config
            .as_ref()
            .map_or(0, DeflateConfig::compression_threshold);
        self.deflates(threshold);
        self.extras_mut().deflate = Some(Deflate {
            agreed,
            deflater: None,
            inflater: None,
            apart: None,
            arriving: None,
        });
    }

    /// Returns what was agreed on.
    pub(super) fn agreed(&self) -> Option<&Agreement> {
        Some(&self.extras()?.deflate.as_ref()?.agreed)
    }
}

impl Core {
    /// Returns whether a message is to be compressed, if permessage-deflate was agreed on.
    pub(super) fn should_deflate(&self, opcode: OpCode, size: usize, choice: Compress) -> bool {
        let Some(config) = self.compression.config.as_ref() else {
            return false;
        };
        match choice {
            Compress::Yes => !opcode.is_control(),
            Compress::No => false,
            Compress::Auto => {
                !opcode.is_control() && config.compresses(opcode == OpCode::Binary, size)
            }
        }
    }

    /// Compresses a message for a connection, if that is agreed on and wanted, and returns it. It is
    /// given back with [`recycle_deflated`](Self::recycle_deflated), or reported with
    /// [`forget_deflated`](Self::forget_deflated) if it was not sent.
    pub(super) fn deflate(
        &mut self,
        slot: usize,
        opcode: OpCode,
        payload: &[u8],
        choice: Compress,
    ) -> Option<Vec<u8>> {
        let size = payload.len();
        self.deflate_by(slot, opcode, size, choice, |deflater, takeover, out| {
            deflater.message(payload, takeover, out)
        })
    }

    /// Does the same for a message of `size` bytes that `compress` knows: it is given the compressor,
    /// whether the message may refer to those before, and where it goes.
    fn deflate_by(
        &mut self,
        slot: usize,
        opcode: OpCode,
        size: usize,
        choice: Compress,
        compress: impl FnOnce(&mut Deflater, bool, &mut Vec<u8>) -> bool,
    ) -> Option<Vec<u8>> {
        if !self.peers.get(slot).is_some_and(Peer::is_deflating)
            || !self.should_deflate(opcode, size, choice)
        {
            return None;
        }
        let level = self.compression.config.as_ref()?.compression_level();
        let Compression {
            deflaters, scratch, ..
        } = &mut self.compression;
        let peer = self.peers.get_mut(slot)?;
        let may_drop = peer.slow_consumer == SlowConsumer::DropOldest;
        let deflate = peer.extras_mut().deflate.as_mut()?;
        let bits = deflate.agreed.server_max_window_bits();
        // A message that may be dropped later has to stand by itself as well.
        let alone = deflate.agreed.server_no_context_takeover() || may_drop;
        if may_drop {
            deflate.forget();
        }
        let makes_one = !alone && deflate.deflater.is_none();
        if makes_one {
            // Without room for one the message is sent as it is.
            if !self.budget.has_room(deflater_size(bits)) {
                return None;
            }
            self.budget.queue(deflater_size(bits));
        }
        let deflater = match alone {
            true => Compression::shared(deflaters, level, bits),
            false => deflate
                .deflater
                .get_or_insert_with(|| Box::new(Deflater::new(level, bits))),
        };
        let mut out = std::mem::take(scratch);
        out.clear();
        let done = compress(deflater, !alone, &mut out);
        if makes_one {
            // So that it is counted, whatever becomes of the message.
            self.mark(slot);
        }
        // What refers to nothing may be left out if it gains nothing.
        if !done || (alone && choice == Compress::Auto && out.len() >= size) {
            self.compression.scratch = out;
            return None;
        }
        Some(out)
    }

    /// Keeps the memory of a compressed message.
    pub(super) fn recycle_deflated(&mut self, bytes: Vec<u8>) {
        if bytes.capacity() <= KEPT_MAX {
            self.compression.scratch = bytes;
        }
    }

    /// Notes that a compressed message was not sent.
    pub(super) fn forget_deflated(&mut self, slot: usize) {
        let deflate = self.peers.get_mut(slot);
        if let Some(deflate) = deflate.and_then(|peer| peer.extras_mut().deflate.as_mut()) {
            deflate.forget();
        }
    }

    /// Returns the frame of a prepared message for a connection: compressed, if that is agreed on
    /// and wanted. It stands by itself.
    pub(super) fn deflate_prepared<'p>(
        &mut self,
        slot: usize,
        prepared: &'p Prepared,
    ) -> &'p std::sync::Arc<[u8]> {
        let wanted = self.should_deflate(prepared.opcode(), prepared.size(), prepared.choice());
        let Some(config) = self.compression.config.as_ref().filter(|_| wanted) else {
            return prepared.frame();
        };
        let level = config.compression_level();
        let peer = self.peers.get_mut(slot);
        let Some(deflate) = peer.and_then(|peer| peer.extras_mut().deflate.as_mut()) else {
            return prepared.frame();
        };
        let bits = deflate.agreed.server_max_window_bits();
        // The peer's window takes in what the connection's own compressor does not see.
        deflate.forget();
        let deflaters = &mut self.compression.deflaters;
        prepared.deflated(bits, |payload| {
            let mut out = Vec::new();
            Compression::shared(deflaters, level, bits)
                .message(payload, false, &mut out)
                .then_some(out)
        })
    }

    /// Expands a message of a connection in `room`, and returns it.
    pub(crate) fn inflate<'r>(
        &mut self,
        slot: usize,
        payload: &[u8],
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let max_ratio = self
            .compression
            .config
            .as_ref()
            .map_or(usize::MAX, DeflateConfig::ratio);
        let Some(peer) = self.peers.get_mut(slot) else {
            return Ok(&[]);
        };
        let limit = peer.max_recv_size();
        let Some(deflate) = peer.extras_mut().deflate.as_mut() else {
            return Err(ProtocolError::BadDeflate);
        };
        let alone = deflate.agreed.client_no_context_takeover();
        let inflater = match alone {
            true => &mut self.compression.inflater,
            false => &mut deflate.inflater,
        };
        inflater
            .get_or_insert_default()
            .message(payload, !alone, limit, max_ratio, room)
    }
}

impl Core {
    /// Frees what a connection has for compression: it sends no message any more, nor is it told of
    /// one.
    pub(crate) fn drop_compression(&mut self, slot: usize) {
        let peer = self.peers.get_mut(slot);
        if let Some(extras) = peer.and_then(|peer| peer.extras.as_deref_mut()) {
            extras.deflate = None;
        }
    }
}

/// How much memory is kept from one message to the next, in bytes.
const KEPT_MAX: usize = 1 << 20;
