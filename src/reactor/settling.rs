//! The end of serving a connection, and of a turn: sending, refusing, closing, removing.

use super::Reactor;
use super::emit_hub;
use super::input_half::{Flags, InputHalf};
use crate::connection::event::{Cause, Gap, Lost, Occupied, Recovered, Vacated};
use crate::connection::{Outcome, Peer, Phase, Turn};
use crate::topics::Change;

impl Reactor {
    /// Carries out what handlers requested for a connection: sends, refuses, closes or ends. Then
    /// charges its memory to the budget.
    pub(crate) fn settle(&mut self, slot: usize) {
        if !self.send_only(slot) {
            self.settle_all(slot);
        }
        if self.core.shared.budget.is_on() {
            self.charge(slot);
        }
    }

    fn settle_all(&mut self, slot: usize) {
        let Some(half) = self.halves.get(slot) else {
            return;
        };
        let owes_answer = half.owes_answer();
        let is_enqueued = half.flags.has(Flags::ENQUEUED);
        let Some(mut dispatch) = self.dispatch(slot) else {
            return;
        };
        dispatch.tell_slow_consumer();
        dispatch.answer_opening(owes_answer);
        // Callbacks of a connection that is already in the ready queue wait for the next turn.
        let mut told_sent = is_enqueued;
        let mut told_drained = is_enqueued;
        loop {
            let mut conn = dispatch.conn();
            if conn.peer.phase() == Phase::Gone {
                conn.discard_replies();
                break;
            }
            if conn.peer.is_cut() {
                conn.note_cut();
                dispatch.cut(Cause::Cut);
                continue;
            }
            conn.release_replies();
            let drain_at = conn.shared.config.drain_at;
            let flushed = match conn.peer.flush(drain_at) {
                Ok(flushed) => flushed,
                Err(error) => {
                    dispatch.lost(error);
                    continue;
                }
            };
            let sent = conn.peer.ready_completions();
            let drained = conn.peer.is_drained(flushed, drain_at);
            // A handler that streams to a fast reader is called once per turn.
            if sent > 0 && !std::mem::replace(&mut told_sent, true) {
                dispatch.complete(sent);
            } else if drained && !std::mem::replace(&mut told_drained, true) {
                dispatch.tell_drained();
            } else {
                if sent > 0 || drained {
                    self.enqueue_ready(slot);
                }
                break;
            }
        }
        self.end_http(slot);
        self.finish(slot);
    }

    /// Sends the replies to a connection, or what a broadcast queued for it. Returns whether
    /// nothing else is left to do, as is nearly always the case.
    fn send_only(&mut self, slot: usize) -> bool {
        let is_plain = |half: &InputHalf| !half.flags.has(Flags::PAUSED);
        if !self.halves.get(slot).is_some_and(is_plain) {
            return false;
        }
        let Some(mut conn) = self.core.peer(slot) else {
            return false;
        };
        if conn.peer.has_entered() {
            return false;
        }
        if conn.peer.is_quiet() {
            conn.release_replies();
        } else if conn.peer.has_only_queued() && !conn.is_current() {
            if let Err(error) = conn.peer.flush(conn.shared.config.drain_at)
                && let Some(mut dispatch) = self.dispatch(slot)
            {
                dispatch.lost(error);
            }
        } else {
            return false;
        }
        self.core.peers.get(slot).is_some_and(Peer::is_quiet)
    }

    /// Advances a connection that is ending, resumes one that is no longer stalled, and sets the
    /// deadline of a new phase.
    fn finish(&mut self, slot: usize) {
        let drains = self.schedule.is_some();
        let now = self.now;
        let Some((half, mut conn)) = self.both(slot) else {
            return;
        };
        let phase = conn.peer.phase();
        let mut reads_on = false;
        if conn.peer.take_progress() {
            if conn.shared.budget.is_on() {
                conn.shared.budget.note_sent(slot, conn.shared.now);
            }
            half.hear(now, phase);
            if phase >= Phase::Closing {
                // The time for the answer begins when the peer has taken all data before the Close
                // frame. Until then, the data that it takes postpones the deadline.
                let sent = conn.peer.take_sent();
                half.stamp = match conn.peer.reads() {
                    true => now,
                    false => conn.shared.config.moved_on(half.stamp, sent, now),
                };
                reads_on = drains;
            }
        }
        if phase == Phase::Lingering && conn.peer.backlog() == 0 && !half.flags.has(Flags::FIN) {
            if half.is_done() && !conn.peer.transport.is_secure() {
                // RFC 6455, 7.1.1: the server closes first. No data is left on either side, so
                // closing cannot cause an RST, and one call closes both directions (decision 14).
                conn.enter(Phase::Gone, None);
            } else {
                // An error means that the peer is gone already, and nothing more is expected of it.
                let sent = conn.peer.transport.shutdown_write().unwrap_or(true);
                half.flags.set_if(Flags::FIN, sent);
            }
        }
        if phase == Phase::Lingering && half.flags.has(Flags::FIN) && half.flags.has(Flags::EOF) {
            conn.enter(Phase::Gone, None);
        }
        let phase = conn.peer.phase();
        let entered = conn.peer.take_entered();
        if entered {
            half.stamp = now;
            if phase >= Phase::Closing {
                conn.peer.take_sent();
                conn.peer.forget_acknowledged();
            }
        }
        let goes_on = half.flags.has(Flags::PAUSED) && !conn.is_stalled();
        if goes_on {
            half.flags.clear(Flags::PAUSED);
            half.decoder.unstall(now);
        }
        if entered && phase >= Phase::Lingering {
            // The state of incoming messages and of compression is not needed any more.
            half.forget_input();
            conn.peer.drop_deflate();
        }
        if goes_on {
            self.requeue(slot);
        }
        if entered && phase == Phase::Gone {
            self.gone.push(slot);
        } else if entered || reads_on {
            self.arm(slot);
        }
    }

