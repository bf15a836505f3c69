//! Settings of the server that can be read and changed while it runs.

use std::time::Duration;

use super::hub::Hub;
use crate::connection::shared::Order;
use crate::limits::Limits;

impl Hub<'_> {
    /// Returns the period of the `Tick` event; zero is off.
    pub fn tick_period(&self) -> Duration {
        self.core.shared.config.tick_period
    }

    /// Sets the period of the `Tick` event, which starts after this turn of the loop; zero is off.
    /// See [`Builder::tick_period`](crate::Builder::tick_period).
    pub fn set_tick_period(&mut self, period: Duration) {
        self.core.shared.config.tick_period = period;
        self.core.shared.orders.push(Order::Tick);
    }

    /// Returns the time of silence after which a peer is pinged; zero is off.
    pub fn silence_max(&self) -> Duration {
        self.core.shared.config.silence_max
    }

    /// Sets the time of silence after which a peer is pinged; zero is off. `silence_checkinterval`
    /// and `idle_timeout` change with it unless they were set. See
    /// [`Builder::silence_max`](crate::Builder::silence_max).
    pub fn set_silence_max(&mut self, silence: Duration) {
        self.core.shared.config.silence_max = silence;
        self.core.shared.orders.push(Order::Rearm);
    }

    /// Returns the time after which a peer that stays silent is pinged again.
    pub fn silence_checkinterval(&self) -> Duration {
        self.core.shared.config.ping_again()
    }

    /// Sets the time after which a peer that stays silent is pinged again, from its next ping on.
    /// Default: half of `silence_max`. See
    /// [`Builder::silence_checkinterval`](crate::Builder::silence_checkinterval).
    pub fn set_silence_checkinterval(&mut self, interval: Duration) {
        self.core.shared.config.silence_checkinterval = Some(interval);
    }

    /// Returns the time of silence after which a peer is closed with 1001; zero is off.
    pub fn idle_timeout(&self) -> Duration {
        self.core.shared.config.idle_after().unwrap_or_default()
    }

    /// Sets the time of silence after which a peer is closed with 1001; zero is off. See
    /// [`Builder::idle_timeout`](crate::Builder::idle_timeout).
    pub fn set_idle_timeout(&mut self, timeout: Duration) {
        self.core.shared.config.idle_timeout = Some(timeout);
        self.core.shared.orders.push(Order::Rearm);
    }

    /// Returns the initial limits of connections.
    pub fn limits(&self) -> Limits {
        self.core.shared.config.limits
    }

    /// Returns the server's subprotocols, the preferred one first.
    pub fn subprotocols(&self) -> &[String] {
        &self.core.shared.config.subprotocols
    }
}
