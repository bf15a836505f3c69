//! Requests: the one that upgrades a connection, and plain ones before it.

use super::Reactor;
use super::input_half::{Http, InputHalf, Share};
use crate::connection::event::{Cause, Request};
use crate::connection::{Ending, Phase};
use crate::error::HandshakeError;
use crate::handshake::Refusal;
use crate::http::{CONTINUE, Item, Reader, Then};
use crate::protocol::CloseCode;

impl Reactor {
    /// Takes the next request from `input`, or a part of it.
    pub(super) fn read_request(&mut self, slot: usize, input: &mut &mut [u8], share: &mut Share) {
        let Some(mut http) = self.take_http(slot) else {
            return;
        };
        if http.last {
            // Nothing behind the last request is looked at.
            *input = &mut [];
            return self.keep_http(slot, http);
        }
        let before = http.reader.body_len();
        let read = http.reader.read(input);
        if let (Some(before), Some(after)) = (before, http.reader.body_len())
            && let Some(half) = self.halves.get_mut(slot)
        {
            let came = after.saturating_sub(before) as u64;
            half.stamp = self.core.config.moved_on(half.stamp, came, self.now);
        }
        let used = read.as_ref().map_or(input.len(), |(_, used)| *used);
        *input = std::mem::take(input).get_mut(used..).unwrap_or_default();
        match read {
            Ok((None, _)) => self.keep_http(slot, http),
            Ok((Some(Item::Continue), _)) => {
                self.keep_http(slot, http);
                self.core.append(slot, CONTINUE);
            }
            Ok((Some(Item::Request(request)), _)) => {
                share.messages = share.messages.saturating_sub(1);
                http.answered += 1;
                let config = &self.core.config;
                let more = request.keeps_alive()
                    && http.answered < config.max_requests
                    && self.core.leaving.is_none()
                    && !config.keep_alive_timeout.is_zero();
                let then = if more { Then::KeepAlive } else { Then::Close };
                let Some(dispatch) = self.dispatch(slot) else {
                    return;
                };
                let is_health_check = dispatch.is_health_check(&request);
                // Health checks count against no address.
                let identified = match is_health_check {
                    true => Ok(()),
                    false => self.core.identify(slot, &request),
                };
                let Some(mut dispatch) = self.dispatch(slot) else {
                    return;
                };
                if let Err(error) = identified {
                    let refusal = Refusal::from(error).answering(request.method());
                    dispatch.send_refusal(error, Some(refusal));
                    return self.settle(slot);
                }
                if !is_health_check && !dispatch.has::<Request>() {
                    // There are no plain requests but that one: it should have been an upgrade.
                    let error = request.accept_key().err();
                    dispatch.refuse_bad(request, error.unwrap_or(HandshakeError::NotUpgrade));
                    return self.settle(slot);
                }
                // A balancer may know the server by its address alone.
                if !is_health_check && !dispatch.serves(&request) {
                    let error = HandshakeError::HostNotServed;
                    let refusal = Refusal::from(error).answering(request.method());
                    dispatch.tell_refused_of(error, &request);
                    dispatch.send_refusal(error, Some(refusal));
                    return self.settle(slot);
                }
                dispatch.tell_stripped(&request);
                http.last = dispatch.answer(&request, then) == Then::Close;
                self.core.opened(slot);
                if !http.last {
                    self.core.forget_client(slot);
                }
                if let Some(half) = self.halves.get_mut(slot) {
                    half.stamp = self.now;
                }
                self.keep_http(slot, http);
                self.arm(slot);
            }
            Ok((Some(Item::Upgrade(request)), _)) => {
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.open(request);
                }
            }
            Err(error) => {
                let refusal = match http.reader.is_head() {
                    true => Refusal::from(error).answering(&http::Method::HEAD),
                    false => error.into(),
                };
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.tell_unreadable(error, http.reader.refused());
                    dispatch.send_refusal(error, Some(refusal));
                }
            }
        }
        // A handler's refusal goes out before anything behind the request is looked at.
        if self
            .dispatch(slot)
            .is_some_and(|dispatch| dispatch.is_ending())
        {
            self.settle(slot);
        }
    }

    /// Takes the requests of a connection, as they stand.
    fn take_http(&mut self, slot: usize) -> Option<Http> {
        if let Some(http) = self.halves.get_mut(slot)?.take_http() {
            return Some(http);
        }
        let limits = self.core.config.limits;
        let is_plain = self.core.config.health_check.is_some();
        Some(Http::new(
            match is_plain || self.dispatch(slot)?.has::<Request>() {
                true => Reader::new(&limits),
                false => Reader::upgrades_only(&limits),
            },
        ))
    }

    /// Puts the requests of a connection back, unless it has ended.
    fn keep_http(&mut self, slot: usize, http: Http) {
        let opening = |slot| {
            let peer = self.core.peers.get(slot)?;
            Some(peer.phase == Phase::Opening)
        };
        if opening(slot) == Some(true)
            && let Some(half) = self.halves.get_mut(slot)
        {
            half.keep_http(http);
        }
    }

    /// Takes note that the peer sends no more requests; returns whether the connection lives on to
    /// send the answers to those that came.
    pub(super) fn ends_http(&mut self, slot: usize) -> bool {
        let Some(peer) = self.core.peers.get(slot) else {
            return false;
        };
        let queued = peer.backlog() > 0 || !self.core.out.is_empty();
        let Some(http) = self.halves.get_mut(slot).and_then(InputHalf::http_mut) else {
            return false;
        };
        let idle = http.answered > 0 && http.reader.is_empty();
        http.last |= idle && queued;
        http.last
    }

    /// Ends a connection whose last plain request was answered, once the answer has been sent.
    pub(super) fn end_http(&mut self, slot: usize) {
        let (Some(half), Some(peer)) = (self.halves.get(slot), self.core.peers.get(slot)) else {
            return;
        };
        if half.http().is_some_and(|http| http.last)
            && peer.phase == Phase::Opening
            && peer.backlog() == 0
            && let Some(mut dispatch) = self.dispatch(slot)
        {
            dispatch.leave(Some(answered()));
        }
    }
}

/// The end of a connection that had plain requests only.
pub(super) fn answered() -> Ending {
    Ending::new(CloseCode::ABNORMAL, "", Cause::Answered)
}
