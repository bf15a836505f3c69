//! The table of handlers: one slot per event.

use super::*;
use crate::error::HandlerError;

/// A registered handler, boxed, its answer brought to one shape.
pub(crate) type Handler<E> = Box<
    dyn for<'t, 'p> FnMut(
        &mut <E as Event>::Target<'t>,
        <E as Event>::Payload<'p>,
    ) -> Result<<E as Event>::Output, HandlerError>,
>;

/// What is to be done with a table of handlers.
type Change = Box<dyn FnOnce(&mut Handlers)>;

/// The handlers of a server, or those that a connection has of its own.
#[derive(Default)]
pub struct Handlers {
    pub(super) accept: Option<Handler<Accept>>,
    pub(super) binary: Option<Handler<Binary>>,
    pub(super) connect: Option<Handler<Connect>>,
    pub(super) disconnect: Option<Handler<Disconnect>>,
    pub(super) drain: Option<Handler<Drain>>,
    pub(super) error: Option<Handler<Error>>,
    pub(super) fragment: Option<Handler<Fragment>>,
    pub(super) handshake: Option<Handler<Handshake>>,
    pub(super) origin: Option<Handler<Origin>>,
    pub(super) peer_close: Option<Handler<PeerClose>>,
    pub(super) ping: Option<Handler<Ping>>,
    pub(super) pong: Option<Handler<Pong>>,
    pub(super) ready: Option<Handler<Ready>>,
    pub(super) request: Option<Handler<Request>>,
    pub(super) shutdown: Option<Handler<Shutdown>>,
    pub(super) start: Option<Handler<Start>>,
    pub(super) stopped: Option<Handler<Stopped>>,
    pub(super) tick: Option<Handler<Tick>>,
    pub(super) utf8: Option<Handler<Utf8>>,
    /// What is to be done with the table that adopts this one, in order: see `add_to_adopter`.
    added: Vec<Change>,
}

impl Handlers {
    /// Registers a handler; it replaces the one that was there.
    pub(crate) fn set<E: Event, R: Outcome<E::Output>>(
        &mut self,
        mut handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        *E::slot(self) = Some(Box::new(move |target, payload| {
            handler(target, payload).into_outcome()
        }));
    }

    /// Registers one more handler, to be called after those that are there. The first refusal
    /// counts, and an error ends it: then the others are not called.
    pub(crate) fn add<E: Event, R: Outcome<E::Output>>(
        &mut self,
        mut handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        let Some(mut first) = E::slot(self).take() else {
            return self.set::<E, R>(handler);
        };
        *E::slot(self) = Some(Box::new(move |target, mut payload| {
            let answer = first(target, E::lend(&mut payload))?;
            if answer.is_refusal() {
                return Ok(answer);
            }
            handler(target, payload).into_outcome()
        }));
    }

    /// Has the table that adopts this one [`set`](Self::set) a handler.
    pub(crate) fn set_in_adopter<E: Event, R: Outcome<E::Output>>(
        &mut self,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        if self.added.is_empty() {
            self.set::<E, R>(handler);
        } else {
            // In place of those that were added before.
            self.added
                .push(Box::new(move |adopter| adopter.set::<E, R>(handler)));
        }
    }

    /// Has the table that adopts this one [`add`](Self::add) a handler.
    pub(crate) fn add_to_adopter<E: Event, R: Outcome<E::Output>>(
        &mut self,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.added
            .push(Box::new(move |adopter| adopter.add::<E, R>(handler)));
    }

    /// Returns the handlers of the two kinds of message.
    #[inline(always)]
    pub(crate) fn messages(
        &mut self,
    ) -> (&mut Option<Handler<Utf8>>, &mut Option<Handler<Binary>>) {
        (&mut self.utf8, &mut self.binary)
    }

    /// Overwrites each slot that `newer` fills, and adds what it adds.
    pub(crate) fn merge(&mut self, newer: Self) {
        fn replace<T>(slot: &mut Option<T>, newer: Option<T>) {
            if newer.is_some() {
                *slot = newer;
            }
        }
        replace(&mut self.binary, newer.binary);
        replace(&mut self.connect, newer.connect);
        replace(&mut self.disconnect, newer.disconnect);
        replace(&mut self.drain, newer.drain);
        replace(&mut self.error, newer.error);
        replace(&mut self.fragment, newer.fragment);
        replace(&mut self.handshake, newer.handshake);
        replace(&mut self.origin, newer.origin);
        replace(&mut self.peer_close, newer.peer_close);
        replace(&mut self.ping, newer.ping);
        replace(&mut self.pong, newer.pong);
        replace(&mut self.ready, newer.ready);
        replace(&mut self.request, newer.request);
        replace(&mut self.utf8, newer.utf8);
        for add in newer.added {
            add(self);
        }
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}
