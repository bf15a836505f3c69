//! Handlers of watched sources.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Reactor;
use super::dispatch::drop_caught;
use crate::connection::{Hub, Readiness};
use crate::error::HandlerError;

impl Reactor {
    /// Calls the handler of a watched source, unless it is not watched any more.
    pub(crate) fn serve_watch(&mut self, key: usize, readiness: Readiness) {
        let core = &mut self.core;
        let Some(mut watcher) = core.watches.begin(key) else {
            return;
        };
        let call = AssertUnwindSafe(|| watcher.call(&mut Hub::new(core), key, readiness));
        let result =
            catch_unwind(call).unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic)));
        let core = &mut self.core;
        if let Err(error) = result {
            core.tell_failed("handler of a watched source", &error);
            core.watches.remove(key);
        }
        drop_caught(core.watches.finish(key, watcher));
    }
}
