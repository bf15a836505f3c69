//! The invariants: after every turn, before the server sleeps, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::Sense;
use super::world::World;
use crate::config::Config;
use crate::connection::{Peer, Phase};
use crate::server::admission::AcceptLimit;
use crate::server::{Server, State};

/// An invariant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Check {
    /// Calls of handlers return what they should.
    Answers,
    /// A callback is called once: when its message was written, in order, or before `Disconnect`.
    CallbackOnce,
    /// The cause that `Disconnect` reports is possible.
    Causes,
    /// Each connection has one `Connect`, before all other events.
    ConnectFirst,
    /// The server sends the pings and pongs that were requested, and no others.
    ControlFrames,
    /// No deadline is missed or late.
    Deadlines,
    /// Each time that data was left in the backlog there is one `Drain`.
    DrainOnce,
    /// A connection number is never reused, and always denotes the same connection.
    FreshIds,
    /// No backlog exceeds `max_backlog`.
    Backlog,
    /// The memory of all connections is counted, and does not exceed `memory_budget`.
    Budget,
    /// There are at most `max_connections` connections, and at most `max_half_open` half-open ones.
    Connections,
    /// Received messages are delivered completely, once, in order, and on their own connection.
    MessagesIn,
    /// Accepted messages are written completely, once, in order, and to their own connection.
    MessagesOut,
    /// All lost messages are reported by `Gap`, with their number.
    Gaps,
    /// Nothing is left of connections that have ended.
    Growth,
    /// A subscriber that comes back gets all that it missed, or nothing.
    History,
    /// Backplanes know which topics have subscribers.
    Interest,
    /// A protocol violation ends the connection.
    NoBreach,
    /// Nothing is delivered after the server's Close frame.
    NothingAfterClose,
    /// Nothing is delivered while a connection is paused.
    NothingWhilePaused,
    /// A connection has no event after its `Disconnect`.
    NothingAfterDisconnect,
    /// Before the server sleeps, all data that arrived is read and delivered.
    NothingLeftToRead,
    /// Before the server sleeps, all data that can be written is written.
    NothingLeftToWrite,
    /// Before the server sleeps, all connections that can be accepted are.
    NobodyLeftToAccept,
    /// Each connection has one `Disconnect`.
    OneDisconnect,
    /// A connection that is not cut ends with all data written and without a reset.
    OrderlyEnd,
    /// Only handlers that are meant to panic do.
    Panics,
    /// No message is larger than `max_recv_size`.
    ReceiveLimit,
    /// A recovery by an engine has one `Recovered`.
    Recoveries,
    /// A loop has in its inbox what the other has published for it.
    Relayed,
    /// There are as many slots as open sockets.
    Slots,
    /// The loop sleeps when there is nothing to do.
    Spinning,
    /// The counters are correct.
    Statistics,
    /// Subscribers are those who subscribed; a publish reaches exactly them; `Occupied` and
    /// `Vacated` are told once.
    Topics,
    /// No connection exceeds its share of a turn.
    TurnShare,
    /// A loop is woken only for messages that it wants, and once until it looks.
    Wakes,
    /// The server writes only HTTP responses and whole frames, and nothing after a Close frame.
    WholeFrames,
}

/// How late a connection's deadline may be: the wheel's tick, and the rounding of the sleep.
const LATE: Duration = Duration::from_millis(18);

/// How late a timer, a tick and the end may be: the rounding, and the duration of a turn.
const SLIGHTLY_LATE: Duration = Duration::from_millis(3);

/// How many bytes of control frames and responses may be queued beyond `max_backlog`.
const BEYOND: usize = 8 << 10;

