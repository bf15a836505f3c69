//! Postponed answers to opening handshakes.

use super::PeerMut;
use crate::connection::event::{Outcome, Verdict};
use crate::error::SendError;
use crate::handshake::Upgrade;
use crate::panics::guarded;

impl PeerMut<'_> {
    /// Gives the postponed answer to an opening handshake.
    pub(crate) fn answer<R: Outcome<Verdict>>(
        &mut self,
        decide: impl FnOnce(&mut Upgrade) -> R,
    ) -> Result<(), SendError> {
        let deferred = self.peer.deferred_mut().ok_or(SendError::HandshakeDone)?;
        let upgrade = &mut deferred.upgrade;
        upgrade.resume();
        let decision = guarded(|| decide(upgrade).into_outcome());
        let again = upgrade.is_deferred() && upgrade.refusal().is_none();
        if again && matches!(decision, Ok(Verdict::Accept)) {
            return Ok(());
        }
        deferred.decision = Some(decision);
        self.mark_dirty();
        Ok(())
    }
}
