//! The fast path of a message: whole in one read, on an open connection with no pending state, to a
//! handler that at most replies.
//!
//! Nearly all messages take it, so it is straight-line code of few instructions. It handles nothing
//! else: at anything unexpected it stops, and the general code continues as if the fast path did
//! not exist.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::input_half::Flags;
use super::{Reactor, SLOTS, connection_tag};
use crate::connection::event::{Binary, Handler, Handlers, Utf8};
use crate::connection::{Connection, Core, NOBODY, Peer};
use crate::error::{HandlerError, ProtocolError};
use crate::protocol::{MEDIUM_HEAD, SHORT_HEAD, Short, Shorts, take_medium, take_short};

/// An event of a socket: an edge of readiness.
#[derive(Clone, Copy)]
pub(crate) struct SocketEvent {
    /// See [`connection_tag`].
    pub(crate) tag: usize,
    pub(crate) readable: bool,
    /// The peer's FIN is in the kernel, or the socket is broken.
    pub(crate) hangup: bool,
}

/// How far the fast path has come on the current connection, for the case that a handler panics.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// How many bytes of the buffer were delivered, including the message whose handler runs.
    pub(super) at: usize,
    /// How many bytes were read.
    pub(super) end: usize,
    /// How many messages may still be delivered in this turn.
    pub(super) left: usize,
}

/// Returns the handlers of messages: the connection's own, or else the server's.
#[inline(always)]
fn handlers_of<'h>(
    handlers: &'h mut Handlers,
    own: &'h mut Option<Box<Handlers>>,
) -> (
    &'h mut Option<Handler<Utf8>>,
    &'h mut Option<Handler<Binary>>,
) {
    let (mut text, mut binary) = handlers.messages();
    if let Some(own) = own.as_deref_mut() {
        let (own_text, own_binary) = own.messages();
        text = if own_text.is_some() { own_text } else { text };
        binary = if own_binary.is_some() {
            own_binary
        } else {
            binary
        };
    }
    (text, binary)
}

/// Counts a message, and calls its handler if there is one.
#[inline(always)]
fn deliver(
    core: &mut Core,
    slot: usize,
    (text, binary): (&mut Option<Handler<Utf8>>, &mut Option<Handler<Binary>>),
    message: Short<'_>,
) -> Result<(), Broken> {
    core.shared.stats.messages_in += 1;
    let conn = &mut Connection::new(core, slot);
    let done = match message {
        Short::Text(payload) => text.as_mut().map(|handler| handler(conn, payload)),
        Short::Binary(payload) => binary.as_mut().map(|handler| handler(conn, payload)),
    };
    match done {
        Some(Err(error)) => Err(Broken::Handler(error)),
        _ => Ok(()),
    }
}

/// The boxed handler of `Utf8` or `Binary`.
type MessageHandler<P> =
    Box<dyn for<'t, 'p> FnMut(&mut Connection<'t>, &'p P) -> Result<(), HandlerError>>;

/// Delivers the messages of a batch; returns whether all were delivered. It stops when a handler
/// changed the state that the batch relies on, or before text that is not valid by itself; the
/// decoder takes the rest.
#[inline(always)]
fn deliver_batch<P: ?Sized>(
    core: &mut Core,
    slot: usize,
    progress: &mut Progress,
    handler: &mut Option<MessageHandler<P>>,
    lens: &[u8],
    mut rest: &P,
    split: impl for<'p> Fn(&'p P, usize) -> Option<(&'p P, &'p P)>,
) -> Result<bool, HandlerError> {
    for &len in lens {
        let len = usize::from(len);
        let same = |peer: &Peer| peer.is_quiet() && len <= peer.max_recv_size();
        let Some((payload, next)) = split(rest, len) else {
            return Ok(false);
        };
        if !core.peers.get(slot).is_some_and(same) {
            return Ok(false);
        }
        rest = next;
        progress.at += SHORT_HEAD + len;
        core.shared.stats.messages_in += 1;
        // Without a handler, the message is validated and counted all the same.
        if let Some(handler) = handler {
            handler(&mut Connection::new(core, slot), payload)?;
        }
    }
    Ok(true)
}

/// Why the fast path ended early.
enum Broken {
    Handler(HandlerError),
    Protocol(ProtocolError),
}

const BAD_UTF8: Broken = Broken::Protocol(ProtocolError::BadUtf8);