impl World {
    /// Checks what holds after every turn.
    pub(super) fn check_turn(&mut self, server: &Server) {
        for client in 0..self.clients.len() {
            self.parse(client);
        }
        let core = &server.reactor.core;
        let alive = self
            .lines
            .iter()
            .filter(|line| line.token.is_some() && !line.closed)
            .count();
        let slots = core.peers.len();
        self.check(slots == alive, Check::Slots, || {
            format!("{slots} slots for {alive} sockets")
        });
        let ready = core
            .peers
            .iter()
            .filter(|(_, peer)| peer.phase() == Phase::Open);
        let ready = ready.count();
        self.check(ready == core.shared.ready, Check::Slots, || {
            format!("{} counted as ready, {ready} are", core.shared.ready)
        });
        let most = core.shared.config.max_connections;
        self.check(slots <= most, Check::Connections, || {
            format!("{slots} of {most}")
        });
        let is_half_open = |peer: &Peer| peer.is_half_open() && peer.phase() == Phase::Opening;
        let half_open = core.peers.iter();
        let half_open = half_open.filter(|(_, peer)| is_half_open(peer)).count();
        let most = core.shared.config.max_half_open;
        self.check(
            half_open == core.shared.half_open && half_open <= most,
            Check::Connections,
            || {
                format!(
                    "{} counted as half open, {half_open} are, of {most}",
                    core.shared.half_open
                )
            },
        );
        self.check_budget(server);
        let limits = core.shared.config.limits;
        let most = limits
            .max_backlog
            .saturating_add(limits.max_send_size + BEYOND);
        for (_, peer) in &core.peers {
            let Some(client) = self.names.get(&peer.serial).copied() else {
                self.fail(Check::ConnectFirst, || {
                    "a connection without Connect".into()
                });
                continue;
            };
            self.check(peer.phase() != Phase::Gone, Check::Slots, || {
                format!("client {client} is gone, and keeps its slot")
            });
            let backlog = peer.backlog();
            self.check(backlog <= most, Check::Backlog, || {
                format!("{backlog} bytes for client {client}")
            });
            self.follow(client, peer, &core.shared.config);
        }
        self.check_statistics(server);
        self.check_topics(server);
        self.check_ends();
    }

    /// Checks the memory that connections hold.
    fn check_budget(&mut self, server: &Server) {
        let reactor = &server.reactor;
        let budget = &reactor.core.shared.budget;
        if !budget.is_on() {
            return;
        }
        let peers = &reactor.core.peers;
        let own = peers.iter().map(|(slot, _)| reactor.held(slot).all());
        // A message in several queues counts once.
        let shared = peers.iter().flat_map(|(_, peer)| peer.shared_messages());
        let shared: BTreeMap<_, _> = shared
            .map(|bytes| (bytes.as_ptr().addr(), bytes.len()))
            .collect();
        let topics = reactor.core.shared.topics.held();
        let held = own.sum::<usize>() + shared.values().sum::<usize>() + topics;
        let used = budget.used();
        self.check(
            held == used && used <= budget.limit(),
            Check::Budget,
            || {
                let peers = reactor.core.peers.iter();
                let each =
                    peers.map(|(slot, peer)| (slot, peer.phase(), peer.held(), reactor.held(slot)));
                let each: Vec<_> = each.collect();
                let shares = budget.by_share();
                format!(
                    "{used} are counted, {held} held, of {}: {each:?}, {shares:?}",
                    budget.limit()
                )
            },
        );
        // Memory is short for a limited time, apart from what connections always need. A
        // connection that held little at the last check is ended by the next one.
        let relief = self.settings.config.memory_relief;
        let late = relief + relief / 10 + LATE;
        let is_over = budget.short_since().is_some_and(|since| {
            let begun = since.max(self.stalled_at);
            self.turn_at() > begun + late
        });
        let needed = peers.iter().map(|(slot, _)| reactor.held(slot).fixed);
        let needed: usize = needed.sum();
        self.check(
            !is_over || needed > budget.limit() / 8 * 5,
            Check::Budget,
            || {
                let since = budget.short_since();
                format!("memory is short since {since:?}, and {needed} bytes are needed")
            },
        );
    }

    /// Follows the phase of a connection.
    fn follow(&mut self, client: usize, peer: &Peer, config: &Config) {
        let now = self.turn_at();
        let (line, seen) = (&mut self.lines[client], &mut self.clients[client].seen);
        if seen.phase.is_none_or(|(phase, _)| phase != peer.phase()) {
            let before = seen.phase.map(|(phase, _)| phase);
            seen.phase = Some((peer.phase(), now));
            seen.heard_at = now;
            (seen.close_from, seen.bytes_written) = (now, line.sent.len());
            seen.held_off = peer.is_held_off();
            self.tell(|| format!("client {client}: {:?}", peer.phase()));
            self.check(
                before.is_none_or(|before| before < peer.phase()),
                Check::FreshIds,
                || format!("client {client} went from {before:?} to {:?}", peer.phase()),
            );
            return;
        }
        let written = line.sent.len() - std::mem::replace(&mut seen.bytes_written, line.sent.len());
        if written > 0 {
            seen.close_from = match peer.backlog() {
                0 => now,
                _ => (seen.close_from + time_of(written, config)).min(now),
            };
        }
        self.follow_message(client, peer, config);
        let (line, seen) = (&mut self.lines[client], &mut self.clients[client].seen);
        let was_held_off = std::mem::replace(&mut seen.held_off, peer.is_held_off());
        if peer.is_paused() || peer.is_held_off() || was_held_off {
            seen.heard_at = now;
        }
        let level = peer.drain_at(config.drain_at);
        if peer.phase() == Phase::Open && line.is_full && peer.backlog() > level {
            seen.above = true;
        }
    }

