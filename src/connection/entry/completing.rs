//! Callbacks that wait until a message was sent.

use super::PeerMut;
use crate::connection::callbacks::Done;
use crate::connection::peer::Phase;
use crate::error::SendError;

impl PeerMut<'_> {
    /// Has `done` called when everything is sent that the connection was sent until now.
    pub(crate) fn await_sent(&mut self, done: Done) -> Result<(), SendError> {
        if !matches!(self.peer.phase(), Phase::Open | Phase::Closing) {
            return Err(self.peer.phase().unsendable());
        }
        if self.is_current() && !self.shared.out.is_empty() {
            // From here on the end of this message has to be known.
            self.peer.enqueue(self.shared.out.as_slice());
            self.shared.out.clear();
        }
        self.peer.await_sent(done);
        self.mark_dirty();
        Ok(())
    }

    /// Has `done` told what becomes of a message of which `size` bytes were queued: none if it was
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
