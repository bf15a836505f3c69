//! The deadlines of connections: the handshake, silence, the close.

use std::time::Duration;

use super::Reactor;
use super::http::answered;
use super::wheel::{Entry, MAX_AHEAD};
use crate::connection::event::Cause;
use crate::connection::{Peer, Phase};
use crate::error::{HandshakeError, ProtocolError};
use crate::protocol::{CloseCode, OpCode};
use crate::transport::Delivery;

impl Reactor {
    /// Looks at the connections whose deadline has come up, and calls the timers that are due.
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
        if self.core.timers.next() <= self.now {
            self.fire_timers();
        }
    }

    fn check_deadline(&mut self, slot: usize) {
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        let due = std::mem::take(&mut half.due);
        let peer = self.core.peers.get_mut(slot);
        let released = peer.is_some_and(|peer| peer.go_on(self.core.now));
        if half.phase == Phase::Open
            && let Some(peer) = self.core.peers.get(slot)
        {
            // Who is not listened to cannot be heard of.
            if peer.is_paused() || peer.is_held_off() || released {
                half.hear(self.now);
            }
        }
        if released {
            self.settle(slot);
        }
        let mut deadline = self.deadline(slot);
        if released {
            // It may be held off again soon: the wheel is not to fill with entries that are far ahead.
            let soon = self.now.saturating_add(SOON);
            deadline = deadline.map(|deadline| deadline.min(soon));
        }
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        if deadline.is_none_or(|deadline| deadline > self.now) {
            return self.schedule(slot, deadline);
        }
        if half.phase >= Phase::Closing && self.still_takes(slot) {
            return self.arm(slot);
        }
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        let (phase, heard, now) = (half.phase, half.stamp, self.now);
        let (asked, idle_http) = (half.has_begun(), half.is_idle_http());
        let overdue = self.message_end(slot).is_some_and(|end| end <= now);
        let peer = self.core.peers.get(slot);
        let deferred = peer.is_some_and(Peer::is_deferred);
        let unannounced = peer.is_some_and(|peer| peer.unannounced);
        let Some(mut dispatch) = self.dispatch(slot) else {
            return;
        };
        match phase {
            // RFC 9110, 15.5.9: 408 for a request that was begun; else there is none to answer.
            Phase::Opening if unannounced => {
                dispatch.cut(Cause::Handshake(HandshakeError::TimedOut))
            }
            Phase::Opening if deferred => dispatch.refuse(HandshakeError::Undecided, None),
            Phase::Opening if idle_http => dispatch.leave(Some(answered())),
            Phase::Opening if asked => dispatch.refuse(HandshakeError::TimedOut, None),
            Phase::Opening => dispatch.cut(Cause::Handshake(HandshakeError::TimedOut)),
            Phase::Open if overdue => {
                dispatch.core.stats.timed_out_messages += 1;
                dispatch.fail(ProtocolError::TimedOut);
            }
            Phase::Open => {
                let (silence, idle) = (
                    dispatch.core.config.silence_max,
                    dispatch.core.config.idle_after(),
                );
                let end = idle.map_or(u64::MAX, |idle| heard.saturating_add(millis(idle)));
                // If this comes up so late that the ping was due, the loop stalled: that is not the
                // peer's silence, which is asked first.
                let was_asked = silence.is_zero() || due >= end;
                if now >= end && was_asked {
                    if self.takes_steadily(slot, heard) {
                        if let Some(half) = self.halves.get_mut(slot) {
                            half.hear(now);
                        }
                        self.arm(slot);
                    } else {
                        self.core.close(slot, CloseCode::GOING_AWAY, Cause::Silent);
                    }
                } else if !silence.is_zero() {
                    // A peer whose backlog is full is not pinged, but given up in time.
                    let _ = dispatch.core.send(slot, OpCode::Ping, b"");
                    let again = self.core.config.ping_again();
                    // At the second ping at the latest: most peers answer the first.
                    if now.saturating_sub(heard) >= millis(silence + again / 2) {
                        self.begin_to_measure(slot, heard);
                    }
                    let next = now.saturating_add(millis(again));
                    let next = if end > now { next.min(end) } else { next };
                    let message = self.message_end(slot).unwrap_or(u64::MAX);
                    self.schedule(slot, Some(next.min(message)));
                }
            }
            Phase::Closing | Phase::Lingering => {
                dispatch.core.note_cut(slot);
                dispatch.cut(Cause::Cut);
            }
            Phase::Gone => {}
        }
        self.settle(slot);
    }

    /// Returns what became of the bytes that the kernel has taken for a connection.
    fn delivery(&mut self, slot: usize) -> Option<Delivery> {
        let peer = self.core.peers.get(slot)?;
        self.deliveries.of(peer.transport.socket())
    }

    /// Notes how much of what was sent a peer has acknowledged that was heard of last at `heard`,
    /// unless that was noted since.
    fn begin_to_measure(&mut self, slot: usize, heard: u64) {
        let noted = |peer: &Peer| peer.acknowledged().is_some_and(|(_, at)| at >= heard);
        if !self.core.peers.get(slot).is_some_and(noted)
            && let Some(delivery) = self.delivery(slot)
            && let Some(peer) = self.core.peers.get_mut(slot)
        {
            peer.note_acknowledged(delivery.acknowledged, self.now);
        }
    }

    /// Returns whether a peer that is silent since `heard` takes what it is sent, as fast as
    /// `min_rate`: its answer to a ping is behind that. The kernel may hold megabytes of it. If it
    /// was not measured before and the kernel holds something, the peer has its time once more.
    fn takes_steadily(&mut self, slot: usize, heard: u64) -> bool {
        let now = self.now;
        let Some(delivery) = self.delivery(slot) else {
            return false;
        };
        let rate = self.core.config.min_rate;
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

    /// Returns whether a peer that is being closed has more time, because it takes what the kernel
    /// holds for it: the Close frame is behind that.
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
            // It has all. If that is new, its answer has its time from now on.
            peer.forget_acknowledged();
            half.stamp = noted.map_or(half.stamp, |_| now);
        } else {
            peer.note_acknowledged(delivery.acknowledged, now);
            half.stamp = noted.map_or(now, |(before, _)| {
                let bytes = delivery.acknowledged.saturating_sub(before);
                self.core.config.moved_on(half.stamp, bytes, now)
            });
        }
        self.deadline(slot).is_none_or(|deadline| deadline > now)
    }

    /// Returns when a connection has to be looked at, by its phase.
    fn deadline(&self, slot: usize) -> Option<u64> {
        let half = self.halves.get(slot)?;
        let config = &self.core.config;
        let after = |since: u64, wait: Duration| since.saturating_add(millis(wait));
        match half.phase {
            Phase::Opening => match half.http() {
                // What is queued for a peer that reads is sent first, as long as that goes on.
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

    /// Sees to it that no connection is looked at too late after a deadline was brought forward.
    pub(crate) fn rearm(&mut self) {
        for slot in 0..self.halves.capacity() {
            self.arm(slot);
        }
    }

    /// Sees to it that the connection is looked at when its phase's deadline comes.
    pub(super) fn arm(&mut self, slot: usize) {
        let deadline = self.deadline(slot);
        self.schedule(slot, deadline);
    }

    /// Sees to it that the connection is looked at by `deadline`.
    pub(super) fn schedule(&mut self, slot: usize, deadline: Option<u64>) {
        let (Some(half), Some(deadline)) = (self.halves.get_mut(slot), deadline) else {
            return;
        };
        // A deadline at the end of time is none.
        if deadline < u64::MAX && (half.due == 0 || deadline < half.due) {
            // One that is further ahead is put off again when it comes up.
            half.due = deadline.clamp(1, self.now + MAX_AHEAD);
            self.wheel.insert(half.due, slot);
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How soon a connection that was held off is looked at again, in milliseconds.
const SOON: u64 = 1000;
