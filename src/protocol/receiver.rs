//! Frames to messages (RFC 6455, 5.4 to 5.6): fragments, limits, interleaved control frames.

mod partial;

use self::partial::{Partial, Progress, message, split};
use super::assembly::Assembly;
use super::fast::take_whole;
use super::{CloseFrame, Header, OpCode, Pool, mask};
use crate::error::ProtocolError;
use crate::limits::Limits;

/// What a client sent, borrowed from the input or from the receiver.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'p> {
    /// A binary message.
    Binary(&'p [u8]),
    /// A Close frame. It is the last message, whatever the client sends after it.
    Close(CloseFrame<'p>),
    /// A text or binary message in compressed form (RFC 7692, 6.2). The caller inflates it and
    /// validates it if it is text. Requires [`Receiver::allow_compressed`].
    Compressed(OpCode, &'p [u8]),
    /// A piece of a message in compressed form. Joined, the pieces are the data that
    /// [`Compressed`](Self::Compressed) holds for a whole message. Text is not validated. Requires
    /// [`Receiver::allow_compressed`] and [`Receiver::allow_pieces`].
    CompressedPiece(Piece<'p>),
    /// A piece of a message that is too large to be handed out whole, or that arrives in several
    /// frames. Requires [`Receiver::allow_pieces`].
    Piece(Piece<'p>),
    /// A Ping, to be answered with a Pong of the same payload (RFC 6455, 5.5.3).
    Ping(&'p [u8]),
    /// A Pong.
    Pong(&'p [u8]),
    /// A text message.
    Text(&'p str),
}

/// The next bytes of a message that is handed out as it arrives.
///
/// The cuts between pieces depend on frames and on the network; the joined pieces do not.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece<'p> {
    /// The kind of the message: [`OpCode::Text`] or [`OpCode::Binary`].
    pub opcode: OpCode,
    /// The bytes. Joined pieces of a text are valid UTF-8 unless they are compressed; a single
    /// piece may end inside a character.
    pub payload: &'p [u8],
    /// Whether the message begins here.
    pub first: bool,
    /// Whether the message ends here.
    pub last: bool,
}

/// Turns the bytes of a client into messages.
///
/// A message whose single frame lies whole in the input is unmasked in place and handed out without
/// a copy. Only frames and messages that the end of the input cuts are kept. The messages do not
/// depend on where the input is cut, and each byte is processed once.
///
/// Limits are checked at a frame's header, before anything is allocated for its payload.
#[derive(Debug)]
pub struct Receiver {
    bounds: Bounds,
    decoder: Decoder,
}

impl Receiver {
    /// Makes a receiver that applies `max_recv_size` and `max_fragments` of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            bounds: Bounds::new(limits.max_recv_size, limits.max_fragments),
            decoder: Decoder::default(),
        }
    }

    /// Sets the size of the largest message, in bytes, from the next frame header on.
    pub fn set_max_recv_size(&mut self, size: usize) {
        self.bounds.max_recv_size = size;
    }

    /// Allows or forbids compressed messages: whether permessage-deflate was negotiated
    /// (RFC 7692, 6). Default `false`.
    pub fn allow_compressed(&mut self, allow: bool) {
        self.bounds.compressed = allow;
    }

    /// Hands out a message in pieces if it arrives in several frames or is larger than
    /// `max_recv_size`. Neither that limit nor `max_fragments` applies to such messages. Default
    /// `false`.
    ///
    /// A compressed message in one frame is handed out whole up to the largest compressed size of a
    /// message of `max_recv_size` bytes; it may inflate to more.
    pub fn allow_pieces(&mut self, allow: bool) {
        self.bounds.pieces = allow;
    }

    /// Returns the next message, and removes the bytes that it consumed from the front of `input`.
    ///
    /// `Ok(None)` means that all of `input` was consumed and more is needed.
    ///
    /// # Errors
    ///
    /// Returns the peer's first violation of the protocol or of a limit. From then on, the receiver
    /// consumes all bytes and returns no messages.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Message<'a>>, ProtocolError> {
        self.decoder.next(input, self.bounds)
    }

    /// Returns a buffer into which the next bytes of a large message can be read directly.
    ///
    /// Returns `None` if no message is under way, or if the remainder of its frame is too small to
    /// be worth it. Report the bytes read with [`landed`](Self::landed).
    pub fn landing(&mut self) -> Option<&mut [u8]> {
        self.decoder.landing()
    }

    /// Counts `size` bytes that were read into [`landing`](Self::landing). Text is validated when
    /// its frame is complete; [`next`](Self::next) then returns the message or the error.
    pub fn landed(&mut self, size: usize) {
        self.decoder.landed(size);
    }

    /// Returns whether a message, or a frame of it, is under way.
    pub fn is_partial(&self) -> bool {
        self.decoder.is_partial()
    }
}

/// The limits that apply to messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Largest message, in bytes.
    pub(crate) max_recv_size: usize,
    /// Most frames of one message; `u32::MAX` for no limit.
    max_fragments: u32,
    /// Whether messages may be compressed.
    pub(crate) compressed: bool,
    /// Whether large and fragmented messages are handed out in pieces.
    pub(crate) pieces: bool,
}

/// Passed along with each message, in registers.
const _: () = assert!(size_of::<Bounds>() <= 2 * size_of::<u64>());

impl Bounds {
    pub(crate) fn new(max_recv_size: usize, max_fragments: usize) -> Self {
        Self {
            max_recv_size,
            max_fragments: u32::try_from(max_fragments).unwrap_or(u32::MAX),
            compressed: false,
            pieces: false,
        }
    }

    /// Returns the reserved bits that may be set in a frame.
    fn reserved_bits(&self) -> u8 {
        if self.compressed { RSV1 } else { 0 }
    }

    /// Returns whether the message that begins with this header is handed out in pieces.
    #[inline(always)]
    fn cuts(&self, header: &Header) -> bool {
        self.pieces && self.cuts_out(header)
    }

    #[cold]
    fn cuts_out(&self, header: &Header) -> bool {
        let max_size = self.max_size(header.rsv != 0) as u64;
        !header.opcode.is_control() && (!header.fin || header.len > max_size)
    }

    /// Returns the size of the largest message on the wire.
    #[inline(always)]
    fn max_size(&self, compressed: bool) -> usize {
        if compressed {
            // RFC 1951, 3.2.6: some bytes have codes of nine bits in the fixed code.
            let more = self.max_recv_size / 8 + 64;
            self.max_recv_size.saturating_add(more)
        } else {
            self.max_recv_size
        }
    }
}

/// The reserved bit that marks a compressed message (RFC 7692, 6), as in [`Header::rsv`].
const RSV1: u8 = 0b100;

/// The state of a [`Receiver`] between inputs. It is small, because a server has one for each
/// connection and keeps the limits elsewhere. Its methods are the receiver's.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Set after a Close or an error: all further bytes are discarded.
    done: bool,
    /// The size of the last message, if it was large and arrived in more than one read; otherwise
    /// 0.
    large: u32,
    /// `None` between messages, so that an idle connection holds no buffers.
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// Returns the expected size of the next message, if it is likely to be large and the next byte
    /// begins its first frame.
    pub(crate) fn expects(&self) -> Option<usize> {
        (self.large > 0 && self.partial.is_none() && !self.done).then_some(self.large as usize)
    }

    /// Begins a message with bytes that were read where a large one was expected: a header of the
    /// maximum size in `head`, and the first `size` bytes of payload in `body`.
    ///
    /// Returns whether a large message begins there; if not, nothing is taken. In both cases, none
    /// is expected until another large message has arrived.
    pub(crate) fn begin_with_buffer(
        &mut self,
        head: &[u8; Header::MAX_SIZE],
        body: &mut Vec<u8>,
        size: usize,
        bounds: Bounds,
    ) -> bool {
        self.expect_none();
        let Ok(Some((header, Header::MAX_SIZE))) = Header::parse(head, 0) else {
            return false;
        };
        let data = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        if !data
            || bounds.cuts(&header)
            || header.len < size as u64
            || self.check(&header, bounds).is_err()
            || !Assembly::is_in_proportion(body.len(), size)
        {
            return false;
        }
        let partial = self.partial.get_or_insert_default();
        partial.begin(&header, false);
        partial.assembly = Assembly::over(std::mem::take(body));
        self.landed(size);
        true
    }

    /// Stops expecting a large message.
    pub(crate) fn expect_none(&mut self) {
        self.large = 0;
    }

    /// Frees what the last call of [`next`](Self::next) handed out, and keeps a large buffer for
    /// reuse.
    pub(crate) fn recycle(&mut self, pool: &mut Pool) {
        if let Some(buffer) = self.forget_delivered() {
            pool.put(buffer);
        }
    }

    pub(crate) fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        bounds: Bounds,
    ) -> Result<Option<Message<'a>>, ProtocolError> {
        // RFC 6455, 5.5.1: after a Close frame, "any data received is discarded"; 7.1.7: once the
        // connection is failed, "an endpoint MUST NOT continue to attempt to process data".
        if self.done {
            *input = &mut [];
            return Ok(None);
        }
        self.forget_delivered();
        if self.partial.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            // A limit of 0 refuses even messages in one frame.
            if bounds.max_fragments > 0
                && let Some((opcode, payload)) = take_whole(input, bounds.max_recv_size)
            {
                self.large = 0;
                let message = message(opcode, payload);
                if message.is_err() {
                    self.done = true;
                    *input = &mut [];
                }
                return message.map(Some);
            }
        }
        self.next_any(input, bounds)
    }

    /// Returns the next message, for all cases that the fast path does not handle.
    #[inline(never)]
    fn next_any<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        bounds: Bounds,
    ) -> Result<Option<Message<'a>>, ProtocolError> {
        let result = match self.step(input, bounds) {
            Ok(Step::Starved) => return Ok(None),
            Ok(Step::Whole(message)) => Ok(message),
            Ok(Step::Kept) => {
                // `step` returns `Kept` only after filling `partial`.
                let Some(partial) = self.partial.as_deref() else {
                    return Ok(None);
                };
                let size = partial.assembly.len();
                if partial.delivered == partial.kind {
                    let large = size >= Assembly::LANDING_MIN && !partial.compressed;
                    self.large = if large {
                        size.min(EXPECTED_MAX) as u32
                    } else {
                        0
                    };
                }
                partial.message()
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(Message::Close(_)) => self.done = true,
            Err(_) => {
                self.done = true;
                *input = &mut [];
            }
            Ok(_) => {}
        }
        result.map(Some)
    }

    pub(crate) fn landing(&mut self) -> Option<&mut [u8]> {
        if self.done {
            return None;
        }
        let partial = self.partial.as_deref_mut()?;
        let frame = partial.frame.as_ref()?;
        let large = frame.remaining >= Assembly::LANDING_MIN as u64;
        (large && !frame.opcode.is_control() && !partial.in_pieces)
            .then(|| partial.assembly.landing(frame.remaining))
    }

    pub(crate) fn landed(&mut self, size: usize) {
        if let Some(partial) = self.partial.as_deref_mut()
            && let Some(frame) = partial.frame.as_mut().filter(|_| !self.done)
        {
            frame.unmask(partial.assembly.landed(size));
        }
    }

    /// Returns whether no bytes are kept and no large message is expected: the next byte begins a
    /// new message, unless a Close frame or an error ended the stream.
    pub(crate) fn is_idle(&self) -> bool {
        self.partial.is_none() && self.large == 0
    }

    /// Returns whether bytes are kept: those of a message under way, or of the last one handed out.
    pub(crate) fn is_kept(&self) -> bool {
        self.partial.is_some()
    }

    /// Notes how many bytes of the message under way have arrived by `now`, in milliseconds, if its
    /// bytes are kept until it ends.
    ///
    /// The first call records `now` as the message's start. A later call passes `move_on` the start
    /// and the bytes that arrived since the call before, and records the start that it returns.
    pub(crate) fn look(&mut self, now: u64, move_on: impl FnOnce(u64, u64) -> u64) {
        let Some(partial) = self
            .partial
            .as_deref_mut()
            .filter(|partial| !partial.in_pieces && !partial.stalled)
        else {
            return;
        };
        let size = partial.assembly.len() as u32;
        let came = size.wrapping_sub(std::mem::replace(&mut partial.noted, size));
        if partial.since == 0 {
            partial.since = mark(now);
        } else if came > 0 {
            let since = time_of(partial.since, now);
            partial.since = mark(move_on(since, came.into()));
        }
    }

    /// Stops the clock of the message under way at `now`: the connection is not read.
    pub(crate) fn stall(&mut self, now: u64) {
        if let Some(partial) = self.partial.as_deref_mut()
            && !std::mem::replace(&mut partial.stalled, true)
            && partial.since > 0
        {
            partial.since = mark(now - time_of(partial.since, now));
        }
    }

    /// Restarts the clock of the message under way.
    pub(crate) fn unstall(&mut self, now: u64) {
        if let Some(partial) = self.partial.as_deref_mut()
            && std::mem::take(&mut partial.stalled)
            && partial.since > 0
        {
            partial.since = mark(now.saturating_sub(partial.since.into()));
        }
    }

    /// Returns when the message under way began, as [noted](Self::look), less than 2^31 ms before
    /// `now`. The time in which it was not read does not count. `None` while its clock is stopped.
    pub(crate) fn since(&self, now: u64) -> Option<u64> {
        let partial = self.partial.as_deref()?;
        let goes_on = partial.since > 0 && !partial.stalled && !partial.in_pieces;
        goes_on.then(|| time_of(partial.since, now))
    }

    /// Returns the approximate memory of the message under way, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.partial.as_deref().map_or(0, Partial::held)
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.partial
            .as_deref()
            .is_some_and(|partial| partial.delivered.is_none())
    }

    /// Decodes until there is a message or `input` is used up.
    fn step<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        bounds: Bounds,
    ) -> Result<Step<'b>, ProtocolError> {
        loop {
            if let Some(partial) = self.partial.as_deref_mut()
                && partial.frame.is_some()
            {
                match partial.advance(input)? {
                    Progress::Starved => return Ok(Step::Starved),
                    Progress::FrameEnd => {}
                    Progress::MessageEnd => return Ok(Step::Kept),
                    Progress::Piece(piece) => {
                        let message = match partial.compressed {
                            true => Message::CompressedPiece(piece),
                            false => Message::Piece(piece),
                        };
                        if piece.last {
                            self.partial = None;
                        }
                        return Ok(Step::Whole(message));
                    }
                }
            }
            let Some(header) = self.header(input, bounds.reserved_bits())? else {
                return Ok(Step::Starved);
            };
            self.check(&header, bounds)?;
            let unfragmented = header.fin && header.opcode != OpCode::Continuation;
            if unfragmented
                && !bounds.cuts(&header)
                && let Some(payload) = split(input, header.len)
            {
                mask::apply(payload, header.mask.unwrap_or_default(), 0);
                if !header.opcode.is_control() {
                    self.large = 0;
                }
                if header.rsv != 0 {
                    return Ok(Step::Whole(Message::Compressed(header.opcode, payload)));
                }
                return message(header.opcode, payload).map(Step::Whole);
            }
            let partial = self.partial.get_or_insert_default();
            partial.begin(&header, bounds.cuts(&header));
        }
    }

    /// Parses the next header; keeps the bytes of an incomplete one.
    fn header(
        &mut self,
        input: &mut &mut [u8],
        reserved_bits: u8,
    ) -> Result<Option<Header>, ProtocolError> {
        let stashed = self
            .partial
            .as_deref()
            .is_some_and(|partial| partial.head_len > 0);
        if !stashed && let Some((header, size)) = Header::parse(input, reserved_bits)? {
            *input = &mut std::mem::take(input)[size..];
            return Ok(Some(header));
        }
        // At most `Header::MAX_SIZE` bytes, one at a time.
        while let Some((&mut byte, rest)) = std::mem::take(input).split_first_mut() {
            *input = rest;
            let partial = self.partial.get_or_insert_default();
            let len = usize::from(partial.head_len);
            partial.head[len] = byte;
            partial.head_len += 1;
            if let Some((header, _)) = Header::parse(&partial.head[..=len], reserved_bits)? {
                partial.head_len = 0;
                // The payload may lie whole in the input; then nothing needs to be kept.
                if partial.kind.is_none() {
                    self.partial = None;
                }
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Checks a header against the message under way and the limits.
    fn check(&self, header: &Header, bounds: Bounds) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let under_way = self
            .partial
            .as_deref()
            .filter(|partial| partial.kind.is_some());
        // RFC 6455, 5.4: a message is one frame, or starts with FIN clear and an opcode and goes
        // on with continuations; "fragments of one message MUST NOT be interleaved".
        let (before, fragments, limit) = match (header.opcode == OpCode::Continuation, under_way) {
            (false, None) if bounds.cuts(header) => return Ok(()),
            (false, None) => (0, 0, bounds.max_size(header.rsv != 0)),
            // RFC 7692, 6: the bit is set "only on the first fragment" of a compressed message.
            (true, Some(_)) if header.rsv != 0 => {
                return Err(ProtocolError::ReservedBits(header.rsv));
            }
            (true, Some(partial)) if partial.in_pieces => return Ok(()),
            (true, Some(partial)) => (
                partial.assembly.len() as u64,
                partial.fragments,
                bounds.max_size(partial.compressed),
            ),
            (false, Some(_)) => return Err(ProtocolError::ContinuationExpected),
            (true, None) => return Err(ProtocolError::ContinuationUnexpected),
        };
        let size = before.saturating_add(header.len);
        if size > limit as u64 {
            return Err(ProtocolError::MessageTooBig {
                size,
                limit: bounds.max_recv_size,
            });
        }
        if fragments >= bounds.max_fragments && bounds.max_fragments < u32::MAX {
            return Err(ProtocolError::TooManyFragments {
                limit: bounds.max_fragments as usize,
            });
        }
        Ok(())
    }

    /// Forgets what the previous call handed out; returns the buffer of a data message.
    fn forget_delivered(&mut self) -> Option<Vec<u8>> {
        let partial = self.partial.as_deref_mut()?;
        let opcode = partial.delivered.take()?;
        partial.control.clear();
        let buffer = (!opcode.is_control()).then(|| {
            partial.kind = None;
            partial.assembly.clear()
        });
        // A control frame between fragments leaves its message under way.
        if partial.kind.is_none() {
            self.partial = None;
        }
        buffer
    }
}

/// Returns the low bits of a time, never zero.
fn mark(time: u64) -> u32 {
    (time as u32).max(1)
}

/// Returns the time of a mark that was made shortly before `now`.
fn time_of(mark: u32, now: u64) -> u64 {
    // A mark that was raised from zero may be ahead of `now` by one.
    let ago = (now as u32).wrapping_sub(mark).cast_signed();
    now.saturating_sub(ago.max(0) as u64)
}

/// The largest buffer that is prepared for an expected message, in bytes. A larger message grows
/// beyond it.
const EXPECTED_MAX: usize = 2 << 20;

/// The result of one call of `step`.
enum Step<'b> {
    /// A message that borrows from the input.
    Whole(Message<'b>),
    /// A message that is kept in `Partial`.
    Kept,
    /// The input is used up.
    Starved,
}

#[cfg(test)]
mod tests;
