//! Measuring the rate of a connection's input.

use super::PeerMut;
use crate::config::OverRate;
use crate::connection::limits::Metered;
use crate::connection::log_lines::{Line, Matter};
use crate::connection::peer::Phase;
use crate::error::ProtocolError;

impl PeerMut<'_> {
    /// Measures input of the connection, and stops reading if it exceeds a rate.
    ///
    /// # Errors
    ///
    /// If the input exceeds a rate, and the connection is to be closed.
    #[inline]
    pub(crate) fn meter(&mut self, what: Metered) -> Result<(), ProtocolError> {
        match self.peer.meters() {
            None => Ok(()),
            Some(_) => self.meter_one(what),
        }
    }

    /// Measures the bytes that were received, once the connection is open.
    pub(crate) fn meter_bytes(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        match self.peer.phase() {
            Phase::Open => self.meter(Metered::Bytes(bytes)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn meter_one(&mut self, what: Metered) -> Result<(), ProtocolError> {
        let (rates, now) = (&self.shared.config.rates, self.shared.now);
        let Some(meters) = self.peer.meters() else {
            return Ok(());
        };
        let Some((wait, error)) = meters.count(what, rates, now) else {
            return Ok(());
        };
        let stats = &mut self.shared.stats;
        *match what {
            Metered::Bytes(_) => &mut stats.over_byte_rate,
            Metered::Message => &mut stats.over_message_rate,
            Metered::Ping => &mut stats.over_ping_rate,
        } += 1;
        match rates.over {
            OverRate::Close => Err(error),
            OverRate::Delay => {
                self.peer.hold_off(now.saturating_add(wait));
                Line::of(Matter::HeldOff).about(
                    self.who(),
                    format_args!("{error}: the connection is not read for {wait:?}"),
                );
                Ok(())
            }
        }
    }
}
