//! Calling the handlers of one connection.

use crate::close_code::CloseCode;
use crate::connection::event::{Cause, ConnectionEvent, Error, Event, Fragment, Handlers};
use crate::connection::{Connection, Core, Ending, Hub, Peer, PeerMut, Phase};
use crate::error::{Fault, HandlerError};
use crate::panics::guarded;

/// One connection, its own handlers and the server's: three disjoint borrows, so that a payload may
/// borrow from the connection's decoder while a handler runs.
pub(super) struct Dispatch<'a> {
    pub(super) core: &'a mut Core,
    pub(super) own: &'a mut Option<Box<Handlers>>,
    pub(super) handlers: &'a mut Handlers,
    pub(super) slot: usize,
}

impl<'a> Dispatch<'a> {
    /// Borrows the connection in `slot`, which must be occupied. The reactor, which alone removes
    /// connections, removes none while this exists.
    #[inline(always)]
    pub(super) fn new(
        core: &'a mut Core,
        own: &'a mut Option<Box<Handlers>>,
        handlers: &'a mut Handlers,
        slot: usize,
    ) -> Self {
        debug_assert!(
            core.peers.contains(slot),
            "the two slabs have the same keys"
        );
        Self {
            core,
            own,
            handlers,
            slot,
        }
    }
}

impl Dispatch<'_> {
    /// Returns the connection together with the shared state.
    #[inline(always)]
    pub(super) fn conn(&mut self) -> PeerMut<'_> {
        self.core.occupied(self.slot)
    }

    /// Returns the connection for reading.
    pub(super) fn peer(&self) -> &Peer {
        &self.core.peers[self.slot]
    }

    /// Calls the handler for `E`: the connection's own, or else the server's. Returns `None` if
    /// there is none, or if it failed, which closes the connection.
    pub(super) fn emit<E: ConnectionEvent>(
        &mut self,
        payload: E::Payload<'_>,
    ) -> Option<E::Output> {
        match self.call::<E>(payload)? {
            Ok(output) => Some(output),
            Err(error) => {
                self.handler_failed(error);
                None
            }
        }
    }

    /// Returns whether there is a handler for `E`.
    pub(super) fn has<E: ConnectionEvent>(&mut self) -> bool {
        if let Err(error) = self.merge_registered() {
            self.handler_failed(error);
        }
        let own = self
            .own
            .as_deref_mut()
            .is_some_and(|own| E::slot(own).is_some());
        own || E::slot(self.handlers).is_some()
    }

    /// Calls the handler for `E`; returns its answer or its error, `None` if there is no handler.
    pub(super) fn call<E: ConnectionEvent>(
        &mut self,
        payload: E::Payload<'_>,
    ) -> Option<Result<E::Output, HandlerError>> {
        if let Err(error) = self.merge_registered() {
            return Some(Err(error));
        }
        let own = self
            .own
            .as_deref_mut()
            .and_then(|own| E::slot(own).as_mut());
        let handler = match own {
            Some(handler) => handler,
            None => E::slot(self.handlers).as_mut()?,
        };
        let mut conn = Connection::new(self.core, self.slot);
        Some(guarded(|| handler(&mut conn, payload)))
    }

    /// Merges the handlers that were set since the last event.
    #[inline]
    fn merge_registered(&mut self) -> Result<(), HandlerError> {
        if !self.peer().has_registered() {
            return Ok(());
        }
        self.merge_newer()
    }

    #[cold]
    fn merge_newer(&mut self) -> Result<(), HandlerError> {
        let Some(newer) = self.conn().peer.take_registered() else {
            return Ok(());
        };
        let own = self.own.get_or_insert_default();
        guarded(|| {
            own.merge(*newer);
            Ok(())
        })
    }

    /// Ends the connection of a handler that failed, never the server, like `die` in the Perl
    /// ancestors.
    pub(super) fn handler_failed(&mut self, error: HandlerError) {
        self.log_failed("handler", &error);
        let mut conn = self.conn();
        if conn.peer.phase() == Phase::Opening {
            conn.peer.refuse(500);
            conn.peer.end(Ending::abnormal(Cause::Handler));
            conn.mark_dirty();
        } else {
            conn.close(CloseCode::INTERNAL_ERROR, Cause::Handler);
        }
        self.fault(&Fault::Handler(error));
    }

    /// Calls the `Error` handler; a failure of that handler is only logged.
    pub(super) fn fault(&mut self, fault: &Fault) {
        if self.peer().is_unannounced() {
            return;
        }
        if let Some(Err(error)) = self.call::<Error>(fault) {
            self.log_failed("Error handler", &error);
        }
    }

    /// Returns whether large and fragmented messages are delivered in pieces.
    pub(super) fn takes_pieces(&mut self) -> bool {
        self.has::<Fragment>()
    }

    /// Returns whether a handler refused the handshake, or closed or cut the connection.
    pub(super) fn is_ending(&self) -> bool {
        let peer = self.peer();
        peer.is_cut() || peer.is_refused() || peer.phase() >= Phase::Closing
    }
}

/// Calls a handler of the server; its failure is logged, since there is no connection to close.
pub(crate) fn emit_hub<E>(core: &mut Core, handlers: &mut Handlers, payload: E::Payload<'_>)
where
    E: for<'t> Event<Target<'t> = Hub<'t>, Output = ()>,
{
    let Some(handler) = E::slot(handlers).as_mut() else {
        return;
    };
    let mut hub = Hub::new(core);
    if let Err(error) = guarded(|| handler(&mut hub, payload)) {
        core.shared.log_failed("handler of the server", &error);
    }
}