    /// Records since when a message is incomplete.
    fn follow_message(&mut self, client: usize, peer: &Peer, config: &Config) {
        let now = self.turn_at();
        let (line, state) = (&self.lines[client], &mut self.clients[client]);
        let next = state.seen.next;
        let start = match next.checked_sub(1) {
            Some(last) => state.expected.get(last).map_or(0, |(end, _)| *end),
            None => 0,
        };
        let full = peer.backlog() > config.limits.max_backlog / 2;
        // Data waits while the answer to the opening handshake is deferred.
        let is_read =
            peer.phase() == Phase::Open && !(peer.is_paused() || peer.is_held_off() || full);
        let since = match state.seen.under_way {
            (before, since) if before == next && is_read => since.unwrap_or(now),
            _ => now,
        };
        state.seen.under_way = (next, (line.read > start && is_read).then_some(since));
    }

    /// Returns when the incomplete message must be complete.
    fn due_of_rest(&self, client: usize, config: &Config) -> Option<Duration> {
        let state = &self.clients[client];
        let (next, since) = state.seen.under_way;
        let (end, sense) = state.expected.get(next)?;
        let is_kept = matches!(sense, Sense::Message(..)) && !self.settings.pieces;
        if config.message_timeout.is_zero() || !is_kept {
            return None;
        }
        let start = match next.checked_sub(1) {
            Some(last) => state.expected.get(last)?.0,
            None => 0,
        };
        // A header that arrives slowly has the same time in addition.
        let all = time_of(end - start, config) + 2 * (config.message_timeout + LATE);
        let is_partial = (start + 1..*end).contains(&self.lines[client].read);
        since
            .filter(|_| is_partial)
            .map(|since| since.max(self.stalled_at) + all)
    }

    fn check_statistics(&mut self, server: &Server) {
        let stats = server.stats();
        let read: usize = self.lines.iter().map(|line| line.read).sum();
        self.check(stats.bytes_in == read as u64, Check::Statistics, || {
            format!("{} bytes in, and {read} were read", stats.bytes_in)
        });
        let accepted = self
            .clients
            .iter()
            .filter(|client| client.seen.accepted_at.is_some());
        let accepted = accepted.count();
        self.check(stats.accepted == accepted as u64, Check::Statistics, || {
            format!("{} accepted, and it were {accepted}", stats.accepted)
        });
        let messages = self.totals.messages_in;
        self.check(stats.messages_in == messages, Check::Statistics, || {
            format!(
                "{} messages in, and {messages} were delivered",
                stats.messages_in
            )
        });
        let written: usize = self.lines.iter().map(|line| line.sent.len()).sum();
        self.check(stats.bytes_out >= written as u64, Check::Statistics, || {
            format!("{} bytes out, and {written} were written", stats.bytes_out)
        });
    }

    /// Checks what holds for connections that have ended.
    fn check_ends(&mut self) {
        for client in 0..self.clients.len() {
            let (line, state) = (&self.lines[client], &self.clients[client]);
            if !line.closed || state.seen.phase.is_none() {
                continue;
            }
            let (connected, gone) = (state.seen.connected, state.seen.disconnected);
            self.check(connected == gone, Check::OneDisconnect, || {
                format!("client {client} is gone without")
            });
            self.check_order(client);
            self.clients[client].seen.phase = None;
        }
    }

