//! The state of a connection that is a matter of yes or no, in one word.

/// The state of a connection that is a matter of yes or no. Most of it keeps a message off the fast
/// path, so the fast path looks at one word.
#[derive(Clone, Copy)]
pub(crate) struct Marks(u32);

impl Marks {
    /// `abort` was called: no frame is sent, and the socket is closed at once.
    pub(crate) const CUT: u32 = 1;
    /// The kernel did not take everything.
    pub(crate) const BLOCKED: u32 = 1 << 1;
    /// A sign of life: the kernel took more after it had been full, so the peer reads; or reading
    /// was resumed, and the time before is not to be held against the peer.
    pub(crate) const PROGRESS: u32 = 1 << 2;
    /// The slow-consumer policy closed it, and `Error` has not told so yet.
    pub(crate) const TOO_SLOW: u32 = 1 << 3;
    /// There is an outbox. Mirrors `Peer::outbox`.
    pub(super) const QUEUED: u32 = 1 << 4;
    /// There is more in `Peer::passing` than the request. Mirrors that field.
    pub(super) const PASSING: u32 = 1 << 5;
    /// The phase is another than `Open`. Mirrors the phase.
    pub(super) const NOT_OPEN: u32 = 1 << 6;
    /// There is TLS, which may hold something back.
    pub(super) const SECURE: u32 = 1 << 7;
    /// The application does not want to read for now.
    pub(super) const PAUSED: u32 = 1 << 8;
    /// More than `drain_at` was left over; a `Drain` is due when that is no longer so.
    pub(super) const ABOVE: u32 = 1 << 9;
    /// Callbacks wait until something was sent, or was dropped.
    pub(super) const AWAITED: u32 = 1 << 10;
    /// A message that is sent in parts was begun and has not ended.
    pub(super) const UNDER_WAY: u32 = 1 << 11;
    /// It did not end in order while the server shut down.
    pub(crate) const LOST: u32 = 1 << 12;
    /// Its rate is limited.
    pub(super) const METERED: u32 = 1 << 13;
    /// It exceeded a rate, and is not read for now.
    pub(super) const HELD_OFF: u32 = 1 << 14;
    /// Its messages and bytes are counted.
    pub(super) const COUNTED: u32 = 1 << 15;

    /// All of the above: each keeps a message off the fast path.
    const SLOW: u32 = (1 << 16) - 1;

    /// It is to be settled before the turn ends. Mirrors `Shared::dirty`.
    pub(crate) const DIRTY: u32 = 1 << 16;
    /// It was sent neither a 101 nor a response to a plain request.
    pub(crate) const HALF_OPEN: u32 = 1 << 17;
    /// No event tells of it: the header of the PROXY protocol has not come, or it was refused before
    /// `Connect`.
    pub(super) const UNANNOUNCED: u32 = 1 << 18;
    /// Compression was agreed on.
    pub(super) const DEFLATING: u32 = 1 << 19;

    /// Its phase has changed, and the deadline of the new one is not set yet.
    pub(super) const ENTERED: u32 = 1 << 20;

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

    /// Sets a mark, or clears it.
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
