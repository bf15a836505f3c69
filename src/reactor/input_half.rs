//! The half of a connection that handlers cannot reach.

use crate::connection::Phase;
use crate::connection::event::Handlers;
use crate::plain_http::Reader;
use crate::protocol::Decoder;

/// The half of a connection that handlers cannot reach: its input and its deadline.
pub(super) struct InputHalf {
    pub(super) decoder: Decoder,
    /// The handlers that were set on this connection alone.
    pub(super) own: Option<Box<Handlers>>,
    pub(super) pending: Option<Box<Pending>>,
    /// The time that deadlines count from: the beginning of the phase, or a later sign of life or
    /// progress of the peer.
    pub(super) stamp: u64,
    /// When the connection's current entry in the wheel is due, or 0. Other entries are ignored.
    pub(super) due: u64,
    pub(super) flags: Flags,
}

/// The state of a connection's input, as flags.
#[derive(Clone, Copy)]
pub(super) struct Flags(u8);

impl Flags {
    /// The socket may have more to read.
    pub(super) const READABLE: u8 = 1;
    /// The kernel has received the peer's FIN, behind the peer's data.
    pub(super) const HANGUP: u8 = 2;
    /// The peer's FIN was read.
    pub(super) const EOF: u8 = 4;
    /// The server's FIN was sent.
    pub(super) const FIN: u8 = 8;
    /// Input is left unread because the connection is stalled: see `PeerMut::is_stalled`.
    pub(super) const PAUSED: u8 = 16;
    /// The connection is in the ready queue of the reactor.
    pub(super) const ENQUEUED: u8 = 32;
    /// The peer's Close frame was received; nothing may follow it.
    pub(super) const CLOSED: u8 = 64;
    /// The last read filled all the space that was available.
    pub(super) const FULL: u8 = 128;

    pub(super) fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// Sets a flag; returns whether it was set before.
    pub(super) fn set(&mut self, flag: u8) -> bool {
        let had = self.has(flag);
        self.0 |= flag;
        had
    }

    /// Sets a flag if `on`.
    #[inline(always)]
    pub(super) fn set_if(&mut self, flag: u8, on: bool) {
        self.0 |= flag * u8::from(on);
    }

    /// Clears a flag; returns whether it was set before.
    pub(super) fn clear(&mut self, flag: u8) -> bool {
        let had = self.has(flag);
        self.0 &= !flag;
        had
    }
}

/// Input state that an idle connection does not have.
#[derive(Default)]
pub(super) struct Pending {
    /// The HTTP requests of a connection that is not upgraded yet, from its first byte on.
    http: Option<Http>,
    /// The received part of a PROXY protocol header.
    header: Vec<u8>,
    /// Bytes that were read and not processed yet, and how many of them are used up.
    unread: Option<(Vec<u8>, usize)>,
}

/// The HTTP requests of a connection that is not upgraded yet.
pub(super) struct Http {
    pub(super) reader: Reader,
    /// How many requests were answered.
    pub(super) answered: usize,
    /// No further request is read; the connection ends when the last answer has been sent.
    pub(super) last: bool,
}

impl Http {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            answered: 0,
            last: false,
        }
    }

    /// Returns whether no request is under way: the last one was answered, or the next one has not
    /// begun.
    fn is_idle(&self) -> bool {
        self.last || (self.answered > 0 && self.reader.is_empty())
    }
}

impl InputHalf {
    pub(super) fn new(now: u64) -> Self {
        Self {
            decoder: Decoder::default(),
            own: None,
            pending: None,
            stamp: now,
            due: 0,
            flags: Flags(0),
        }
    }

    /// Returns whether the connection is readable and nothing keeps its input off the fast path.
    #[inline(always)]
    pub(super) fn is_fast(&self) -> bool {
        self.flags.0 == Flags::READABLE && self.pending.is_none() && self.decoder.is_idle()
    }

    /// Returns whether bytes that were read wait to be processed.
    pub(super) fn has_unread(&self) -> bool {
        self.pending
            .as_deref()
            .is_some_and(|pending| pending.unread.is_some())
    }

