//! Dispatch from the event queue to the sources of events.

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::busy_poll::Queue;
use super::listener::Listener;
use super::watching;
use crate::connection::Readiness;
use crate::reactor::{Reactor, SocketEvent};

/// The source of an event.
pub(crate) enum Source {
    /// A connection, identified by its tag.
    Connection(usize),
    Listener(usize),
    Waker,
    /// A watched source, identified by its key.
    Watch(usize),
}

impl Source {
    pub(crate) fn token(&self) -> Token {
        Token(match self {
            Self::Waker => usize::MAX,
            Self::Listener(index) => LISTENERS | index,
            Self::Watch(key) => LISTENERS | WATCHES | key,
            Self::Connection(tag) => *tag,
        })
    }

    fn of(token: Token) -> Self {
        match token.0 {
            tag if tag & LISTENERS == 0 => Self::Connection(tag),
            usize::MAX => Self::Waker,
            bits if bits & WATCHES != 0 => Self::Watch(bits & !(LISTENERS | WATCHES)),
            bits => Self::Listener(bits & !LISTENERS),
        }
    }
}

/// An event of a source, reported by the kernel or by the network of a test.
pub(crate) trait Report {
    fn token(&self) -> Token;

    /// Returns the event for the connection with this tag.
    fn news(&self, tag: usize) -> SocketEvent;

    /// Returns the readiness of a watched source.
    fn readiness(&self) -> Readiness;
}

impl Report for &Event {
    fn token(&self) -> Token {
        Event::token(self)
    }

    fn news(&self, tag: usize) -> SocketEvent {
        let hangup = self.is_read_closed() || self.is_error();
        let readable = self.is_readable() || hangup;
        SocketEvent {
            tag,
            readable,
            hangup,
        }
    }

    fn readiness(&self) -> Readiness {
        watching::readiness(self)
    }
}

/// A summary of the reports of a turn.
pub(crate) struct Heard {
    /// Number of reports.
    pub(super) events: usize,
    /// Whether one came from the waker or a watched source.
    pub(super) woken: bool,
}

/// Begins a turn at `now`: serves the connections with events, and notes the events of other
/// sources.
pub(crate) fn hear<R: Report>(
    now: Instant,
    reports: impl Iterator<Item = R>,
    reactor: &mut Reactor,
    listeners: &mut [Listener],
    ready: &mut Vec<(usize, Readiness)>,
) -> Heard {
    reactor.set_now(now);
    reactor.begin_turn();
    let (mut events, mut woken) = (0, false);
    reactor.take_events(reports.filter_map(|report| {
        events += 1;
        match Source::of(report.token()) {
            Source::Connection(tag) => return Some(report.news(tag)),
            Source::Waker => woken = true,
            Source::Watch(key) => {
                woken = true;
                ready.push((key, report.readiness()));
            }
            Source::Listener(index) => {
                if let Some(listener) = listeners.get_mut(index) {
                    listener.pending = true;
                }
            }
        }
        None
    }));
    Heard { events, woken }
}

/// The kernel's event queue, and its list of events.
pub(super) struct EventQueue<'s> {
    pub(super) poll: &'s mut Poll,
    pub(super) events: &'s mut Events,
}

impl Queue for EventQueue<'_> {
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(self.events, timeout) {
            // A signal interrupted the poll; the list is empty.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            polled => polled.map(|()| !self.events.is_empty()),
        }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The top bit, which is clear in every connection's tag.
const LISTENERS: usize = 1 << (usize::BITS - 1);

/// The next bit, set for watched sources only. The bit below it is always clear, unlike in the
/// waker's token.
const WATCHES: usize = 1 << (usize::BITS - 2);
