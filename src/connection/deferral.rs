//! Opening handshakes that are decided on after their handler has returned.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::core::Core;
use super::cursor::{Connection, ConnectionId};
use super::handle::Handle;
use super::journal::tell_of_thread;
use super::peer::{Peer, Phase};
use crate::connection::event::{Outcome, Verdict};
use crate::error::{HandlerError, SendError};
use crate::handshake::Upgrade;

/// What was decided on an opening handshake, or how deciding failed.
pub(crate) type Decision = Result<Verdict, HandlerError>;

/// An opening handshake that waits for its answer.
pub(super) struct Deferred {
    pub(super) upgrade: Upgrade,
    /// Set when the answer was given; the reactor has not carried it out yet.
    pub(super) decision: Option<Decision>,
}

impl Peer {
    /// Postpones the answer to the opening handshake.
    pub(crate) fn defer(&mut self, upgrade: Upgrade) {
        let decision = None;
        let deferred = Deferred { upgrade, decision };
        self.passing_mut().deferred = Some(Box::new(deferred));
    }

    /// Returns whether the answer to the opening handshake was postponed and did not come yet.
    pub(crate) fn is_deferred(&self) -> bool {
        let passing = self.passing.as_deref();
        passing.is_some_and(|passing| passing.deferred.is_some())
    }

    /// Returns the opening handshake that waits for its answer.
    fn deferred_mut(&mut self) -> Option<&mut Deferred> {
        let deferred = self.passing.as_deref_mut()?.deferred.as_deref_mut()?;
        let waits = self.phase == Phase::Opening && deferred.decision.is_none();
        waits.then_some(deferred)
    }

    /// Takes an opening handshake that was decided on since.
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

impl Core {
    /// Gives the answer to an opening handshake that was postponed.
    fn answer<R: Outcome<Verdict>>(
        &mut self,
        slot: usize,
        decide: impl FnOnce(&mut Upgrade) -> R,
    ) -> Result<(), SendError> {
        let peer = self.peers.get_mut(slot).ok_or(SendError::Gone)?;
        let deferred = peer.deferred_mut().ok_or(SendError::HandshakeDone)?;
        let upgrade = &mut deferred.upgrade;
        upgrade.resume();
        let decided = catch_unwind(AssertUnwindSafe(|| decide(upgrade).into_outcome()));
        let decision = decided.unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic)));
        let again = upgrade.is_deferred() && upgrade.refusal().is_none();
        if again && matches!(decision, Ok(Verdict::Accept)) {
            return Ok(());
        }
        deferred.decision = Some(decision);
        self.mark(slot);
        Ok(())
    }
}

impl Connection<'_> {
    /// Answers an opening handshake that was postponed by [`Upgrade::defer`]: the closure adds
    /// headers, picks a subprotocol or refuses, as the `Handshake` handler would have; it may
    /// postpone the answer again. `Ready` follows, or the refusal.
    ///
    /// # Errors
    ///
    /// [`SendError::HandshakeDone`] if no answer is waited for, because there is one already for
    /// instance; then the closure is not called.
    pub fn answer<R: Outcome<Verdict>>(
        &mut self,
        decide: impl FnOnce(&mut Upgrade) -> R,
    ) -> Result<(), SendError> {
        self.core.answer(self.slot, decide)
    }
}

impl Handle {
    /// Answers an opening handshake that was postponed by [`Upgrade::defer`], as
    /// [`Connection::answer`]. If the client has left in the meantime, or there is an answer
    /// already, this does nothing.
    ///
    /// ```no_run
    /// use wsloop::{Server, event::Handshake};
    ///
    /// # fn main() -> wsloop::Result<()> {
    /// Server::builder()
    ///     .listen("127.0.0.1:8080")
    ///     .on(Handshake, |conn, upgrade| {
    ///         let (id, handle) = (conn.id(), conn.server().handle());
    ///         let token = upgrade.request().cookie("token").map(str::to_owned);
    ///         upgrade.defer();
    ///         std::thread::spawn(move || {
    ///             let known = token.is_some(); // a database is asked here
    ///             handle.answer(id, move |upgrade| match known {
    ///                 true => upgrade.header("X-User", "ada"),
    ///                 false => upgrade.refuse(401),
    ///             })
    ///         });
    ///     })
    ///     .build()?
    ///     .start()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] if the server is gone; the closure is dropped.
    pub fn answer<R: Outcome<Verdict>>(
        &self,
        id: ConnectionId,
        decide: impl FnOnce(&mut Upgrade) -> R + Send + 'static,
    ) -> Result<(), SendError> {
        self.run(move |hub| {
            let done = hub
                .get(id)
                .map_or(Err(SendError::Gone), |mut conn| conn.answer(decide));
            if let Err(error) = done {
                tell_of_thread(Some(id), "answer", &error);
            }
        })
    }
}
