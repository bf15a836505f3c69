//! Completion callbacks, which are called when a message was sent or dropped.

use super::PeerMut;
use crate::connection::callbacks::Done;
use crate::connection::peer::Phase;
use crate::error::SendError;

impl PeerMut<'_> {
    /// Registers `done`, to be called when everything sent to the connection so far has reached the
    /// kernel.
    pub(crate) fn await_sent(&mut self, done: Done) -> Result<(), SendError> {
        if !matches!(self.peer.phase(), Phase::Open | Phase::Closing) {
            return Err(self.peer.phase().unsendable());
        }
        if self.is_current() && !self.shared.out.is_empty() {
            // The end of this message has to be known, so the replies are moved to the queue.
            self.peer.enqueue(self.shared.out.as_slice());
            self.shared.out.clear();
        }
        self.peer.await_sent(done);
        self.mark_dirty();
        Ok(())
    }

    /// Registers `done` for a message of which `size` bytes were queued; 0 means that it was
    /// dropped.
    pub(crate) fn await_message(&mut self, size: usize, done: Done) -> Result<usize, SendError> {
        if size > 0 {
            self.await_sent(done)?;
        } else {
            self.peer.await_dropped(done);
            self.mark_dirty();
        }
        Ok(size)
    }
}
