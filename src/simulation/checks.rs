//! What has to hold, whatever happens: after every turn, before the server sleeps, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::Sense;
use super::world::World;
use crate::config::Config;
use crate::connection::{Peer, Phase};
use crate::server::admission::AcceptLimit;
use crate::server::{Server, State};

/// What is checked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Check {
    /// What handlers asked for was answered as they may expect.
    Answers,
    /// A callback is called once: in order when its message is written, else before `Disconnect`.
    CallbackOnce,
    /// What `Disconnect` names as its cause may have been it.
    Causes,
    /// An event comes after the connection's one `Connect`.
    ConnectFirst,
    /// Pings and pongs are those that were asked for.
    ControlFrames,
    /// What is due happens, and not too late.
    Deadlines,
    /// `Drain` comes once for each time that something was left over, and then it comes.
    DrainOnce,
    /// A number is never used again, and is of the same connection for good.
    FreshIds,
    /// Queues keep to `max_backlog`.
    Backlog,
    /// All connections together keep to `memory_budget`, and what they hold is known.
    Budget,
    /// No more connections than `max_connections`.
    Connections,
    /// What came is delivered whole, once and in order, and nothing of another connection.
    MessagesIn,
    /// What was taken is written whole, once and in order, and nothing of another connection.
    MessagesOut,
    /// What breaks the protocol is the end of the connection.
    NoBreach,
    /// After a Close frame of the server's nothing is delivered.
    NothingAfterClose,
    /// Nothing is delivered of a connection that is paused.
    NothingWhilePaused,
    /// After its `Disconnect` nothing is heard of a connection.
    NothingAfterDisconnect,
    /// Before the server sleeps: everything that came is read and delivered.
    NothingLeftToRead,
    /// Before the server sleeps: everything that can be written is written.
    NothingLeftToWrite,
    /// Before the server sleeps: everybody who can be accepted is.
    NobodyLeftToAccept,
    /// Each connection has one `Disconnect`.
    OneDisconnect,
    /// A connection that ends in order ends without a reset, and with everything written.
    OrderlyEnd,
    /// Nothing panics but handlers that are to.
    Panics,
    /// No message is larger than `max_recv_size`.
    ReceiveLimit,
    /// Slots are those of the connections that live.
    Slots,
    /// The loop sleeps when there is nothing to do.
    Spinning,
    /// What is counted is what happened.
    Statistics,
    /// No connection has more than its share of a turn.
    TurnShare,
    /// What is written are answers and whole frames, and nothing behind a Close frame.
    WholeFrames,
}

/// How late a deadline of a connection may be met: the wheel's tick, and the rounding of the sleep.
const LATE: Duration = Duration::from_millis(18);

/// How late a timer, a tick and the end may be: rounding, and the time that a turn takes.
const SLIGHTLY_LATE: Duration = Duration::from_millis(3);

/// What control frames, answers and a Close frame may come to beyond `max_backlog`.
const BEYOND: usize = 8 << 10;