    /// Checks the end of a connection that was not cut.
    fn check_order(&mut self, client: usize) {
        let (line, state) = (&self.lines[client], &self.clients[client]);
        let seen = &state.seen;
        let Some((_, since)) = seen.phase else {
            return;
        };
        // Ended by a deadline, or together with the server.
        let timeout = self.settings.config.close_timeout;
        let is_late = self.now + Duration::from_millis(1) >= since + timeout;
        // The connection that holds most memory is cut, even if its end had begun otherwise.
        let cut = seen.did_cut || self.settings.config.memory_budget < usize::MAX;
        if line.reset || cut || is_late || self.hand.stopping.is_some() || self.is_ending() {
            return;
        }
        let cause = seen.cause;
        self.forget_dropped(client);
        let left = self.clients[client].seen.sent.len();
        self.check(left == 0, Check::OrderlyEnd, || {
            format!("{left} messages to client {client} are lost: {cause:?}")
        });
        let (line, state) = (&self.lines[client], &self.clients[client]);
        let behind = state.close.is_some_and(|close| state.posted > close);
        if !behind {
            let unread = line.closed_unread;
            self.check(!unread, Check::OrderlyEnd, || {
                format!("client {client} is reset: {cause:?}")
            });
        }
    }

    /// Checks what holds before the server sleeps for `wait`.
    pub(super) fn check_sleep(&mut self, server: &Server, wait: Option<Duration>) {
        if wait == Some(Duration::ZERO) {
            return;
        }
        let core = &server.reactor.core;
        for (_, peer) in &core.peers {
            let Some(client) = self.names.get(&peer.serial).copied() else {
                continue;
            };
            if !self.lines[client].woken {
                self.check_input(client, peer, &core.shared.config);
                self.check_output(client, peer, &core.shared.config);
            }
        }
        let open = self.port.is_open && !self.port.woken && server.state == State::Running;
        let can = AcceptLimit::reached(core).is_none();
        if open && can && !self.port.waiting.is_empty() {
            let retries = wait.is_some_and(|wait| wait <= Duration::from_millis(1000));
            self.check(retries, Check::NobodyLeftToAccept, || {
                format!("and the server sleeps for {wait:?}")
            });
        }
        self.check_told(server);
        self.check_due(server, wait);
    }

    fn check_input(&mut self, client: usize, peer: &Peer, config: &Config) {
        let (line, state) = (&self.lines[client], &self.clients[client]);
        let full = peer.backlog() > config.limits.max_backlog / 2;
        let stalled = match peer.phase() {
            Phase::Opening => peer.is_deferred() || full,
            Phase::Open => peer.is_paused() || peer.is_held_off() || full,
            _ => false,
        };
        if peer.phase() == Phase::Gone || stalled {
            return;
        }
        let unread = line.incoming.len();
        let unseen = (line.fin && !line.fin_read) || (line.reset && !line.reset_told);
        let (read, breach) = (line.read, state.breach);
        self.check(unread == 0 && !unseen, Check::NothingLeftToRead, || {
            format!("{unread} bytes of client {client} ({:?})", peer.phase())
        });
        if peer.phase() > Phase::Open {
            return;
        }
        let state = &self.clients[client];
        if let Some((end, sense)) = state.expected.get(state.seen.next)
            && *end <= read
            // Nothing is parsed after the last request that is answered.
            && (state.seen.request_at.is_none() || peer.backlog() == 0)
        {
            let what = format!("client {client} ({:?}): {sense:?}", peer.phase());
            self.fail(Check::NothingLeftToRead, || what);
        }
        let answered = self.clients[client].seen.request_at.is_some();
        if breach.is_some_and(|end| end <= read) && !answered {
            self.fail(Check::NoBreach, || {
                format!("client {client} ({:?})", peer.phase())
            });
        }
        let ended = self.lines[client].fin_read;
        self.check(!ended || answered, Check::NothingLeftToRead, || {
            format!("the end of client {client} ({:?})", peer.phase())
        });
    }

    fn check_output(&mut self, client: usize, peer: &Peer, config: &Config) {
        let (line, backlog) = (&self.lines[client], peer.backlog());
        if line.is_full || line.reset || peer.phase() == Phase::Gone {
            return;
        }
        self.check(backlog == 0, Check::NothingLeftToWrite, || {
            format!("{backlog} bytes for client {client} ({:?})", peer.phase())
        });
        if backlog > 0 || peer.phase() != Phase::Open {
            return;
        }
        self.forget_dropped(client);
        let seen = &self.clients[client].seen;
        let left = seen.sent.len();
        let (above, pending) = (seen.above, seen.callbacks.len());
        self.check(left == 0, Check::MessagesOut, || {
            format!("{left} messages to client {client} are lost")
        });
        self.check(!above, Check::DrainOnce, || {
            format!(
                "client {client} has none, at {}",
                peer.drain_at(config.drain_at)
            )
        });
        self.check(pending == 0, Check::CallbackOnce, || {
            format!("{pending} of client {client} are not called")
        });
    }