    /// Puts a connection with unread input into the ready queue, or pauses it if it is stalled.
    pub(super) fn requeue(&mut self, slot: usize) {
        let now = self.now;
        let Some((half, conn)) = self.both(slot) else {
            return;
        };
        let has_more = half.flags.has(Flags::READABLE) || half.has_unread();
        if conn.peer.phase() == Phase::Gone || !has_more {
            return;
        }
        if conn.is_stalled() {
            half.flags.set(Flags::PAUSED);
            half.decoder.stall(now);
        } else {
            self.enqueue_ready(slot);
        }
    }

    /// Puts a connection into the ready queue, which the next turn serves.
    pub(super) fn enqueue_ready(&mut self, slot: usize) {
        if let Some(half) = self.halves.get_mut(slot)
            && !half.flags.set(Flags::ENQUEUED)
        {
            self.ready_queue.push(slot);
        }
    }

    /// Settles the dirty connections and removes those that have ended. Connections that are marked
    /// dirty again and again wait for the next turn.
    #[inline(always)]
    pub(crate) fn end_turn(&mut self) {
        let shared = &self.core.shared;
        if !shared.dirty.is_empty() || !self.gone.is_empty() || shared.topics.has_changes() {
            self.settle_dirty();
        } else if shared.outlets.is_on() {
            self.settle_backplane();
        }
        if self.core.shared.budget.is_on() {
            self.end_budget();
        }
    }

    /// Delivers `Occupied` and `Vacated` for the topics that changed. Changes that their handlers
    /// cause wait for the next pass.
    fn tell_topics(&mut self) {
        for _ in 0..self.core.shared.topics.changes() {
            let Some(change) = self.core.shared.topics.next_change() else {
                break;
            };
            let Change {
                topic,
                is_occupied,
                is_news,
                is_vacated,
            } = change;
            if is_vacated {
                self.core.shared.outlets.vacated(&topic);
            }
            let (core, handlers) = (&mut self.core, &mut self.handlers);
            match is_occupied {
                _ if !is_news => {}
                true => emit_hub::<Occupied>(core, handlers, &topic),
                false => emit_hub::<Vacated>(core, handlers, &topic),
            }
        }
    }

    /// Delivers `Gap` for topics that have lost messages, and `Recovered` for clients that came
    /// back.
    #[cold]
    fn tell_backplane(&mut self) {
        for _ in 0..self.core.shared.outlets.gaps().min(GAPS) {
            let Some((topic, count)) = self.core.shared.outlets.next_gap() else {
                break;
            };
            if self.core.shared.topics.members(&topic).is_empty() {
                continue;
            }
            let lost = Lost {
                topic: &topic,
                count,
            };
            emit_hub::<Gap>(&mut self.core, &mut self.handlers, lost);
        }
        for _ in 0..self.core.shared.recoveries.outcomes() {
            let Some(outcome) = self.core.shared.recoveries.next_outcome() else {
                break;
            };
            let Outcome {
                slot,
                serial,
                topic,
                recovery,
            } = outcome;
            let is_open = |peer: &Peer| {
                peer.serial == serial && peer.phase() == Phase::Open && !peer.is_cut()
            };
            if self.core.peers.get(slot).is_some_and(is_open)
                && let Some(mut dispatch) = self.dispatch(slot)
            {
                dispatch.emit::<Recovered>((&topic, recovery));
                dispatch.conn().mark_dirty();
            }
        }
    }

    /// Handles what backplanes have delivered.
    pub(crate) fn empty_inbox(&mut self) {
        self.core.empty_inbox();
    }

    /// Closes connections if `memory_budget` is exceeded, and records whether memory is short.
    #[cold]
    fn end_budget(&mut self) {
        self.core.shared.charge_topics();
        if self.core.shared.budget.is_exceeded() {
            self.shed();
            self.settle_dirty();
            self.core.shared.charge_topics();
        }
        let shared = &mut self.core.shared;
        match shared.budget.end_turn(shared.now) {
            Turn::Same => {}
            Turn::Short(look) => self.watch_memory(look),
            Turn::Relieved => {
                if let Some(timer) = self.relief.take() {
                    shared.timers.clear(timer);
                }
            }
        }
    }

    /// Tells handlers what backplanes have reported, and sends what was published in this turn.
    /// What is published later waits for the next turn, so that other loops are woken once.
    #[inline(never)]
    fn settle_backplane(&mut self) {
        let shared = &self.core.shared;
        if shared.outlets.gaps() > 0 || shared.recoveries.has_outcomes() {
            self.tell_backplane();
        }
        self.core.shared.outlets.flush();
    }

    fn settle_dirty(&mut self) {
        for pass in 0..PASSES {
            self.tell_topics();
            if pass == 0 && self.core.shared.outlets.is_on() {
                self.settle_backplane();
            }
            if self.core.shared.dirty.is_empty() {
                break;
            }
            let empty = std::mem::take(&mut self.settling);
            let mut settling = std::mem::replace(&mut self.core.shared.dirty, empty);
            for slot in settling.drain(..) {
                if let Some(peer) = self.core.peers.get_mut(slot) {
                    peer.clear_dirty();
                }
                self.settle(slot);
            }
            self.settling = settling;
        }
        while let Some(slot) = self.gone.pop() {
            self.dismiss(slot);
        }
    }
}

/// How many times the end of a turn settles dirty connections. Settling may mark others: without
/// this limit, two connections whose completion callbacks send to each other would never let the
/// turn end.
const PASSES: usize = 8;

/// How many topics with losses handlers are told of in a turn.
const GAPS: usize = 1024;
