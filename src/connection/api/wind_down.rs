//! Shutting down without loss.

use std::time::Duration;

use super::handle::Handle;
use super::hub::Hub;
use crate::close_code::CloseCode;
use crate::connection::shared::{Order, Plan};
use crate::error::SendError;

/// How a server shuts down without loss: see [`Hub::wind_down`].
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
    /// Ends everything within this time: connections that are left then are cut. Clients are closed
    /// all at once, with 1001.
    pub fn within(deadline: Duration) -> Self {
        Self(Plan {
            deadline,
            code: CloseCode::GOING_AWAY,
            spread: Duration::ZERO,
        })
    }

    /// Closes the clients over this time, evenly and the oldest first, so that they do not all come
    /// back at the same moment. It is never longer than the deadline. Default zero: all at once.
    pub fn spread(mut self, spread: Duration) -> Self {
        self.0.spread = spread;
        self
    }

    /// Sets the code that clients are closed with (RFC 6455, 7.4). Default 1001, "going away"; 1012
    /// announces a restart.
    pub fn code(mut self, code: impl Into<CloseCode>) -> Self {
        self.0.code = code.into();
        self
    }

    /// Returns the plan, unless its code must not be sent.
    fn check(self) -> Result<Plan, SendError> {
        self.0.code.sendable()?;
        Ok(self.0)
    }
}

impl Hub<'_> {
    /// Shuts the server down without loss: no new clients are accepted, queued messages are sent,
    /// clients are closed one after the other, and connections that are left after the deadline are
    /// cut.
    ///
    /// * With [`Builder::lame_duck`](crate::Builder::lame_duck) health checks fail for that time
    ///   first, and everything else goes on.
    /// * The `Shutdown` event comes, as with [`shutdown`](Self::shutdown).
    /// * Connections already in the accept queue are accepted, within the limits of connections,
    ///   half-open ones and memory; then the listeners close. A socket that was given or inherited is
    ///   left as it is, for other processes that have it.
    /// * Over the [spread](WindDown::spread) clients are closed with the [code](WindDown::code).
    ///   Until its turn each is served as before, and ticks and timers go on. Messages that have
    ///   arrived by then are delivered, unless the connection is paused, exceeded a rate or does not
    ///   read itself.
    /// * The Close frame goes behind the queue. A slow reader has until the deadline to take that,
    ///   then `close_timeout` to answer.
    /// * A client in the opening handshake may complete it, within `handshake_timeout`, and is closed
    ///   then. A plain request is answered with `Connection: close`.
    /// * The deadline cuts every connection that is left. [`Stats`](crate::Stats) counts those that
    ///   [ended in order](crate::Stats::ended_in_order) and those that were
    ///   [`cut`](crate::Stats::cut), as the [`Stopped`](crate::event::Stopped) event tells;
    ///   [`Server::start`](crate::Server::start) returns.
    ///
    /// A second call can only bring deadline and spread forward; `shutdown` and `stop` end the spread
    /// at once. The code stays.
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] for a code that must not be sent; then nothing was done.
    #[doc(alias = "drain")]
    #[doc(alias = "graceful_stop")]
    pub fn wind_down(&mut self, how: WindDown) -> Result<(), SendError> {
        let plan = how.check()?;
        self.core.shared.orders.push(Order::WindDown(plan));
        Ok(())
    }

    /// Returns whether the server shuts down: from the moment that a
    /// [`wind_down`](Self::wind_down), a `shutdown` or a `stop` begins, and before a wind-down for
    /// the time of [`Builder::lame_duck`](crate::Builder::lame_duck), in which clients are still
    /// accepted. Health checks have to fail then.
    #[doc(alias = "is_going_down")]
    pub fn is_shutting_down(&self) -> bool {
        self.core.shared.is_shutting_down()
    }
}

impl Handle {
    /// Shuts the server down without loss, as [`Hub::wind_down`].
    ///
    /// # Errors
    ///
    /// [`SendError::BadCloseCode`] for a code that must not be sent, [`SendError::Gone`] if the
    /// server is gone.
    #[doc(alias = "drain")]
    pub fn wind_down(&self, how: WindDown) -> Result<(), SendError> {
        how.check()?;
        self.run(move |hub| {
            let ordered = hub.wind_down(how);
            debug_assert!(ordered.is_ok(), "the code was checked");
        })
    }
}