    /// Checks that the server does not sleep past a deadline.
    fn check_due(&mut self, server: &Server, wait: Option<Duration>) {
        // A full event list postpones the deadlines.
        if server.full_lists > 0 {
            return;
        }
        let end = wait.map(|wait| self.now + wait);
        for (client, due, what) in self.dues(server) {
            let late = end.is_none_or(|end| end > due + LATE);
            self.check(!late, Check::Deadlines, || {
                format!("client {client}: {what} is due at {due:?}, and it sleeps to {end:?}")
            });
        }
        if let Some((due, what)) = self.due_of_server(server) {
            let late = end.is_none_or(|end| end > due + SLIGHTLY_LATE);
            self.check(!late, Check::Deadlines, || {
                format!("{what} is due at {due:?}, and it sleeps to {end:?}")
            });
        }
    }

    /// Checks, after a turn, that nothing is overdue.
    pub(super) fn check_overdue(&mut self, server: &Server) {
        if server.full_lists > 0 {
            return;
        }
        let now = self.turn_at();
        for (client, due, what) in self.dues(server) {
            self.check(now <= due + LATE, Check::Deadlines, || {
                format!("client {client}: {what} was due at {due:?}")
            });
        }
        if let Some((due, what)) = self.due_of_server(server) {
            self.check(now <= due + SLIGHTLY_LATE, Check::Deadlines, || {
                format!("{what} was due at {due:?}")
            });
        }
    }

    /// Returns the latest deadline of each client, and its name.
    fn dues(&self, server: &Server) -> Vec<(usize, Duration, &'static str)> {
        let core = &server.reactor.core;
        let mut dues = Vec::new();
        for (slot, peer) in &core.peers {
            let Some(client) = self.names.get(&peer.serial).copied() else {
                continue;
            };
            let own = self.due(client, peer, &core.shared.config);
            let message = due_of_message(server, slot, peer);
            let both = own.into_iter().chain(message);
            dues.extend(both.map(|(due, what)| (client, due, what)));
        }
        dues
    }

    /// Returns the latest time of a connection's next deadline, and its name.
    fn due(&self, client: usize, peer: &Peer, config: &Config) -> Option<(Duration, &'static str)> {
        let (way, seen) = (&self.ways[client], &self.clients[client].seen);
        let (phase, since) = seen.phase?;
        let mut heard = seen.heard_at.max(way.read_at).max(way.progress_at);
        // A wind-down waits for clients that read; when a stop ends it, `close_timeout` begins.
        let mut close_from = seen.close_from.max(self.hand.drain_ended);
        let mut close = config.close_timeout;
        if self.settings.tells {
            // The server checks what was acknowledged at the deadline, and once more after
            // the same time. A stall postpones the second check.
            heard = heard.max(way.taken_at);
            close_from = close_from.max(way.taken_at).max(self.stalled_at);
            close = 3 * close + 2 * LATE;
        }
        let drains = self.hand.draining.is_some();
        let due = match phase {
            Phase::Opening => match seen.request_at {
                None => (
                    seen.accepted_at? + config.handshake_timeout,
                    "the handshake",
                ),
                Some(asked) => {
                    let begun = asked.max(self.hand.draining.unwrap_or_default());
                    let all = config.handshake_timeout + config.keep_alive_timeout;
                    (
                        begun.max(heard) + all + config.close_timeout,
                        "the end of requests",
                    )
                }
            },
            Phase::Open if peer.is_paused() || peer.is_held_off() => {
                return self.lifetime_of(client);
            }
            Phase::Open => return self.due_of_open(client, heard, config),
            Phase::Closing if drains && peer.backlog() > 0 => return None,
            Phase::Closing if drains => (since.max(heard) + close, "the close"),
            Phase::Closing => (close_from + close, "the close"),
            Phase::Lingering => (close_from + close, "the end"),
            Phase::Gone => return None,
        };
        match self.lifetime_of(client).filter(|_| phase == Phase::Opening) {
            Some(life) => Some(due.min(life)),
            None => Some(due),
        }
    }

