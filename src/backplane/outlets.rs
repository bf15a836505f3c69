//! All backplanes of a loop.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::exchange::Port;
use super::inbox::Taken;
use super::losses::Losses;
use super::{Backplane, Inbox, Publish, Recover, Since};
use crate::topics::{Position, Publication, Sequences};

/// The backplanes of a loop, its inbox, and what it has to tell about losses.
#[derive(Default)]
pub(crate) struct Outlets {
    /// The other loops of the process.
    port: Option<Port>,
    engines: Vec<Box<dyn Backplane>>,
    /// The engine that keeps the histories of topics.
    historian: Option<usize>,
    inbox: Option<Own>,
    /// Whether something was published in this turn.
    is_dirty: bool,
    /// What was taken from the inbox; empty between two uses.
    taken: Taken,
    /// Losses that handlers are being told, and those that were noted since.
    telling: Losses,
    gaps: Losses,
    last_request: u64,
}

impl Outlets {
    pub(crate) fn new(port: Option<Port>, engines: Vec<Box<dyn Backplane>>) -> Self {
        Self {
            port,
            engines,
            ..Self::default()
        }
    }

    /// Returns whether there is one.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.inbox.is_some()
    }

    /// Begins: creates the inbox, which wakes the loop with `waker`.
    pub(crate) fn start(&mut self, waker: impl FnOnce() -> Waker, limit: usize) -> io::Result<()> {
        if self.port.is_none() && self.engines.is_empty() {
            return Ok(());
        }
        let inbox = Inbox::new(waker(), limit);
        self.inbox = Some(Own(inbox.clone()));
        for (at, engine) in self.engines.iter_mut().enumerate() {
            engine.start(inbox.clone())?;
            if self.historian.is_none() && engine.keeps_history() {
                self.historian = Some(at);
            }
        }
        if let Some(port) = &mut self.port {
            port.start(inbox)?;
        }
        Ok(())
    }

    /// Returns whether a backplane keeps the histories of topics.
    pub(crate) fn keeps_history(&self) -> bool {
        self.historian.is_some()
    }

    /// Returns the sequences of topics with a history, if loops share them.
    pub(crate) fn sequences(&self) -> Option<&Arc<Sequences>> {
        let port = self.port.as_ref().filter(|_| !self.keeps_history());
        port.map(Port::sequences)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut dyn Backplane> {
        let engines = self.engines.iter_mut().map(|engine| &mut **engine);
        let port = self.port.iter_mut().map(|port| port as &mut dyn Backplane);
        engines.chain(port)
    }

    /// A topic has its first subscriber.
    pub(crate) fn occupied(&mut self, topic: &str) {
        self.all().for_each(|each| each.occupied(topic));
    }

    /// A topic has lost its last subscriber.
    pub(crate) fn vacated(&mut self, topic: &str) {
        self.all().for_each(|each| each.vacated(topic));
    }

    /// Passes a message on, which is published at the time `now`. One whose position is given
    /// belongs to a sequence, and the caller has its turn.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        message: &mut Publication,
        position: Option<Position>,
        history: Option<(usize, Duration)>,
        now: Option<Instant>,
    ) {
        self.is_dirty = true;
        let is_kept = history.is_some();
        let mut publish = Publish::new(topic, message, position, history);
        for engine in &mut self.engines {
            engine.publish(&mut publish);
        }
        if let Some(port) = &mut self.port {
            if position.is_some() {
                port.publish_in_turn(&mut publish, now);
            } else if self.historian.is_none() || !is_kept {
                port.publish(&mut publish);
            }
            // The engine that keeps the history tells the other loops, too: in its order.
        }
    }

    /// Sends what was published in this turn.
    #[inline(always)]
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            self.all().for_each(Backplane::flush);
        }
    }

    /// Returns whether the loop must not sleep: something was published after the flush of this
    /// turn, or losses are to be told.
    pub(crate) fn has_work(&self) -> bool {
        self.is_dirty || self.gaps() > 0
    }

    /// Takes what has arrived. [`put_back`](Self::put_back) has to follow.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        let inbox = self.inbox.as_ref()?;
        inbox.0.take(&mut self.taken);
        Some(std::mem::take(&mut self.taken))
    }

    /// Gives the memory of what was taken back, for the next time.
    pub(crate) fn put_back(&mut self, taken: Taken) {
        self.taken = taken;
    }

    /// Asks for the messages that a client missed; returns the number of the request, or `None` if
    /// no backplane keeps histories.
    pub(crate) fn recover(
        &mut self,
        topic: &str,
        since: Since,
        history: (usize, Duration),
    ) -> Option<u64> {
        let engine = self.engines.get_mut(self.historian?)?;
        self.last_request += 1;
        let number = self.last_request;
        let inbox = self.inbox.as_ref()?.0.clone();
        engine.recover(Recover::new(topic, since, history, number, inbox));
        Some(number)
    }

    /// Notes that messages of a topic were lost, which handlers are told at the end of the turn.
    pub(crate) fn lose(&mut self, topic: &str, count: Option<u64>) {
        self.gaps.add(topic.into(), count);
    }

    /// Returns the next loss that handlers have to be told. Losses that are noted meanwhile come
    /// after all earlier ones.
    pub(crate) fn next_gap(&mut self) -> Option<(Arc<str>, Option<u64>)> {
        if self.telling.is_empty() {
            std::mem::swap(&mut self.telling, &mut self.gaps);
        }
        self.telling.pop_first()
    }

    /// Returns how many topics have losses that handlers have to be told.
    pub(crate) fn gaps(&self) -> usize {
        self.telling.len() + self.gaps.len()
    }
}

/// The loop's own inbox, which ends with the loop.
struct Own(Inbox);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.close();
    }
}
