//! Whether a connection is read.

use super::cursor::Connection;
use super::peer::{Marks, Peer, Phase};

impl Peer {
    /// Stops reading, for as long as it is open.
    fn pause(&mut self) {
        self.marks.set(Marks::PAUSED);
    }

    /// Goes on reading; returns whether it was paused.
    fn resume(&mut self) -> bool {
        // A close has ended the pause: what is done after it is no sign of life.
        let was_paused = self.is_paused();
        self.marks.take(Marks::PAUSED);
        if was_paused {
            self.marks.set(Marks::PROGRESS);
        }
        was_paused
    }

    /// Returns whether there was a sign of life since the last call: the peer read something after
    /// it had not, or reading was resumed.
    pub(crate) fn take_progress(&mut self) -> bool {
        let progress = self.marks.take(Marks::PROGRESS);
        // What TLS holds back was counted as taken before.
        let is_blocked = self.marks.has(Marks::SECURE) && self.marks.has(Marks::BLOCKED);
        (is_blocked && self.transport.take_progress()) || progress
    }

    /// Returns whether the application wants nothing to be read. Once it is closing it is read.
    pub(crate) fn is_paused(&self) -> bool {
        self.marks.has(Marks::PAUSED) && self.phase <= Phase::Open
    }
}

impl Connection<'_> {
    /// Stops reading: no message, ping, pong or Close frame of the peer is delivered until
    /// [`resume`](Self::resume), and TCP holds the peer back. What was read before and not delivered
    /// waits, in order, at most twice `read_buffer` bytes, and of a compressed message that is handed
    /// out in pieces `max_recv_size` bytes that were expanded. `Drain`, `Error` and `Disconnect`
    /// still come, and it can be sent to.
    ///
    /// Before `Ready` it takes effect then: the opening handshake goes on.
    ///
    /// A paused peer cannot be heard, so silence is not held against it: it is neither pinged nor
    /// given up, and there is no deadline but the application's own. That it has closed or is gone is
    /// noticed when reading is resumed, or when sending to it fails. A close from this side, by
    /// [`disconnect`](Self::disconnect) or because the server goes down, ends the pause, so that
    /// the peer's answer is seen; messages are not delivered any more then.
    ///
    /// Another's connection is paused just so, by [`Hub::get`](crate::Hub::get).
    pub fn pause(&mut self) {
        self.peer_mut().pause();
    }

    /// Goes on reading after [`pause`](Self::pause), with what waited first, when the handler has
    /// returned. Does nothing if it is not paused.
    pub fn resume(&mut self) {
        if self.peer_mut().resume() {
            self.core.mark(self.slot);
        }
    }

    /// Returns whether reading is paused. It is not once the connection is closing.
    pub fn is_paused(&self) -> bool {
        self.peer().is_paused()
    }
}
