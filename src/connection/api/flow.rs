//! Flow control: what is queued for a peer, what happens when that is too much, and whether the peer
//! is read.

use super::connection::Connection;
use crate::config::SlowConsumer;

impl Connection<'_> {
    /// Returns the bytes that were sent to the peer and that the kernel, or TLS, has not taken, to
    /// the byte: what waits in the [`backlog`](Self::backlog), and what the handler that is
    /// running has sent and the kernel was not offered yet. TLS holds back 128 KiB at most.
    #[doc(alias = "bufferedAmount")]
    pub fn buffered_amount(&self) -> usize {
        let offered = match self.core.shared.current == self.slot {
            true => self.core.shared.out.as_slice().len(),
            false => 0,
        };
        self.peer().backlog() + offered
    }

    /// Returns whether a `Drain` is to come: the kernel did not take everything that the connection
    /// was sent, and more than [`drain_at`](Self::drain_at) bytes are left.
    ///
    /// It is the test for a sender that keeps the latest value alone: a connection that is not
    /// congested is sent the value now, and one that is congested is sent the value of then in its
    /// `Drain`. [`buffered_amount`](Self::buffered_amount) will not do, since what is queued in this
    /// turn may leave at its end without a `Drain`.
    ///
    /// ```
    /// use wsloop::{Connection, Sent, SendError, Server, event::Drain};
    ///
    /// #[derive(Default)]
    /// struct Latest(Option<String>);
    ///
    /// fn publish(conn: &mut Connection<'_>, value: &str) -> Result<Sent, SendError> {
    ///     if conn.is_congested() {
    ///         conn.data::<Latest>().0 = Some(value.into());
    ///         return Ok(Sent::NOTHING);
    ///     }
    ///     conn.send_utf8(value)
    /// }
    ///
    /// let builder = Server::builder().on(Drain, |conn, ()| match conn.data::<Latest>().0.take() {
    ///     Some(value) => conn.send_utf8(&value),
    ///     None => Ok(Sent::NOTHING),
    /// });
    /// ```
    pub fn is_congested(&self) -> bool {
        self.peer().is_congested()
    }

    /// Returns how far the backlog has to go down for `Drain`, in bytes.
    pub fn drain_at(&self) -> usize {
        self.peer().drain_at(self.core.shared.config.drain_at)
    }

    /// Sets how far the backlog has to go down for `Drain`, in bytes. Default as the server's; see
    /// [`Builder::drain_at`](crate::Builder::drain_at).
    pub fn set_drain_at(&mut self, bytes: usize) {
        self.peer_mut().set_drain_at(bytes);
    }

    /// Returns what happens to messages beyond `max_backlog`.
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.peer().slow_consumer()
    }

    /// Sets what happens to messages beyond `max_backlog`, from the next one on. Default as the
    /// server's. What is queued already is not dropped by [`SlowConsumer::DropOldest`].
    pub fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        self.peer_mut().set_slow_consumer(policy);
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
            self.core.mark_dirty(self.slot);
        }
    }

    /// Returns whether reading is paused. It is not once the connection is closing.
    pub fn is_paused(&self) -> bool {
        self.peer().is_paused()
    }
}
