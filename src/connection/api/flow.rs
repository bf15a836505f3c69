//! Flow control: the queue of a peer, the policy for a full queue, and pauses of reading.

use super::connection::Connection;
use crate::limits::SlowConsumer;

impl Connection<'_> {
    /// Returns how many bytes sent to the peer neither the kernel nor TLS has accepted. The number
    /// is exact: it includes the [`backlog`](Self::backlog) and the data that the running handler
    /// has sent and that was not offered to the kernel yet. TLS holds back at most 128 KiB.
    #[doc(alias = "bufferedAmount")]
    pub fn buffered_amount(&self) -> usize {
        let offered = match self.core.shared.current == self.slot {
            true => self.core.shared.out.as_slice().len(),
            false => 0,
        };
        self.peer().backlog() + offered
    }

    /// Returns whether a `Drain` will follow: the kernel did not accept all data, and more than
    /// [`drain_at`](Self::drain_at) bytes are left.
    ///
    /// This is the test for a sender that keeps only the latest value: it sends the value to a
    /// connection that is not congested, and otherwise sends the value of that time in the `Drain`
    /// handler. [`buffered_amount`](Self::buffered_amount) is not a test for this, because data
    /// that was queued in this turn may leave at its end without a `Drain`.
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
        self.peer().is_congested(self.core.shared.config.drain_at)
    }

    /// Returns the backlog size at which `Drain` comes, in bytes.
    pub fn drain_at(&self) -> usize {
        self.peer().drain_at(self.core.shared.config.drain_at)
    }

    /// Sets the backlog size at which `Drain` comes, in bytes. Default: the server's setting, see
    /// [`Builder::drain_at`](crate::Builder::drain_at).
    pub fn set_drain_at(&mut self, bytes: usize) {
        self.peer_mut().set_drain_at(bytes);
    }

    /// Returns the policy for messages that would exceed `max_backlog`.
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.peer().slow_consumer()
    }

    /// Sets the policy for messages that would exceed `max_backlog`, from the next message on.
    /// Default: the server's policy. [`SlowConsumer::DropOldest`] does not drop messages that are
    /// queued already.
    pub fn set_slow_consumer(&mut self, policy: SlowConsumer) {
        self.entry().set_slow_consumer(policy);
    }
}

impl Connection<'_> {
    /// Stops reading: until [`resume`](Self::resume), no message, ping, pong or Close frame of the
    /// peer is delivered, and TCP slows the peer down. Data that was read and not delivered waits,
    /// in order: at most twice `read_buffer` bytes, and at most `max_recv_size` expanded bytes of a
    /// compressed message that is delivered in pieces. `Drain`, `Error` and `Disconnect` still
    /// come, and messages can be sent.
    ///
    /// Before `Ready` the pause takes effect with `Ready`: the opening handshake continues.
    ///
    /// The server cannot notice whether a paused peer is silent, so it neither pings nor closes the
    /// peer for silence. A deadline for the pause is up to the application. The server notices that
    /// the peer has closed or failed when reading resumes, or when sending fails. A close from this
    /// side, by [`disconnect`](Self::disconnect) or because the server shuts down, ends the pause,
    /// so that the server can receive the peer's answer; messages are no longer delivered then.
    ///
    /// To pause another connection use [`Hub::get`](crate::Hub::get).
    pub fn pause(&mut self) {
        self.peer_mut().pause();
    }

    /// Resumes reading after [`pause`](Self::pause), when the handler has returned; data that
    /// waited is delivered first. Without a pause the call has no effect.
    pub fn resume(&mut self) {
        if self.peer_mut().resume() {
            self.core.mark_dirty(self.slot);
        }
    }

    /// Returns whether reading is paused; false once the connection is closing.
    pub fn is_paused(&self) -> bool {
        self.peer().is_paused()
    }
}
