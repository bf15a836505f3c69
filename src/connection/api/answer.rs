//! Answers to deferred opening handshakes.

use std::fmt;

use super::connection::{Connection, ConnectionId};
use super::handle::Handle;
use crate::connection::event::{Outcome, Verdict};
use crate::connection::log_lines::log_of_thread;
use crate::error::{AnswerError, SendError};
use crate::handshake::Upgrade;
use crate::panics::guarded;

impl Connection<'_> {
    /// Answers an opening handshake that [`Upgrade::defer`] deferred. The closure adds headers,
    /// chooses a subprotocol or refuses, as the `Handshake` handler would; it can defer the answer
    /// again. It also receives the connection, for instance to store the user's name. `Ready` or
    /// the refusal follows.
    ///
    /// # Errors
    ///
    /// Returns [`AnswerError::HandshakeDone`], without calling the closure, if no answer is
    /// awaited: for instance because there is one already.
    pub fn answer<R: Outcome<Verdict>>(
        &mut self,
        decide: impl FnOnce(&mut Connection<'_>, &mut Upgrade) -> R,
    ) -> Result<(), AnswerError> {
        let mut upgrade = self
            .peer_mut()
            .begin_answer()
            .ok_or(AnswerError::HandshakeDone)?;
        upgrade.resume();
        let decided = guarded(|| decide(self, &mut upgrade).into_outcome());
        let again = upgrade.is_deferred() && upgrade.refusal().is_none();
        let decision = match decided {
            Ok(Verdict::Accept) if again => None,
            decided => Some(decided),
        };
        self.peer_mut().end_answer(upgrade, decision);
        self.core.mark_dirty(self.slot);
        Ok(())
    }
}

impl Handle {
    /// Answers an opening handshake that [`Upgrade::defer`] deferred, as [`Connection::answer`]
    /// does. If the client has disconnected in the meantime, or the handshake is answered already,
    /// the call has no effect.
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
    ///         std::thread::spawn(move || {
    ///             let user = token.map(|_| "ada".to_owned()); // a database query
    ///             handle.answer(id, |conn, upgrade| match user {
    ///                 Some(user) => {
    ///                     *conn.data::<String>() = user;
    ///                     upgrade.accept()
    ///                 }
    ///                 None => upgrade.refuse(401),
    ///             })
    ///         });
    ///         upgrade.defer()
    ///     })
    ///     .run()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Gone`] if the server has ended; the closure is dropped.
    pub fn answer<R: Outcome<Verdict>>(
        &self,
        id: ConnectionId,
        decide: impl FnOnce(&mut Connection<'_>, &mut Upgrade) -> R + Send + 'static,
    ) -> Result<(), SendError> {
        self.run(move |hub| {
            let error: &dyn fmt::Display = match hub.get(id).map(|mut conn| conn.answer(decide)) {
                Some(Ok(())) => return,
                Some(Err(error)) => &{ error },
                None => &SendError::Gone,
            };
            log_of_thread(Some(id), "answer", error);
        })
    }
}
