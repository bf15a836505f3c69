//! Shutting the server down without loss.

use std::time::Duration;

use super::handle::Handle;
use super::hub::Hub;
use crate::close_code::CloseCode;
use crate::connection::shared::{Order, Plan};
use crate::error::SendError;

/// The settings for shutting a server down without loss: see [`Hub::wind_down`].
///
/// ```
/// use std::time::Duration;
/// use wsloop::{CloseCode, Hub, SendError, WindDown};
///
/// fn restart(hub: &mut Hub<'_>) -> Result<(), SendError> {
///     hub.wind_down(
///         WindDown::within(Duration::from_secs(30))
///             .spread(Duration::from_secs(10))
///             .code(CloseCode::SERVICE_RESTART),
///     )
/// }
/// ```
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct WindDown(Plan);

impl WindDown {
    /// Ends the server within this time; connections that are left then are cut. By default clients
    /// are closed all at once, with 1001.
    pub fn within(deadline: Duration) -> Self {
        Self(Plan {
            deadline,
            code: CloseCode::GOING_AWAY,
            spread: Duration::ZERO,
        })
    }

    /// Closes the clients evenly over this time, the oldest first, so that they do not all
    /// reconnect at the same moment. A spread longer than the deadline ends with the deadline.
    /// Default zero: all at once.
    pub fn spread(mut self, spread: Duration) -> Self {
        self.0.spread = spread;
        self
    }

    /// Sets the close code for the clients (RFC 6455, 7.4). Default 1001, "going away"; 1012
    /// announces a restart.
    pub fn code(mut self, code: impl Into<CloseCode>) -> Self {
        self.0.code = code.into();
        self
    }

    /// Returns the plan, unless its code must not be sent.
    pub(super) fn plan(self) -> Result<Plan, SendError> {
        self.0.code.sendable()?;
        Ok(self.0)
    }
}

impl Hub<'_> {
    /// Shuts the server down without loss: no new clients are accepted, queued messages are sent,
    /// clients are closed one after the other, and connections that are left at the deadline are
    /// cut.
    ///
    /// * With [`Builder::lame_duck`](crate::Builder::lame_duck), health checks fail for that time
    ///   first, and everything else continues.
    /// * The `Shutdown` event comes, as with [`shutdown`](Self::shutdown).
    /// * Connections in the accept queue are accepted, within the limits for connections, half-open
    ///   connections and memory; then the listeners close. A socket that was given to the builder
    ///   or inherited stays open for the processes that share it.
    /// * Over the [spread](WindDown::spread) clients are closed with the [code](WindDown::code).
    ///   Until its turn each client is served as before, and ticks and timers continue. Messages
    ///   that have arrived by then are delivered, unless the connection is paused, has exceeded a
    ///   rate, or has a backlog that is too full.
    /// * The Close frame is sent after the queued messages. A slow reader has until the deadline to
    ///   receive them, then `close_timeout` to answer.
    /// * A client in the opening handshake can complete it, within `handshake_timeout`, and is then
    ///   closed. A plain request is answered with `Connection: close`.
    /// * At the deadline every remaining connection is cut. [`Stats`](crate::Stats) counts the
    ///   connections that [ended in order](crate::Stats::ended_in_order) and those that were
    ///   [cut](crate::Stats::cut). The [`Stopped`](crate::event::Stopped) event comes, and
    ///   [`Server::start`](crate::Server::start) returns.
    ///
    /// A second call can only bring the deadline and the end of the spread forward; `shutdown` and
    /// `stop` end the spread at once. The code cannot be changed.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`], and does nothing, for a code that must not be sent.
    #[doc(alias = "drain")]
    #[doc(alias = "graceful_stop")]
    pub fn wind_down(&mut self, how: WindDown) -> Result<(), SendError> {
        let plan = how.plan()?;
        self.core.shared.orders.push(Order::WindDown(plan));
        Ok(())
    }

    /// Returns whether the server shuts down, from the beginning of a
    /// [`wind_down`](Self::wind_down), a `shutdown` or a `stop` on. This includes the time of
    /// [`Builder::lame_duck`](crate::Builder::lame_duck), during which clients are still accepted
    /// and health checks have to fail.
    #[doc(alias = "is_going_down")]
    pub fn is_shutting_down(&self) -> bool {
        self.core.shared.is_shutting_down()
    }
}

impl Handle {
    /// Shuts the server down without loss, as [`Hub::wind_down`] does.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::BadCloseCode`] for a code that must not be sent, and
    /// [`SendError::Gone`] if the server has ended.
    #[doc(alias = "drain")]
    pub fn wind_down(&self, how: WindDown) -> Result<(), SendError> {
        how.plan()?;
        self.run(move |hub| {
            let ordered = hub.wind_down(how);
            debug_assert!(ordered.is_ok(), "the code was checked");
        })
    }
}