impl Reactor {
    /// Handles readiness events of sockets.
    pub(crate) fn take_events(&mut self, mut news: impl Iterator<Item = SocketEvent>) {
        // One `catch_unwind` for the handlers of all events, so that it costs the fast path nothing
        // (decision 15). A panicking handler leaves no state half-changed: see `guard`.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            for news in news.by_ref() {
                self.ready(news);
            }
        })) {
            let progress = self.progress;
            self.broken(Broken::Handler(HandlerError::from_panic(&*panic)), progress);
        }
    }

    /// Handles a readiness event of a socket.
    ///
    /// The whole fast path is here: an open connection with no pending state, one read that returns
    /// whole messages, one write that takes the replies. Everything else is left to `serve`. The
    /// panic of a handler unwinds through this function.
    #[inline(never)]
    fn ready(
        &mut self,
        SocketEvent {
            tag,
            readable,
            hangup,
        }: SocketEvent,
    ) {
        let slot = tag & SLOTS;
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        let Some(peer) = self.core.peers.get_mut(slot) else {
            return;
        };
        if connection_tag(slot, peer.serial) != tag {
            return;
        }
        half.flags.set_if(Flags::READABLE, readable);
        half.flags.set_if(Flags::HANGUP, hangup);
        if !half.is_fast() || !peer.is_quiet() {
            // A connection that is in the ready queue is served from there.
            if !half.flags.has(Flags::ENQUEUED) {
                self.serve(slot);
            }
            return;
        }
        debug_assert!(
            self.core.shared.out.is_empty(),
            "the last connection was settled"
        );
        let room = self.buffer.len();
        let end = match peer.transport.read_plain(&mut self.buffer) {
            Some(Ok(size)) if size > 0 && size < room => size,
            Some(result) => return self.serve_read(slot, result),
            None => return self.serve(slot),
        };
        half.flags.clear(Flags::READABLE);
        half.stamp = self.now;
        self.core.shared.current = slot;
        self.core.shared.stats.bytes_in += end as u64;
        let (text, binary) = handlers_of(&mut self.handlers, &mut half.own);
        let left = self.core.shared.config.turn_messages;
        let max = peer.max_recv_size();
        let (message, at) = match take_short(&self.buffer, 0, end, max, &mut self.pad) {
            Some(short) => (short, SHORT_HEAD + short.len()),
            None => match take_medium(&mut self.buffer[..end], max) {
                Some(Some(medium)) => (medium, MEDIUM_HEAD + medium.len()),
                Some(None) => return self.broken(BAD_UTF8, Progress { at: end, end, left }),
                None => return self.serve_rest(slot, Progress { at: 0, end, left }),
            },
        };
        self.progress.at = at;
        self.progress.end = end;
        // The share of a turn is at least one message: see `Builder::build`.
        self.progress.left = left.saturating_sub(1);
        if let Err(broken) = deliver(&mut self.core, slot, (text, binary), message) {
            return self.broken(broken, self.progress);
        }
        if at < end {
            return self.serve_run(slot, self.progress);
        }
        if self
            .core
            .peer(slot)
            .is_some_and(|mut conn| conn.release_fast())
        {
            self.core.shared.current = NOBODY;
        } else {
            self.serve_rest(slot, self.progress);
        }
    }

    /// Continues the fast path when a read returned more than one message.
    #[inline(never)]
    fn serve_run(&mut self, slot: usize, progress: Progress) {
        match self.run(slot, progress) {
            Ok(progress) => {
                let all = progress.at == progress.end;
                if all
                    && self
                        .core
                        .peer(slot)
                        .is_some_and(|mut conn| conn.release_fast())
                {
                    self.core.shared.current = NOBODY;
                } else {
                    self.serve_rest(slot, progress);
                }
            }
            Err((broken, progress)) => self.broken(broken, progress),
        }
    }

    /// Delivers whole messages until one does not qualify for the fast path; returns the progress.
    fn run(&mut self, slot: usize, progress: Progress) -> Result<Progress, (Broken, Progress)> {
        let Progress {
            mut at,
            end,
            mut left,
        } = progress;
        let Some(half) = self.halves.get_mut(slot) else {
            return Ok(progress);
        };
        let (text, binary) = handlers_of(&mut self.handlers, &mut half.own);
        while at < end && left > 0 {
            let Some(peer) = self.core.peers.get(slot).filter(|peer| peer.is_quiet()) else {
                break;
            };
            let max = peer.max_recv_size();
            let batch = self.batch.fill(&self.buffer, at, end, max, left);
            if let Some(batch) = batch {
                left -= batch.count();
                self.progress = Progress { at, end, left };
                let (core, progress) = (&mut self.core, &mut self.progress);
                let all = match batch {
                    Shorts::Text(all, lens) => {
                        deliver_batch(core, slot, progress, text, lens, all, str::split_at_checked)
                    }
                    Shorts::Binary(all, lens) => deliver_batch(
                        core,
                        slot,
                        progress,
                        binary,
                        lens,
                        all,
                        <[u8]>::split_at_checked,
                    ),
                };
                match all {
                    Ok(true) => {
                        at = self.progress.at;
                        continue;
                    }
                    Ok(false) => return Ok(self.progress),
                    Err(error) => return Err((Broken::Handler(error), self.progress)),
                }
            }
            let message = match take_medium(&mut self.buffer[at..end], max) {
                Some(Some(message)) => message,
                Some(None) => return Err((BAD_UTF8, Progress { at: end, end, left })),
                None => break,
            };
            left -= 1;
            at += MEDIUM_HEAD + message.len();
            self.progress = Progress { at, end, left };
            if let Err(broken) = deliver(&mut self.core, slot, (text, binary), message) {
                return Err((broken, self.progress));
            }
        }
        Ok(Progress { at, end, left })
    }

    /// Ends the fast path of the current connection: its handler failed, or its text is invalid.
    #[cold]
    fn broken(&mut self, broken: Broken, progress: Progress) {
        let slot = self.core.shared.current;
        if let Some(mut dispatch) = self.dispatch(slot) {
            match broken {
                Broken::Handler(error) => dispatch.handler_failed(error),
                Broken::Protocol(error) => dispatch.fail(error),
            }
        }
        self.serve_rest(slot, progress);
    }
}
