//! permessage-deflate with the feature enabled.

mod inflating;
mod multipart;

use std::sync::Arc;

use self::inflating::Arriving;
use super::{Compressed, Layout, Plain};
use crate::config::Config;
use crate::connection::limits::Budget;
use crate::error::ProtocolError;
use crate::handshake::Request;
use crate::protocol::deflate::{
    Agreement, Context, DeflateConfig, Deflater, InflateLimits, Inflater,
};
use crate::protocol::{Compress, OpCode, Prepared};
use crate::topics::{Form, Publication};

/// The state of compression that all connections of a server share.
#[derive(Default)]
pub(crate) struct Compressors {
    config: Option<DeflateConfig>,
    /// Compressors for messages without context, by bits of window from 9 on.
    deflaters: Deflaters,
    inflater: Option<Box<Inflater>>,
    /// Memory for a compressed message, kept from an earlier one.
    scratch: Vec<u8>,
}

type Deflaters = [Option<Box<Deflater>>; 7];

/// Returns the place of the compressor for a window of `bits`.
fn place(deflaters: &mut Deflaters, bits: u8) -> &mut Option<Box<Deflater>> {
    &mut deflaters[usize::from(bits.clamp(9, 15) - 9)]
}

/// Returns the shared compressor for messages without context.
fn shared(deflaters: &mut Deflaters, level: u32, bits: u8) -> &mut Deflater {
    place(deflaters, bits).get_or_insert_with(|| Box::new(Deflater::new(level, bits)))
}