    fn lifetime_of(&self, client: usize) -> Option<(Duration, &'static str)> {
        Some((self.clients[client].seen.lifetime?, "the lifetime"))
    }

    fn due_of_open(
        &self,
        client: usize,
        heard: Duration,
        config: &Config,
    ) -> Option<(Duration, &'static str)> {
        let (line, seen) = (&self.lines[client], &self.clients[client].seen);
        // Changed settings count from the change on.
        let heard = heard.max(self.hand.settings_at);
        let silence = Some(config.silence_max).filter(|silence| !silence.is_zero());
        let again = config.ping_again();
        // A loop that stalled sends a ping first, and waits once more.
        let idle = config.idle_after().map(|idle| {
            let asks = silence.map_or(Duration::ZERO, |silence| silence.max(again) + LATE);
            let once_more = if self.settings.tells {
                idle + 2 * LATE
            } else {
                Duration::ZERO
            };
            let late = self.stalled_at + again + once_more;
            (
                (heard + idle + once_more + asks).max(late),
                "the end of silence",
            )
        });
        let pings = silence
            .filter(|_| !line.is_full && seen.sent.is_empty())
            .map(|silence| {
                let last = heard.max(seen.pinged_at);
                // Data acknowledged by the end of the silence counts as a sign of life, even if
                // it is checked late or after a stall. The next ping is due after it.
                let idle = config.idle_after().filter(|_| self.settings.tells);
                let told = idle.map_or(last, |idle| (last + idle + LATE).max(self.stalled_at));
                (told + silence.max(again), "a ping")
            });
        let message = self.due_of_rest(client, config);
        let message = message.map(|due| (due, "the end of a message by its rate"));
        [idle, pings, message, self.lifetime_of(client)]
            .into_iter()
            .flatten()
            .min()
    }

    fn due_of_server(&self, server: &Server) -> Option<(Duration, &'static str)> {
        let hand = &self.hand;
        let timer = hand.timers.values().map(|timer| (timer.due, "a timer"));
        let timer = timer.min().filter(|_| server.state != State::Stopped);
        let tick = hand.next_tick.filter(|_| server.next_tick.is_some());
        let tick = tick.map(|due| (due, "a tick"));
        let stop = hand.stopping.filter(|_| server.state != State::Stopped);
        let stop = stop.map(|due| (due, "the end of the server"));
        [timer, tick, stop].into_iter().flatten().min()
    }

    /// Returns how many messages of closed connections may be discarded without an event, some of
    /// them in each turn.
    pub(super) fn unseen_messages(&self) -> usize {
        let closing = self.lines.iter().zip(&self.clients).filter(|(_, client)| {
            let phase = client.seen.phase;
            phase.is_some_and(|(phase, _)| phase == Phase::Closing)
        });
        closing.map(|(line, _)| line.read / 6).sum()
    }

    /// Checks what holds when the server is gone.
    pub(super) fn check_all_gone(&mut self) {
        for client in 0..self.clients.len() {
            let seen = &self.clients[client].seen;
            let (connected, gone) = (seen.connected, seen.disconnected);
            let (closed, accepted) = (self.lines[client].closed, seen.accepted_at.is_some());
            self.check(connected == gone, Check::OneDisconnect, || {
                format!("client {client} has none")
            });
            self.check(closed == accepted, Check::Slots, || {
                format!("the socket of client {client} is not closed")
            });
        }
    }
}

/// Returns the time that so many bytes take at `min_rate`.
fn time_of(bytes: usize, config: &Config) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / config.min_rate)
}

/// Returns when the incomplete message of a connection must end, or when reading resumes.
fn due_of_message(server: &Server, slot: usize, peer: &Peer) -> Option<(Duration, &'static str)> {
    if peer.phase() != Phase::Open {
        return None;
    }
    if let Some(until) = peer.held_off_until() {
        return Some((until, "the end of being held off"));
    }
    // A connection in the ready queue is checked in the next turn.
    if server.reactor.next_deadline() == Some(0) {
        return None;
    }
    let end = server.reactor.message_end(slot)?;
    Some((Duration::from_millis(end), "the end of a message"))
}
