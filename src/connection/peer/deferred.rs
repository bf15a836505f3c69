//! Opening handshakes that are answered after their handler has returned.

use super::{Peer, Phase};
use crate::connection::event::Verdict;
use crate::error::HandlerError;
use crate::handshake::Upgrade;

/// The decision on an opening handshake, or the error of the closure that had to decide.
pub(crate) type Decision = Result<Verdict, HandlerError>;

/// An opening handshake that waits for its answer.
pub(crate) struct Deferred {
    pub(crate) upgrade: Upgrade,
    /// Set when the answer was given, until the reactor carries it out.
    pub(crate) decision: Option<Decision>,
}

impl Peer {
    /// Postpones the answer to the opening handshake.
    pub(crate) fn defer(&mut self, upgrade: Upgrade) {
        self.end_answer(upgrade, None);
    }

    /// Returns whether the answer to the opening handshake is postponed and was not carried out
    /// yet.
    pub(crate) fn is_deferred(&self) -> bool {
        let passing = self.passing.as_deref();
        passing.is_some_and(|passing| passing.deferred.is_some())
    }

    /// Takes the opening handshake that waits for its answer, to decide on it.
    pub(crate) fn begin_answer(&mut self) -> Option<Upgrade> {
        if self.phase != Phase::Opening {
            return None;
        }
        let passing = self.passing.as_deref_mut()?;
        let waits = |deferred: &mut Box<Deferred>| deferred.decision.is_none();
        Some(passing.deferred.take_if(waits)?.upgrade)
    }

    /// Puts it back, with what was decided; without a decision the answer was postponed again.
    pub(crate) fn end_answer(&mut self, upgrade: Upgrade, decision: Option<Decision>) {
        let deferred = Deferred { upgrade, decision };
        self.passing_mut().deferred = Some(Box::new(deferred));
    }

    /// Takes an opening handshake whose postponed answer has been given.
    pub(crate) fn take_decided(&mut self) -> Option<(Upgrade, Decision)> {
        if self.phase != Phase::Opening {
            return None;
        }
        let passing = self.passing.as_deref_mut()?;
        let decided = |deferred: &mut Box<Deferred>| deferred.decision.is_some();
        let Deferred { upgrade, decision } = *passing.deferred.take_if(decided)?;
        Some((upgrade, decision?))
    }
}