impl World {
    /// What has to hold after every turn.
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
        self.check_ends();
    }

    /// Checks what connections hold.
    fn check_budget(&mut self, server: &Server) {
        let reactor = &server.reactor;
        let budget = &reactor.core.shared.budget;
        if !budget.is_on() {
            return;
        }
        let peers = &reactor.core.peers;
        let own = peers.iter().map(|(slot, _)| reactor.held(slot).all());
        // A message that several have in their queues counts once.
        let shared = peers.iter().flat_map(|(_, peer)| peer.shared_messages());
        let shared: BTreeMap<_, _> = shared
            .map(|bytes| (bytes.as_ptr().addr(), bytes.len()))
            .collect();
        let held = own.sum::<usize>() + shared.values().sum::<usize>();
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
        // Memory is short for a stated time at most, but for what connections need to live. Who
        // has begun to hold some of it only since then goes with the next look.
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

    /// Follows a connection from phase to phase.
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

    /// Notes since when something has come of which not all has.
    fn follow_message(&mut self, client: usize, peer: &Peer, config: &Config) {
        let now = self.turn_at();
        let (line, state) = (&self.lines[client], &mut self.clients[client]);
        let next = state.seen.next;
        let start = match next.checked_sub(1) {
            Some(last) => state.expected.get(last).map_or(0, |(end, _)| *end),
            None => 0,
        };
        let full = peer.backlog() > config.limits.max_backlog / 2;
        // While the answer to the opening handshake is postponed, what has come waits.
        let is_read =
            peer.phase() == Phase::Open && !(peer.is_paused() || peer.is_held_off() || full);
        let since = match state.seen.under_way {
            (before, since) if before == next && is_read => since.unwrap_or(now),
            _ => now,
        };
        state.seen.under_way = (next, (line.read > start && is_read).then_some(since));
    }

    /// Returns by when the message that has begun to come has to be whole.
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
        // A header that trickles has the time once more.
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

    /// What has to hold of connections that have ended.
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

    /// Checks the end of a connection that nobody has cut.
    fn check_order(&mut self, client: usize) {
        let (line, state) = (&self.lines[client], &self.clients[client]);
        let seen = &state.seen;
        let Some((_, since)) = seen.phase else {
            return;
        };
        // By a deadline, or together with the server.
        let timeout = self.settings.config.close_timeout;
        let is_late = self.now + Duration::from_millis(1) >= since + timeout;
        // Who holds most is cut, whatever had begun to end it.
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

    /// What has to hold before the server sleeps, for `wait`.
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
            // Behind the last request that is answered nothing is looked at.
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

    /// Checks that the server does not sleep beyond what is due.
    fn check_due(&mut self, server: &Server, wait: Option<Duration>) {
        // The list of events that came back full has put the deadlines off.
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

    /// Checks, when the server woke up at last and had its turn, that nothing is overdue.
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

    /// Returns by when something has to happen with each client at the latest, and what.
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

    /// Returns by when something has to happen with a connection at the latest, and what.
    fn due(&self, client: usize, peer: &Peer, config: &Config) -> Option<(Duration, &'static str)> {
        let (way, seen) = (&self.ways[client], &self.clients[client].seen);
        let (phase, since) = seen.phase?;
        let mut heard = seen.heard_at.max(way.read_at).max(way.progress_at);
        // A drain waits for those who are to read; when a stop ends it, their time begins.
        let mut close_from = seen.close_from.max(self.hand.drain_ended);
        let mut close = config.close_timeout;
        if self.settings.tells {
            // Looked at when a deadline comes, and then for as long again. A turn
            // that the loop missed puts the second look off.
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
        // Settings that changed count from then on.
        let heard = heard.max(self.hand.settings_at);
        let silence = Some(config.silence_max).filter(|silence| !silence.is_zero());
        let again = config.ping_again();
        // A loop that stalled asks first, and once more.
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
                // What the kernel tells at the end of silence, which may be looked at late, and
                // behind a stall, counts as a sign of life; the next ping is due behind that.
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

    /// Returns how many messages may be thrown away in silence, a share of them in each turn: those
    /// of connections that the server has closed.
    pub(super) fn unseen_messages(&self) -> usize {
        let closing = self.lines.iter().zip(&self.clients).filter(|(_, client)| {
            let phase = client.seen.phase;
            phase.is_some_and(|(phase, _)| phase == Phase::Closing)
        });
        closing.map(|(line, _)| line.read / 6).sum()
    }

    /// What has to hold when everything has come to its end.
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

/// Returns the time that so many bytes take at the least rate.
fn time_of(bytes: usize, config: &Config) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / config.min_rate)
}

/// Returns when the message under way of a connection is to end, and when it is to be read again.
fn due_of_message(server: &Server, slot: usize, peer: &Peer) -> Option<(Duration, &'static str)> {
    if peer.phase() != Phase::Open {
        return None;
    }
    if let Some(until) = peer.held_off_until() {
        return Some((until, "the end of being held off"));
    }
    // Who waits for its turn, and is read again, is looked at in it.
    if server.reactor.next_deadline() == Some(0) {
        return None;
    }
    let end = server.reactor.message_end(slot)?;
    Some((Duration::from_millis(end), "the end of a message"))
}
