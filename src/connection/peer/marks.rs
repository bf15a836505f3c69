//! The boolean state of a connection, in one word.

/// The boolean state of a connection, as marks. Most of them keep a message off the fast path, so
/// the fast path tests one word.
#[derive(Clone, Copy)]
pub(crate) struct Marks(u32);

impl Marks {
    /// The connection is cut: no further frame is sent, and the socket is closed at once.
    pub(crate) const CUT: u32 = 1;
    /// The kernel did not take everything.
    pub(crate) const BLOCKED: u32 = 1 << 1;
    /// A sign of life: the kernel took data after it had been full, so the peer reads; or reading
    /// was resumed, and the time before does not count as silence.
    pub(crate) const PROGRESS: u32 = 1 << 2;
    /// The slow-consumer policy closed the connection, and `Error` has not reported it yet.
    pub(crate) const TOO_SLOW: u32 = 1 << 3;
    /// There is an outbox. Mirrors `Peer::outbox`.
    pub(super) const QUEUED: u32 = 1 << 4;
    /// `Peer::passing` holds more than the request. Mirrors that field.
    pub(super) const PASSING: u32 = 1 << 5;
    /// The phase is not `Open`. Mirrors the phase.
    pub(super) const NOT_OPEN: u32 = 1 << 6;
    /// The connection uses TLS, which may hold data back.
    pub(super) const SECURE: u32 = 1 << 7;
    /// The application has paused reading.
    pub(super) const PAUSED: u32 = 1 << 8;
    /// More than `drain_at` bytes were left; a `Drain` is due when they are not any more.
    pub(super) const ABOVE: u32 = 1 << 9;
    /// Callbacks wait until data was sent or dropped.
    pub(super) const AWAITED: u32 = 1 << 10;
    /// A message that is sent in parts has begun and not ended.
    pub(super) const UNDER_WAY: u32 = 1 << 11;
    /// The connection did not end in order while the server shut down.
    pub(crate) const LOST: u32 = 1 << 12;
    /// The rate of its input is limited.
    pub(super) const METERED: u32 = 1 << 13;
    /// It exceeded a rate, and is not read at present.
    pub(super) const HELD_OFF: u32 = 1 << 14;
    /// Its messages and bytes are counted.
    pub(super) const COUNTED: u32 = 1 << 15;

    /// All of the above; each of them keeps a message off the fast path.
    const SLOW: u32 = (1 << 16) - 1;

    /// It is to be settled before the turn ends. Mirrors `Shared::dirty`.
    pub(crate) const DIRTY: u32 = 1 << 16;
    /// It was sent neither a 101 nor a response to a plain request.
    pub(crate) const HALF_OPEN: u32 = 1 << 17;
    /// No event has announced it: its PROXY protocol header has not arrived, or it was refused
    /// before `Connect`.
    pub(super) const UNANNOUNCED: u32 = 1 << 18;
    /// Compression was agreed on.
    pub(super) const DEFLATING: u32 = 1 << 19;

    /// The phase has changed, and the deadline of the new one is not set yet.
    pub(super) const ENTERED: u32 = 1 << 20;
    /// The kernel holds little unsent data of it, since it has a topic that conflates.
    pub(super) const LIMITED: u32 = 1 << 21;

    pub(super) fn new(marks: u32) -> Self {
        Self(marks)
    }

    #[inline(always)]
    pub(crate) fn has(self, mark: u32) -> bool {
        self.0 & mark != 0
    }

    /// Sets a mark; returns whether it was set before.
    pub(crate) fn set(&mut self, mark: u32) -> bool {
        let had = self.has(mark);
        self.0 |= mark;
        had
    }

    /// Clears a mark; returns whether it was set before.
    pub(crate) fn take(&mut self, mark: u32) -> bool {
        let had = self.has(mark);
        self.0 &= !mark;
        had
    }

    /// Sets or clears a mark.
    pub(super) fn put(&mut self, mark: u32, on: bool) {
        match on {
            true => self.set(mark),
            false => self.take(mark),
        };
    }

    /// Returns whether nothing keeps a message off the fast path.
    #[inline(always)]
    pub(super) fn is_quiet(self) -> bool {
        self.0 & Self::SLOW == 0
    }

    /// Returns whether nothing but `mark` keeps a message off the fast path.
    #[inline(always)]
    pub(super) fn has_only(self, mark: u32) -> bool {
        self.0 & Self::SLOW == mark
    }
}
