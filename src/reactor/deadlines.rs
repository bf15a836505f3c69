//! The deadlines of connections: opening handshake, silence, close.

use std::time::Duration;

use super::Reactor;
use super::wheel::{Entry, MAX_AHEAD};
use crate::close_code::CloseCode;
use crate::connection::event::Cause;
use crate::connection::{Ending, Peer, Phase};
use crate::error::{HandshakeError, ProtocolError};
use crate::protocol::{Compress, OpCode};
use crate::transport::Delivery;

impl Reactor {
    /// Checks the connections whose wheel entries have expired, and calls the timers that are due.
    pub(crate) fn expire(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(self.now, &mut expired);
        for Entry { due, slot } in expired.drain(..) {
            let slot = slot as usize;
            if self
                .halves
                .get(slot)
                .is_some_and(|half| half.due as u32 == due)
            {
                self.check_deadline(slot);
            }
        }
        self.expired = expired;
        if self.core.shared.timers.next() <= self.now {
            self.fire_timers();
        }
    }

    fn check_deadline(&mut self, slot: usize) {
        let now = self.now;
        let Some((half, conn)) = self.both(slot) else {
            return;
        };
        let due = std::mem::take(&mut half.due);
        if conn.peer.has_entered() {
            // The phase changed in this turn, and settling sets the deadline of the new one.
            return self.settle(slot);
        }
        let released = conn.peer.go_on(conn.shared.now);
        if conn.peer.is_paused() || conn.peer.is_held_off() || released {
            // A peer that is not read cannot show a sign of life.
            if conn.peer.phase() == Phase::Open {
                half.hear(now, Phase::Open);
            }
        }
        if released {
            self.settle(slot);
        }
        let mut deadline = self.deadline(slot);
        if released {
            // It may be held off again soon: a near deadline keeps the wheel from filling with
            // entries that are far ahead.
            let soon = now.saturating_add(SOON);
            deadline = deadline.map(|deadline| deadline.min(soon));
        }
        if deadline.is_none_or(|deadline| deadline > now) {
            return self.schedule(slot, deadline);
        }
        let is_closing = |peer: &Peer| peer.phase() >= Phase::Closing;
        if self.core.peers.get(slot).is_some_and(is_closing) && self.still_takes(slot) {
            return self.arm(slot);
        }
        self.meet_deadline(slot, due);
        self.settle(slot);
    }

    /// Acts on the deadline of a connection; its entry in the wheel was for `due`.
    fn meet_deadline(&mut self, slot: usize, due: u64) {
        let now = self.now;
        let overdue = self.message_end(slot).is_some_and(|end| end <= now);
        let Some(half) = self.halves.get(slot) else {
            return;
        };
        let (asked, idle_http) = (half.has_begun(), half.is_idle_http());
        let Some(mut dispatch) = self.dispatch(slot) else {
            return;
        };
        let peer = dispatch.peer();
        let timed_out = Cause::Handshake(HandshakeError::TimedOut);
        match peer.phase() {
            // RFC 9110, 15.5.9: 408 for a request that has begun; otherwise there is nothing to
            // answer.
            Phase::Opening if peer.is_unannounced() => dispatch.cut(timed_out),
            Phase::Opening if peer.is_deferred() => {
                dispatch.refuse(HandshakeError::Undecided, None)
            }
            Phase::Opening if idle_http => {
                dispatch.leave(Some(Ending::abnormal(Cause::Answered)));
            }
            Phase::Opening if asked => dispatch.refuse(HandshakeError::TimedOut, None),
            Phase::Opening => dispatch.cut(timed_out),
            Phase::Open if overdue => {
                dispatch.conn().shared.stats.timed_out_messages += 1;
                dispatch.fail(ProtocolError::TimedOut);
            }
            Phase::Open => self.check_silence(slot, due),
            Phase::Closing | Phase::Lingering => {
                dispatch.conn().note_cut();
                dispatch.cut(Cause::Cut);
            }
            Phase::Gone => {}
        }
    }

    /// Pings a silent peer, or closes one that has been silent for too long.
    fn check_silence(&mut self, slot: usize, due: u64) {
        let now = self.now;
        let Some((half, mut conn)) = self.both(slot) else {
            return;
        };
        let (heard, config) = (half.stamp, &conn.shared.config);
        let (silence, again) = (config.silence_max, config.ping_again());
        let end = config.idle_after();
        let end = end.map_or(u64::MAX, |idle| heard.saturating_add(millis(idle)));
        // If the check comes so late that the ping was due as well, the event loop stalled: the
        // peer is pinged first (decision 20).
        let was_asked = silence.is_zero() || due >= end;
        if now >= end && was_asked {
            if self.takes_steadily(slot, heard) {
                if let Some(half) = self.halves.get_mut(slot) {
                    half.hear(now, Phase::Open);
                }
                self.arm(slot);
            } else {
                self.core.close(slot, CloseCode::GOING_AWAY, Cause::Silent);
            }
        } else if !silence.is_zero() {
            // A peer whose backlog is full is not pinged, but it is closed in time.
            let _ = conn.send_any(OpCode::Ping, b"", Compress::No);
            // No later than with the second ping, since most peers answer the first.
            if now.saturating_sub(heard) >= millis(silence + again / 2) {
                self.begin_to_measure(slot, heard);
            }
            let next = now.saturating_add(millis(again));
            let next = if end > now { next.min(end) } else { next };
            let message = self.message_end(slot).unwrap_or(u64::MAX);
            self.schedule(slot, Some(next.min(message)));
        }
    }

