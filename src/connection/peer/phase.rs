//! The phases of a connection, and the reasons of its end.

use super::{Marks, Peer};
use crate::close_code::CloseCode;
use crate::connection::event::Cause;
use crate::error::SendError;

/// Where a connection stands; it only ever goes down this list.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// TLS and the opening handshake.
    Opening,
    /// Messages go both ways.
    Open,
    /// The server's Close frame is queued or sent; the peer's is awaited.
    Closing,
    /// `Disconnect` was delivered. The queue is sent, then FIN; all data from the peer is discarded
    /// until its FIN, so that no RST destroys the last data that was sent.
    Lingering,
    /// The connection is removed at the end of the turn.
    Gone,
}

impl Phase {
    /// Returns why nothing can be sent in this phase.
    pub(crate) fn unsendable(self) -> SendError {
        match self {
            Self::Opening => SendError::NotReady,
            Self::Open | Self::Closing | Self::Lingering => SendError::Closing,
            Self::Gone => SendError::Gone,
        }
    }
}

/// Why a connection ends, as its `Disconnect` reports it.
pub(crate) struct Ending {
    pub(crate) code: CloseCode,
    pub(crate) reason: Box<str>,
    pub(crate) cause: Cause,
}

impl Ending {
    pub(crate) fn new(code: CloseCode, reason: &str, cause: Cause) -> Self {
        Self {
            code,
            reason: reason.into(),
            cause,
        }
    }

    /// Creates an ending without a Close frame.
    pub(crate) fn abnormal(cause: Cause) -> Self {
        Self::new(CloseCode::ABNORMAL, "", cause)
    }
}

impl Peer {
    #[inline(always)]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves to a later phase; only `PeerMut::enter` calls it, and keeps the counts.
    pub(crate) fn set_phase(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.marks.set(Marks::ENTERED);
        }
        self.marks.put(Marks::NOT_OPEN, phase != Phase::Open);
    }

    /// Returns whether the phase has changed and the deadline of the new one is not set yet.
    pub(crate) fn has_entered(&self) -> bool {
        self.marks.has(Marks::ENTERED)
    }

    /// Does the same, and records that the deadline is set.
    pub(crate) fn take_entered(&mut self) -> bool {
        self.marks.take(Marks::ENTERED)
    }

    /// Records why the connection ends; the first cause counts.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.passing_mut().ending.get_or_insert(ending);
    }

    pub(crate) fn take_ending(&mut self) -> Option<Ending> {
        self.passing.as_deref_mut()?.ending.take()
    }

    /// Records that the Close frame, if one is queued, is lost with the data before it.
    pub(crate) fn lose_close(&mut self) {
        if let Some(ending) = self
            .passing
            .as_deref_mut()
            .and_then(|all| all.ending.as_mut())
            && self.phase == Phase::Closing
        {
            ending.code = CloseCode::ABNORMAL;
            ending.reason = Box::default();
        }
    }

    /// Cuts the connection: nothing more is sent, not even a Close frame.
    pub(crate) fn cut(&mut self) {
        self.marks.set(Marks::CUT);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.marks.has(Marks::CUT)
    }
}
