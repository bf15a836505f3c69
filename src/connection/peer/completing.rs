//! Messages in parts, and completion callbacks.

use super::{Marks, Peer};
use crate::connection::callbacks::Done;
use crate::connection::send::{Completions, Partial};
use crate::error::SendError;

impl Peer {
    /// Returns the message that has begun and not ended.
    pub(crate) fn message(&self) -> Option<Partial> {
        self.extras()?.multipart.as_deref().copied()
    }

    pub(crate) fn set_message(&mut self, message: Option<Partial>) {
        self.marks.put(Marks::UNDER_WAY, message.is_some());
        self.extras_mut().multipart = message.map(Box::new);
    }

    /// Returns whether a message that is sent in parts has not ended.
    pub(crate) fn is_under_way(&self) -> bool {
        self.marks.has(Marks::UNDER_WAY)
    }

    /// Returns whether messages can be sent: the connection is open, and none is under way.
    #[inline(always)]
    pub(crate) fn takes_messages(&self) -> bool {
        !self.marks.has(Marks::NOT_OPEN | Marks::UNDER_WAY)
    }

    /// Registers `done`, to be called when everything that is queued now has been sent.
    pub(crate) fn await_sent(&mut self, done: Done) {
        self.marks.set(Marks::AWAITED);
        let queued = self.backlog();
        self.completions_mut().await_sent(queued, done);
    }

    /// Registers `done`, to be called because its message was dropped.
    pub(crate) fn await_dropped(&mut self, done: Done) {
        self.marks.set(Marks::AWAITED);
        self.completions_mut().await_dropped(done);
    }

    /// Returns whether callbacks wait.
    pub(crate) fn is_awaited(&self) -> bool {
        self.marks.has(Marks::AWAITED)
    }

    /// Returns how many callbacks can be called.
    pub(crate) fn ready_completions(&self) -> usize {
        if !self.is_awaited() {
            return 0;
        }
        let completions = self.extras().and_then(|extras| extras.completions.as_ref());
        completions.map_or(0, |completions| completions.ready())
    }

    /// Takes the next callback that can be called, with its result. If the connection is `over`,
    /// the callbacks of unsent messages follow.
    pub(crate) fn take_completion(&mut self, over: bool) -> Option<(Done, Result<(), SendError>)> {
        if !self.is_awaited() {
            return None;
        }
        let completions = self.completions_mut();
        let next = completions.take(over);
        let is_empty = completions.is_empty();
        self.marks.put(Marks::AWAITED, !is_empty);
        next
    }

    pub(super) fn completions_mut(&mut self) -> &mut Completions<Done> {
        self.extras_mut().completions.get_or_insert_default()
    }
}