    /// Takes the bytes that wait to be processed, and how many of them are used up.
    pub(super) fn take_unread(&mut self) -> Option<(Vec<u8>, usize)> {
        let unread = self.pending.as_deref_mut()?.unread.take();
        self.tidy();
        unread
    }

    pub(super) fn keep_unread(&mut self, bytes: Vec<u8>, used: usize) {
        self.pending.get_or_insert_default().unread = Some((bytes, used));
    }

    /// Takes the received part of a PROXY protocol header.
    pub(super) fn take_header(&mut self) -> Vec<u8> {
        let pending = self.pending.as_deref_mut();
        let header = pending.map(|pending| std::mem::take(&mut pending.header));
        self.tidy();
        header.unwrap_or_default()
    }

    pub(super) fn keep_header(&mut self, bytes: Vec<u8>) {
        self.pending.get_or_insert_default().header = bytes;
    }

    /// Takes the connection's HTTP requests, if the first one has begun.
    pub(super) fn take_http(&mut self) -> Option<Http> {
        let http = self.pending.as_deref_mut()?.http.take();
        self.tidy();
        http
    }

    pub(super) fn keep_http(&mut self, http: Http) {
        self.pending.get_or_insert_default().http = Some(http);
    }

    pub(super) fn http(&self) -> Option<&Http> {
        self.pending.as_deref()?.http.as_ref()
    }

    pub(super) fn http_mut(&mut self) -> Option<&mut Http> {
        self.pending.as_deref_mut()?.http.as_mut()
    }

    /// Frees `pending` if it is empty.
    fn tidy(&mut self) {
        self.pending.take_if(|pending| {
            pending.http.is_none() && pending.unread.is_none() && pending.header.is_empty()
        });
    }

    /// Returns whether a request or a PROXY protocol header has begun and is incomplete.
    pub(super) fn has_begun(&self) -> bool {
        let pending = self.pending.as_deref();
        pending.is_some_and(|pending| !pending.header.is_empty())
            || self.http().is_some_and(|http| !http.reader.is_empty())
    }

    /// Returns whether plain requests were answered, and the next one or the end is awaited.
    pub(super) fn is_idle_http(&self) -> bool {
        self.http().is_some_and(Http::is_idle)
    }

    /// Returns whether the peer is owed an answer during the opening handshake.
    pub(super) fn owes_answer(&self) -> bool {
        !self.is_idle_http()
    }

    /// Returns whether the peer's Close frame was received and none of its data is left to read.
    pub(super) fn is_done(&self) -> bool {
        self.flags.has(Flags::CLOSED) && !self.flags.has(Flags::FULL) && !self.has_unread()
    }

    /// Records a sign of life, in a phase where it postpones the deadline.
    pub(super) fn hear(&mut self, now: u64, phase: Phase) {
        if phase == Phase::Open || self.is_idle_http() {
            self.stamp = now;
        }
    }

    /// Returns whether the last plain request was answered; further input is ignored.
    pub(super) fn is_last_answer(&self) -> bool {
        self.http().is_some_and(|http| http.last)
    }

    /// Returns about how many bytes of memory the received data takes.
    pub(super) fn held(&self) -> usize {
        let pending = self.pending.as_deref().map_or(0, |pending| {
            let unread = pending.unread.as_ref();
            let http = pending.http.as_ref();
            size_of::<Pending>()
                + pending.header.capacity()
                + unread.map_or(0, |(bytes, _)| bytes.capacity())
                + http.map_or(0, |http| http.reader.held())
        });
        self.decoder.held() + pending
    }

    /// Frees the received data, which is not needed any more.
    pub(super) fn forget_input(&mut self) {
        self.decoder = Decoder::default();
        self.pending = None;
    }
}

/// The rest of a connection's share of a turn.
pub(super) struct Share {
    pub(super) bytes: usize,
    pub(super) messages: usize,
}

impl Share {
    pub(super) fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.messages == 0
    }
}
