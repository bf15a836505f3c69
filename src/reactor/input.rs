//! From readiness to handlers: reads connections and delivers their messages.

use std::io;
use std::ops::Range;

use super::Reactor;
use super::dispatch::Dispatch;
use super::fast_path::Progress;
use super::input_half::{Flags, InputHalf, Share};
use crate::connection::event::{Binary, Fragment, Ping, Pong, Utf8, Verdict};
use crate::connection::{Metered, NOBODY, Peer, Phase};
use crate::error::SendError;
use crate::protocol::{Bounds, Header, Message, OpCode};
use crate::transport::Received;

impl Reactor {
    /// Continues where the fast path stopped, with the rest of the buffer.
    #[inline(never)]
    pub(super) fn serve_rest(&mut self, slot: usize, Progress { at, end, left }: Progress) {
        let mut share = self.begin(slot);
        share.bytes = share.bytes.saturating_sub(end);
        share.messages = left;
        if at < end {
            self.deliver_rest(slot, at..end, false, &mut share);
        }
        self.go_on(slot, share);
    }

    /// Serves a connection whose read on the fast path filled the buffer, returned no bytes, or
    /// failed.
    #[cold]
    pub(super) fn serve_read(&mut self, slot: usize, result: io::Result<usize>) {
        let mut share = self.begin(slot);
        match Received::of(result, self.buffer.len()) {
            Ok(Some(received)) => _ = self.received(slot, 0, received, &mut share),
            Ok(None) => {}
            Err(error) => self.lost(slot, error),
        }
        self.go_on(slot, share);
    }

    /// Reads a connection, delivers its messages and sends its replies.
    pub(super) fn serve(&mut self, slot: usize) {
        debug_assert!(
            self.core.shared.out.is_empty(),
            "the last connection was settled"
        );
        let mut share = self.begin(slot);
        self.consume_unread(slot, &mut share);
        self.go_on(slot, share);
    }

    /// Reads while there is input and the share is not used up, then settles the connection.
    fn go_on(&mut self, slot: usize, mut share: Share) {
        while self.wants_input(slot, &share) && self.read(slot, &mut share) {}
        self.settle(slot);
        self.core.shared.current = NOBODY;
        self.requeue(slot);
        self.after_read(slot);
    }

    /// Begins to serve a connection outside the fast path; returns its share of this turn.
    fn begin(&mut self, slot: usize) -> Share {
        self.core.shared.current = slot;
        self.progress = Progress::default();
        let config = &self.core.shared.config;
        Share {
            bytes: config.turn_bytes,
            messages: config.turn_messages,
        }
    }

    /// Processes the bytes that an earlier turn left over.
    fn consume_unread(&mut self, slot: usize, share: &mut Share) {
        if self.core.is_stalled(slot) {
            return;
        }
        let Some((mut bytes, used)) = self
            .halves
            .get_mut(slot)
            .and_then(|half| half.take_unread())
        else {
            return;
        };
        let input = bytes.get_mut(used..).unwrap_or_default();
        // A compressed message that is partly delivered goes first; the rest waits for it, even if
        // it is empty.
        let expanded = self.inflate_on(slot, share);
        let left = match expanded {
            true => self.consume(slot, input, share),
            false => input.len(),
        };
        if (left > 0 || !expanded)
            && let Some(half) = self.halves.get_mut(slot)
        {
            let used = bytes.len() - left;
            half.keep_unread(bytes, used);
        }
    }

    fn wants_input(&self, slot: usize, share: &Share) -> bool {
        let (Some(half), Some(peer)) = (self.halves.get(slot), self.core.peers.get(slot)) else {
            return false;
        };
        half.flags.has(Flags::READABLE)
            && !half.has_unread()
            && !share.is_used_up()
            && peer.phase() != Phase::Gone
            && !peer.is_cut()
            && !self.core.is_stalled(slot)
    }

