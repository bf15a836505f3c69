//! The table of handlers: one slot for each event.

use super::*;
use crate::error::HandlerError;

/// A registered handler, boxed, with its result converted to one type.
pub(crate) type Handler<E> = Box<
    dyn for<'t, 'p> FnMut(
        &mut <E as Event>::Target<'t>,
        <E as Event>::Payload<'p>,
    ) -> Result<<E as Event>::Output, HandlerError>,
>;

/// A change that is applied to a table of handlers later.
type Change = Box<dyn FnOnce(&mut Handlers)>;

/// The handlers of a server, or those of a single connection.
#[derive(Default)]
pub struct Handlers {
    pub(super) slots: Slots,
    /// The changes to the table that this one is merged into, in order: see `add_when_merged`.
    added: Vec<Change>,
}

impl Handlers {
    /// Registers a handler and replaces the previous one.
    pub(crate) fn set<E: Event, R: Outcome<E::Output>>(
        &mut self,
        mut handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        *E::slot(self) = Some(Box::new(move |target, payload| {
            handler(target, payload).into_outcome()
        }));
    }

    /// Registers another handler, which is called after the previous ones. The first refusal
    /// counts, and an error ends the sequence: the remaining handlers are then not called.
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

    /// [Sets](Self::set) a handler in the table that this one is merged into.
    pub(crate) fn set_when_merged<E: Event, R: Outcome<E::Output>>(
        &mut self,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        if self.added.is_empty() {
            self.set::<E, R>(handler);
        } else {
            // It replaces the handlers that were added before.
            self.added
                .push(Box::new(move |merged| merged.set::<E, R>(handler)));
        }
    }

    /// [Adds](Self::add) a handler to the table that this one is merged into.
    pub(crate) fn add_when_merged<E: Event, R: Outcome<E::Output>>(
        &mut self,
        handler: impl for<'t, 'p> FnMut(&mut E::Target<'t>, E::Payload<'p>) -> R + 'static,
    ) {
        self.added
            .push(Box::new(move |merged| merged.add::<E, R>(handler)));
    }

    /// Returns the handlers of the two kinds of messages.
    #[inline(always)]
    pub(crate) fn messages(
        &mut self,
    ) -> (&mut Option<Handler<Utf8>>, &mut Option<Handler<Binary>>) {
        (&mut self.slots.utf8, &mut self.slots.binary)
    }

    /// Overwrites each slot that `newer` fills, and applies its changes.
    pub(crate) fn merge(&mut self, newer: Self) {
        self.slots.merge(newer.slots);
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
