//! When nobody new is let in.

use super::adopting::refuse;
use crate::connection::Core;
use crate::transport::Transport;

/// Why accepting pauses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    Connections,
    HalfOpen,
    Memory,
}

impl Full {
    /// Returns which limit is reached, if one is.
    pub(super) fn of(core: &Core) -> Option<Self> {
        if core.peers.len() >= core.config.max_connections {
            Some(Self::Connections)
        } else if core.half_open >= core.config.max_half_open {
            Some(Self::HalfOpen)
        } else if core.budget.keeps_out() {
            Some(Self::Memory)
        } else {
            None
        }
    }

    /// Counts and tells that accepting pauses, unless it did before.
    pub(super) fn pause(self, before: &mut Option<Self>, told: &mut Option<u64>, core: &mut Core) {
        if before.replace(self) == Some(self) {
            return;
        }
        let now = core.now.as_millis() as u64;
        let stats = &mut core.stats;
        let (counter, limit) = match self {
            Self::Connections => (&mut stats.accept_pauses, "max_connections reached"),
            Self::HalfOpen => (&mut stats.half_open_pauses, "max_half_open reached"),
            Self::Memory => (
                &mut stats.budget_pauses,
                "three quarters of memory_budget used up",
            ),
        };
        *counter += 1;
        // Clients that come and go can cause it over and over.
        if told.is_none_or(|told| now.saturating_sub(told) >= TOLD_EVERY) {
            *told = Some(now);
            log::warn!("{limit}, accepting pauses");
        }
    }
}

/// How often it is said in the log that accepting pauses, in milliseconds.
const TOLD_EVERY: u64 = 10_000;

/// Answers a client whose address has too many connections, as far as its socket takes that at once.
pub(super) fn turn_away(transport: Transport) {
    if let Transport::Plain(socket) = transport {
        refuse(socket, 429, false);
    }
}