impl Compressors {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.deflate.clone(),
            ..Self::default()
        }
    }

    /// Answers a client's offer of extensions.
    pub(crate) fn negotiate(&self, request: &Request) -> Option<Agreement> {
        let config = self.config.as_ref()?;
        let lines = request
            .headers()
            .get_all(http::header::SEC_WEBSOCKET_EXTENSIONS);
        config.negotiate(lines.iter().map(http::HeaderValue::as_bytes))
    }

    /// Returns whether a message is to be compressed, provided that permessage-deflate was agreed
    /// on.
    pub(crate) fn wants(&self, opcode: OpCode, size: usize, choice: Compress) -> bool {
        let Some(config) = self.config.as_ref() else {
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

    /// Returns whether a published message is compressed.
    pub(crate) fn wants_publication(&self, message: &Publication) -> bool {
        self.wants(message.opcode(), message.size(), message.compress())
    }

    /// Returns the size from which messages may be compressed, in bytes.
    pub(crate) fn threshold(&self) -> usize {
        let config = self.config.as_ref();
        config.map_or(0, DeflateConfig::compression_threshold)
    }

    /// Keeps the memory of a compressed message for the next one.
    pub(crate) fn recycle(&mut self, compressed: Compressed) {
        if compressed.bytes.capacity() <= KEPT_MAX {
            self.scratch = compressed.bytes;
        }
    }

    fn level(&self) -> u32 {
        let config = self.config.as_ref();
        config.map_or(1, DeflateConfig::compression_level)
    }

    fn max_ratio(&self) -> usize {
        let config = self.config.as_ref();
        config.map_or(usize::MAX, DeflateConfig::ratio)
    }

    /// Returns empty memory for a compressed message.
    fn take_scratch(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes
    }
}

/// The state of a connection that agreed on permessage-deflate.
pub(crate) struct Deflate {
    agreed: Agreement,
    /// The connection's own compressor, from the first message with context on.
    deflater: Option<Box<Deflater>>,
    inflater: Option<Box<Inflater>>,
    /// The compressor of the message that is sent in parts, if it has no context.
    apart: Option<Box<Deflater>>,
    /// The compressed message that is received in pieces.
    arriving: Option<Box<Arriving>>,
}

/// The memory of a compressor, for a window of at most 13 bits and for a larger one, in bytes
/// (decision 37).
const DEFLATER: [usize; 2] = [220 << 10, 320 << 10];

/// Returns about how much memory a compressor for a window of `bits` takes, in bytes.
fn deflater_size(bits: u8) -> usize {
    DEFLATER[usize::from(bits > 13)]
}

/// The memory of an inflater that keeps its context, in bytes.
const INFLATER: usize = 42 << 10;

impl Deflate {
    pub(crate) fn new(agreed: Agreement) -> Self {
        Self {
            agreed,
            deflater: None,
            inflater: None,
            apart: None,
            arriving: None,
        }
    }

    /// Returns the parameters that were agreed on.
    pub(crate) fn agreed(&self) -> &Agreement {
        &self.agreed
    }

    /// Returns about how much memory the connection's own compressors take, in bytes.
    pub(crate) fn held(&self) -> usize {
        let deflaters = [&self.deflater, &self.apart];
        let size = deflater_size(self.agreed.server_max_window_bits());
        let deflaters = deflaters.into_iter().flatten().count() * size;
        let inflaters = usize::from(self.inflater.is_some()) * INFLATER;
        let arriving = self.arriving.as_deref();
        deflaters + inflaters + arriving.map_or(0, Arriving::held)
    }

    /// Makes the compressors forget their context, because the peer's window does not hold it: a
    /// message was not sent.
    pub(crate) fn forget(&mut self) {
        for deflater in [&mut self.deflater, &mut self.apart].into_iter().flatten() {
            deflater.forget();
        }
    }

    /// Compresses a message, if that is wanted, there is memory for it, and it saves bytes. A
    /// caller that does not send the result calls [`forget`](Self::forget).
    pub(crate) fn compress(
        &mut self,
        all: &mut Compressors,
        budget: &mut Budget,
        message: Plain<'_>,
    ) -> Option<Compressed> {
        if !all.wants(message.opcode, message.size, message.choice) {
            return None;
        }
        let level = all.level();
        let bits = self.agreed.server_max_window_bits();
        // A message that may be dropped later is compressed without context, too.
        let alone = self.agreed.server_no_context_takeover() || message.may_drop;
        if message.may_drop {
            self.forget();
        }
        if !alone && self.deflater.is_none() && !reserve(budget, bits) {
            // Without memory for a compressor, the message is sent uncompressed.
            return None;
        }
        let mut bytes = all.take_scratch();
        let mut ends = Vec::new();
        let deflater = match alone {
            true => shared(&mut all.deflaters, level, bits),
            false => self
                .deflater
                .get_or_insert_with(|| Box::new(Deflater::new(level, bits))),
        };
        let context = Context::keep_if(!alone);
        let done = match message.layout {
            Layout::Whole(payload) => deflater.message(payload, context, &mut bytes),
            Layout::Gathered(parts) => deflater.gathered(parts, context, &mut bytes),
            Layout::Frames(parts) => frames(deflater, parts, context, &mut bytes, &mut ends),
        };
        let compressed = Compressed { bytes, ends };
        // Output without context may be discarded if it saves nothing.
        let gains = compressed.bytes.len() < message.size;
        if !done || (alone && message.choice == Compress::Auto && !gains) {
            all.scratch = compressed.bytes;
            return None;
        }
        Some(compressed)
    }

    /// Returns the frame of a prepared message: compressed without context, if that is wanted.
    pub(crate) fn compress_prepared<'p>(
        &mut self,
        all: &mut Compressors,
        prepared: &'p Prepared,
    ) -> &'p Arc<[u8]> {
        if !all.wants(prepared.opcode(), prepared.size(), prepared.compression()) {
            return prepared.shared_frame();
        }
        let (level, bits) = (all.level(), self.agreed.server_max_window_bits());
        // The peer's window then holds data that the connection's own compressor has not seen.
        self.forget();
        prepared.deflated(bits, |payload| {
            let mut out = Vec::new();
            shared(&mut all.deflaters, level, bits)
                .message(payload, Context::Reset, &mut out)
                .then_some(out)
        })
    }

    /// Returns the frame of a published message, compressed without context.
    pub(crate) fn compress_publication<'m>(
        &mut self,
        all: &mut Compressors,
        message: &'m mut Publication,
    ) -> &'m mut Form {
        let (level, bits) = (all.level(), self.agreed.server_max_window_bits());
        // The peer's window then holds data that the connection's own compressor has not seen.
        self.forget();
        let Compressors {
            deflaters, scratch, ..
        } = all;
        message.deflated(bits, scratch, |payload, out| {
            shared(deflaters, level, bits).message(payload, Context::Reset, out)
        })
    }

    /// Inflates a message into `room`, and returns it.
    pub(crate) fn inflate<'r>(
        &mut self,
        all: &mut Compressors,
        payload: &[u8],
        limit: usize,
        room: &'r mut Vec<u8>,
    ) -> Result<&'r [u8], ProtocolError> {
        let limits = InflateLimits::new(limit, all.max_ratio());
        let alone = self.agreed.client_no_context_takeover();
        let inflater = match alone {
            true => &mut all.inflater,
            false => &mut self.inflater,
        };
        inflater
            .get_or_insert_default()
            .message(payload, Context::keep_if(!alone), limits, room)
    }
}

/// Reserves the memory of one more compressor; returns whether the budget has room for it.
fn reserve(budget: &mut Budget, bits: u8) -> bool {
    let size = deflater_size(bits);
    let has_room = budget.has_room(size);
    if has_room {
        budget.queue(size);
    }
    has_room
}

/// Compresses each of `parts` for a frame of its own, and records where they end.
fn frames(
    deflater: &mut Deflater,
    parts: &[&[u8]],
    context: Context,
    bytes: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> bool {
    if let [part] = parts {
        let done = deflater.message(part, context, bytes);
        ends.push(bytes.len());
        return done;
    }
    if context == Context::Reset {
        deflater.forget();
    }
    for (at, part) in parts.iter().enumerate() {
        match at + 1 == parts.len() {
            true => deflater.end(part, bytes),
            false => deflater.part(part, bytes),
        }
        ends.push(bytes.len());
    }
    true
}

/// Most memory that is kept from one message to the next, in bytes.
const KEPT_MAX: usize = 1 << 20;
