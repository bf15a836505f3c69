//! How many messages of each topic were lost.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The lost messages of each topic; `None` is an unknown number.
#[derive(Default)]
pub(crate) struct Losses(BTreeMap<Arc<str>, Option<u64>>);

impl Losses {
    /// Adds a loss. With an unknown number the sum is unknown.
    pub(super) fn add(&mut self, topic: Arc<str>, count: Option<u64>) {
        let lost = self.0.entry(topic).or_insert(Some(0));
        *lost = lost
            .zip(count)
            .map(|(lost, count)| lost.saturating_add(count));
    }

    /// Takes the losses of one topic out.
    pub(crate) fn pop_first(&mut self) -> Option<(Arc<str>, Option<u64>)> {
        self.0.pop_first()
    }

    /// Returns the number of topics.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn get(&self, topic: &str) -> Option<&Option<u64>> {
        self.0.get(topic)
    }
}