    /// Returns how much of the sent data the peer has acknowledged, as the kernel reports it.
    fn delivery(&mut self, slot: usize) -> Option<Delivery> {
        let peer = self.core.peers.get(slot)?;
        self.deliveries.of(peer.transport.socket())
    }

    /// Records how much data the peer has acknowledged, unless that was recorded since `heard`,
    /// when the peer last showed a sign of life.
    fn begin_to_measure(&mut self, slot: usize, heard: u64) {
        let noted = |peer: &Peer| peer.acknowledged().is_some_and(|(_, at)| at >= heard);
        if !self.core.peers.get(slot).is_some_and(noted)
            && let Some(delivery) = self.delivery(slot)
            && let Some(peer) = self.core.peers.get_mut(slot)
        {
            peer.note_acknowledged(delivery.acknowledged, self.now);
        }
    }

    /// Returns whether a peer that has been silent since `heard` acknowledges data at `min_rate` or
    /// faster.
    ///
    /// Its answer to a ping waits behind that data, of which the kernel may hold megabytes. If
    /// nothing was recorded before and the kernel holds data, the silence counts anew.
    fn takes_steadily(&mut self, slot: usize, heard: u64) -> bool {
        let now = self.now;
        let Some(delivery) = self.delivery(slot) else {
            return false;
        };
        let rate = self.core.shared.config.min_rate;
        let Some(peer) = self.core.peers.get_mut(slot) else {
            return false;
        };
        match peer.note_acknowledged(delivery.acknowledged, now) {
            Some((before, at)) if at >= heard => {
                let bytes = u128::from(delivery.acknowledged.saturating_sub(before));
                bytes > 0 && bytes * 1000 >= u128::from(rate) * u128::from(now - at)
            }
            _ => delivery.waiting > 0,
        }
    }

    /// Returns whether a peer that is being closed gets more time, because it acknowledges the data
    /// that the kernel holds before the Close frame.
    fn still_takes(&mut self, slot: usize) -> bool {
        let now = self.now;
        let Some(delivery) = self.delivery(slot) else {
            return false;
        };
        let (Some(half), Some(peer)) = (self.halves.get_mut(slot), self.core.peers.get_mut(slot))
        else {
            return false;
        };
        let noted = peer.acknowledged();
        if delivery.waiting == 0 {
            // The peer has all data. If that is new, the time for its answer begins now.
            peer.forget_acknowledged();
            half.stamp = noted.map_or(half.stamp, |_| now);
        } else {
            peer.note_acknowledged(delivery.acknowledged, now);
            half.stamp = noted.map_or(now, |(before, _)| {
                let bytes = delivery.acknowledged.saturating_sub(before);
                self.core.shared.config.moved_on(half.stamp, bytes, now)
            });
        }
        self.deadline(slot).is_none_or(|deadline| deadline > now)
    }

    /// Returns when a connection has to be checked, by its phase.
    fn deadline(&self, slot: usize) -> Option<u64> {
        let (half, peer) = (self.halves.get(slot)?, self.core.peers.get(slot)?);
        let config = &self.core.shared.config;
        let after = |since: u64, wait: Duration| since.saturating_add(millis(wait));
        match peer.phase() {
            Phase::Opening => match half.http() {
                // A peer that reads the last answer postpones the deadline.
                Some(http) if http.last => Some(after(half.stamp, config.close_timeout)),
                Some(_) if half.is_idle_http() => {
                    Some(after(half.stamp, config.keep_alive_timeout))
                }
                _ => Some(after(half.stamp, config.handshake_timeout)),
            },
            Phase::Open => {
                let silence = Some(config.silence_max).filter(|silence| !silence.is_zero());
                let first = [silence, config.idle_after()].into_iter().flatten().min();
                let heard = first.map(|first| after(half.stamp, first));
                let message = self.message_end(slot);
                let held_off = self.hold_end(slot);
                [heard, message, held_off].into_iter().flatten().min()
            }
            Phase::Closing if self.is_owed(slot) => None,
            Phase::Closing | Phase::Lingering => Some(after(half.stamp, config.close_timeout)),
            Phase::Gone => None,
        }
    }

    /// Schedules the checks of all connections again, after a deadline was brought forward.
    pub(crate) fn rearm(&mut self) {
        for slot in 0..self.halves.capacity() {
            self.arm(slot);
        }
    }

    /// Schedules a check of the connection at the deadline of its phase.
    pub(super) fn arm(&mut self, slot: usize) {
        let deadline = self.deadline(slot);
        self.schedule(slot, deadline);
    }

    /// Schedules a check of the connection by `deadline`.
    pub(super) fn schedule(&mut self, slot: usize, deadline: Option<u64>) {
        let (Some(half), Some(deadline)) = (self.halves.get_mut(slot), deadline) else {
            return;
        };
        // A deadline of `u64::MAX` never comes.
        if deadline < u64::MAX && (half.due == 0 || deadline < half.due) {
            // A deadline that is further ahead is scheduled again when this entry expires.
            half.due = deadline.clamp(1, self.now + MAX_AHEAD);
            self.wheel.insert(half.due, slot);
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How soon a connection that was held off is checked again, in milliseconds.
const SOON: u64 = 1000;
