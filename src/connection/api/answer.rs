//! Answers to opening handshakes that were postponed.

use super::connection::{Connection, ConnectionId};
use super::handle::Handle;
use crate::connection::event::{Outcome, Verdict};
use crate::connection::log_lines::log_of_thread;
use crate::error::SendError;
use crate::handshake::Upgrade;

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
        self.entry().answer(decide)
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
                log_of_thread(Some(id), "answer", &error);
            }
        })
    }
}
