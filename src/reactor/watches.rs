//! Handlers of watched sources.

use super::Reactor;
use crate::connection::{Hub, Readiness, drop_guarded};
use crate::panics::guarded;

impl Reactor {
    /// Calls the handler of a watched source, if the source is still watched.
    pub(crate) fn serve_watch(&mut self, key: usize, readiness: Readiness) {
        let core = &mut self.core;
        let Some(mut watcher) = core.shared.watches.begin(key) else {
            return;
        };
        let result = guarded(|| watcher.call(&mut Hub::new(core), key, readiness));
        let shared = &mut self.core.shared;
        if let Err(error) = result {
            shared.log_failed("handler of a watched source", &error);
            shared.watches.remove(key);
        }
        drop_guarded(shared.watches.finish(key, watcher));
    }
}