    /// Reads once and delivers the data; returns whether there may be more to read.
    fn read(&mut self, slot: usize, share: &mut Share) -> bool {
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get_mut(slot))
        else {
            return false;
        };
        if let Some(size) = half.decoder.expects()
            && peer.phase() == Phase::Open
            && !peer.has_entered()
            && !peer.transport.is_secure()
        {
            return self.read_large(slot, size, share);
        }
        let most = self.buffer.len();
        // With TLS, all plaintext goes to the buffer.
        let landing = match peer.transport.is_secure() {
            true => None,
            false => half.decoder.landing(),
        };
        let landing = landing.unwrap_or_default();
        // One buffer's size at a time, so that the data is unmasked while it is in the processor's
        // cache.
        let (landing, buffer) = if landing.len() > most {
            (&mut landing[..most], &mut [][..])
        } else {
            (landing, &mut self.buffer[..])
        };
        match peer.transport.read(landing, buffer, &mut self.scratch) {
            Ok((landed, received)) => {
                if landed > 0 {
                    half.decoder.landed(landed);
                }
                self.received(slot, landed, received, share)
            }
            Err(error) => {
                self.lost(slot, error);
                false
            }
        }
    }

    /// Reads once where a message of `size` bytes is expected. The header is read apart, so that
    /// the payload begins at the start of the message's own buffer.
    fn read_large(&mut self, slot: usize, size: usize, share: &mut Share) -> bool {
        let in_pieces = self
            .dispatch(slot)
            .is_some_and(|mut dispatch| dispatch.takes_pieces());
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get_mut(slot))
        else {
            return false;
        };
        let max_fragments = self.core.shared.config.limits.max_fragments;
        let mut bounds = Bounds::new(peer.max_recv_size(), max_fragments);
        bounds.pieces = in_pieces;
        let most = self.buffer.len();
        let mut body = self.pool.take(size);
        let mut head = [0; Header::MAX_SIZE];
        let landing = &mut body[..size.min(most)];
        let buffer = if size > most {
            &mut [][..]
        } else {
            &mut self.buffer[..]
        };
        let came = peer.transport.read_parts([&mut head, landing, buffer]);
        let received = match came {
            Ok(received) => received,
            Err(error) => {
                self.lost(slot, error);
                return false;
            }
        };
        let behind = received.bytes.saturating_sub(head.len());
        let landed = behind.min(size.min(most));
        let adopted = behind > 0
            && half
                .decoder
                .begin_with_buffer(&head, &mut body, landed, bounds);
        if !adopted && received.bytes > 0 {
            // Other data came: it is processed the slower way.
            let mut bytes = Vec::with_capacity(received.bytes);
            bytes.extend_from_slice(&head[..received.bytes.min(head.len())]);
            bytes.extend_from_slice(&body[..landed]);
            bytes.extend_from_slice(&self.buffer[..behind - landed]);
            half.decoder.expect_none();
            self.pool.put(body);
            return self.received_apart(slot, bytes, received, share);
        }
        self.pool.put(body);
        let apart = received.bytes.min(head.len()) + landed;
        self.received(slot, apart, received, share)
    }

    /// Delivers data that was read into `bytes` instead of the buffer.
    fn received_apart(
        &mut self,
        slot: usize,
        bytes: Vec<u8>,
        received: Received,
        share: &mut Share,
    ) -> bool {
        let buffer = std::mem::replace(&mut self.buffer, bytes);
        let more = self.received(slot, 0, received, share);
        self.buffer = buffer;
        more
    }

    fn lost(&mut self, slot: usize, error: io::Error) {
        if let Some(half) = self.halves.get_mut(slot) {
            half.flags.clear(Flags::READABLE);
        }
        let is_probe = self.is_probe(slot);
        if let Some(mut dispatch) = self.dispatch(slot) {
            match is_probe {
                true => dispatch.probed(Some(error)),
                false => dispatch.lost(error),
            }
        }
        // A client that got an answer despite the error is read until its end.
        let is_left = |peer: &Peer| peer.phase() == Phase::Lingering && !peer.is_cut();
        if self.core.peers.get(slot).is_some_and(is_left)
            && let Some(half) = self.halves.get_mut(slot)
        {
            half.flags.set(Flags::READABLE);
        }
    }

    /// Delivers the data of one read; returns whether there may be more to read. The first `landed`
    /// bytes are in the buffer of the message under way, the others in the read buffer.
    fn received(
        &mut self,
        slot: usize,
        landed: usize,
        received: Received,
        share: &mut Share,
    ) -> bool {
        let now = self.now;
        let Some((half, mut conn)) = self.both(slot) else {
            return false;
        };
        // After a hang-up, reading continues up to FIN or `WouldBlock`, although a read comes back
        // short: the edge of the hang-up does not come again.
        if received.blocked {
            half.flags.clear(Flags::HANGUP);
        }
        let more = !received.eof && (!received.drained || half.flags.has(Flags::HANGUP));
        if !more {
            half.flags.clear(Flags::READABLE);
        }
        half.flags.set_if(Flags::EOF, received.eof);
        half.flags.clear(Flags::FULL);
        half.flags.set_if(Flags::FULL, !received.drained);
        if received.bytes > 0 {
            // After the last answer the peer has to read: sending does not postpone the deadline.
            if !half.is_last_answer() {
                half.hear(now, conn.peer.phase());
            }
            if conn.shared.budget.is_on() {
                conn.shared.budget.note_received(slot, conn.shared.now);
            }
            conn.count_bytes_read(received.bytes);
            if let Err(error) = conn.meter_bytes(received.bytes) {
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.fail(error);
                }
                return false;
            }
        }
        share.bytes = share.bytes.saturating_sub(received.bytes.max(1));
        if received.bytes > 0 {
            let range = 0..received.bytes - landed;
            if !self.deliver_rest(slot, range, received.eof, share) {
                return false;
            }
        }
        if received.eof {
            let is_paused = |peer: &Peer| peer.phase() == Phase::Open && peer.is_paused();
            let is_paused = self.core.peers.get(slot).is_some_and(is_paused);
            if is_paused || self.halves.get(slot).is_some_and(InputHalf::has_unread) {
                // The last message paused the connection, or not all of the data was delivered: FIN
                // is read once more when the rest has been delivered.
                self.read_end_again(slot);
                return false;
            }
            let is_probe = self.is_probe(slot);
            if !self.ends_http(slot)
                && let Some(mut dispatch) = self.dispatch(slot)
            {
                match is_probe {
                    true => dispatch.probed(None),
                    false => dispatch.eof(),
                }
            }
        }
        more
    }

    /// Returns whether a connection counts as a TCP probe if it ends now: nothing of a request
    /// came, and no TLS handshake is under way.
    fn is_probe(&self, slot: usize) -> bool {
        let (Some(half), Some(peer)) = (self.halves.get(slot), self.core.peers.get(slot)) else {
            return false;
        };
        peer.phase() == Phase::Opening
            && !half.has_begun()
            && !half.is_idle_http()
            && !peer.transport.is_shaking_hands()
            && !peer.is_refused()
    }

    /// Delivers a part of the buffer, and keeps the data beyond this turn's share; returns whether
    /// none was kept. If the peer's FIN was read behind kept data (`eof`), FIN is read once more
    /// later.
    fn deliver_rest(
        &mut self,
        slot: usize,
        range: Range<usize>,
        eof: bool,
        share: &mut Share,
    ) -> bool {
        // Taken out for the call of `consume`, which borrows the whole reactor.
        let mut buffer = std::mem::take(&mut self.buffer);
        let input = buffer.get_mut(range).unwrap_or_default();
        let (came, left) = (input.len(), self.consume(slot, input, share));
        // A message that was read completely into its own buffer may be waiting there.
        let waits = left > 0 || (came == 0 && self.core.is_stalled(slot));
        if waits && let Some(half) = self.halves.get_mut(slot) {
            half.keep_unread(input[input.len() - left..].to_vec(), 0);
            if eof {
                self.read_end_again(slot);
            }
        }
        self.buffer = buffer;
        !waits
    }

    /// Has the peer's FIN, which was read already, read once more.
    fn read_end_again(&mut self, slot: usize) {
        if let Some(half) = self.halves.get_mut(slot) {
            half.flags.clear(Flags::EOF);
            half.flags.set(Flags::READABLE);
        }
    }

    /// Processes `input`; returns how many bytes at its end are left for a later turn.
    fn consume(&mut self, slot: usize, mut input: &mut [u8], share: &mut Share) -> usize {
        loop {
            let Some(conn) = self.core.peer(slot) else {
                return 0;
            };
            if conn.peer.is_refused() {
                return 0;
            }
            if conn.is_stalled() {
                return input.len();
            }
            match conn.peer.phase() {
                Phase::Opening if conn.peer.is_unannounced() => {
                    self.read_header(slot, &mut input);
                }
                Phase::Opening => self.read_request(slot, &mut input, share),
                Phase::Open | Phase::Closing => self.deliver(slot, &mut input, share),
                Phase::Lingering | Phase::Gone => return 0,
            }
            let Some(conn) = self.core.peer(slot).filter(|conn| !conn.peer.is_cut()) else {
                return 0;
            };
            if input.is_empty() || share.messages == 0 || conn.is_stalled() {
                return input.len();
            }
        }
    }

    /// Delivers messages until the input or the share is used up.
    fn deliver(&mut self, slot: usize, input: &mut &mut [u8], share: &mut Share) {
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        let decoder = &mut half.decoder;
        let (core, handlers) = (&mut self.core, &mut self.handlers);
        let mut dispatch = Dispatch::new(core, &mut half.own, handlers, slot);
        while share.messages > 0 {
            let conn = dispatch.conn();
            // RFC 6455, 1.4 and 7.1.3: after the server's Close frame only the peer's is awaited.
            let open = conn.peer.phase() == Phase::Open;
            if conn.peer.is_cut() || conn.is_stalled() {
                return;
            }
            let max_fragments = conn.shared.config.limits.max_fragments;
            let mut bounds = Bounds::new(conn.peer.max_recv_size(), max_fragments);
            bounds.compressed = conn.peer.is_deflating();
            bounds.pieces = dispatch.takes_pieces();
            let message = match decoder.next(input, bounds) {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => return dispatch.fail(error),
            };
            share.messages -= 1;
            if open
                && let Some(what) = metered(&message)
                && let Err(error) = dispatch.conn().meter(what)
            {
                return dispatch.fail(error);
            }
            match message {
                Message::Close(frame) => {
                    half.flags.set(Flags::CLOSED);
                    return dispatch.peer_close(frame);
                }
                _ if !open => {}
                Message::Compressed(..) | Message::CompressedPiece(_) => {
                    match dispatch.inflate_message(message, bounds.pieces, share) {
                        Ok(true) => {}
                        Ok(false) => {
                            // Makes a later turn continue the message: see `consume_unread`.
                            decoder.recycle(&mut self.pool);
                            return half.keep_unread(Vec::new(), 0);
                        }
                        Err(error) => return dispatch.fail(error),
                    }
                }
                Message::Piece(piece) => {
                    if piece.last {
                        dispatch.conn().count_received();
                    }
                    dispatch.emit::<Fragment>(piece);
                }
                Message::Text(text) => {
                    dispatch.conn().count_received();
                    dispatch.emit::<Utf8>(text);
                }
                Message::Binary(bytes) => {
                    dispatch.conn().count_received();
                    dispatch.emit::<Binary>(bytes);
                }
                Message::Pong(payload) => _ = dispatch.emit::<Pong>(payload),
                // RFC 6455, 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong
                // frame in response, unless it already received a Close frame."
                Message::Ping(payload) => {
                    if dispatch.emit::<Ping>(payload) != Some(Verdict::Refuse)
                        && let Ok(0) | Err(SendError::BacklogFull { .. }) =
                            dispatch.core.send(slot, OpCode::Pong, payload)
                    {
                        dispatch.core.shared.stats.dropped_pongs += 1;
                    }
                }
            }
            decoder.recycle(&mut self.pool);
            if input.is_empty() && !decoder.is_kept() {
                return;
            }
        }
    }
}

/// Returns how a message counts against the rates of a connection, if it does.
#[inline(always)]
fn metered(message: &Message<'_>) -> Option<Metered> {
    match message {
        Message::Ping(_) | Message::Pong(_) => Some(Metered::Ping),
        Message::Piece(piece) | Message::CompressedPiece(piece) => {
            piece.first.then_some(Metered::Message)
        }
        Message::Text(_) | Message::Binary(_) | Message::Compressed(..) => Some(Metered::Message),
        Message::Close(_) => None,
    }
}
