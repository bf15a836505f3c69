//! HTTP requests: the one that upgrades a connection, and plain ones before it.

use http::Method;

use super::Reactor;
use super::dispatch::Dispatch;
use super::input_half::{Http, Share};
use crate::connection::event::{Cause, Request};
use crate::connection::{Ending, Phase};
use crate::error::{HandlerError, HandshakeError};
use crate::handshake::{self, Refusal};
use crate::plain_http::{CONTINUE, Item, Reader, Response, Then};

impl Reactor {
    /// Takes the next request, or a part of it, from `input`.
    pub(super) fn read_request(&mut self, slot: usize, input: &mut &mut [u8], share: &mut Share) {
        let Some(mut http) = self.take_http(slot) else {
            return;
        };
        if http.last {
            // Data behind the last request is ignored.
            *input = &mut [];
            return self.keep_http(slot, http);
        }
        let before = http.reader.body_len();
        let read = http.reader.read(input);
        if let (Some(before), Some(after)) = (before, http.reader.body_len())
            && let Some(half) = self.halves.get_mut(slot)
        {
            let came = after.saturating_sub(before) as u64;
            half.stamp = self.core.shared.config.moved_on(half.stamp, came, self.now);
        }
        let used = read.as_ref().map_or(input.len(), |(_, used)| *used);
        *input = std::mem::take(input).get_mut(used..).unwrap_or_default();
        match read {
            Ok((None, _)) => self.keep_http(slot, http),
            Ok((Some(Item::Continue), _)) => {
                self.keep_http(slot, http);
                if let Some(mut conn) = self.core.peer(slot) {
                    conn.append(CONTINUE);
                }
            }
            Ok((Some(Item::Request(request)), _)) => {
                share.messages = share.messages.saturating_sub(1);
                http.answered += 1;
                let config = &self.core.shared.config;
                let more = request.keeps_alive()
                    && http.answered < config.max_requests
                    && self.core.shared.leaving.is_none()
                    && !config.keep_alive_timeout.is_zero();
                let then = if more { Then::KeepAlive } else { Then::Close };
                let Some(mut dispatch) = self.dispatch(slot) else {
                    return;
                };
                let is_health_check = dispatch.is_health_check(&request);
                // A health check counts against the limits of no address.
                let identified = match is_health_check {
                    true => Ok(()),
                    false => dispatch.conn().identify(&request),
                };
                if let Err(error) = identified {
                    let refusal = Refusal::from(error).answering(request.method());
                    dispatch.send_refusal(error, Some(refusal));
                    return self.settle(slot);
                }
                if !is_health_check && !dispatch.has::<Request>() {
                    // Without a `Request` handler only health checks are plain: this request should
                    // be an upgrade.
                    let error = request.accept_key().err();
                    dispatch.refuse_bad(request, error.unwrap_or(HandshakeError::NotUpgrade));
                    return self.settle(slot);
                }
                // A load balancer may know the server by its IP address alone.
                if !is_health_check && !dispatch.serves(&request) {
                    let error = HandshakeError::HostNotServed;
                    let refusal = Refusal::from(error).answering(request.method());
                    dispatch.log_refused_of(error, &request);
                    dispatch.send_refusal(error, Some(refusal));
                    return self.settle(slot);
                }
                dispatch.log_stripped(&request);
                http.last = dispatch.answer(&request, then) == Then::Close;
                let mut conn = dispatch.conn();
                conn.end_half_open();
                if !http.last {
                    conn.forget_client();
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
                    true => Refusal::from(error).answering(&Method::HEAD),
                    false => error.into(),
                };
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.log_unreadable(error, http.reader.refused());
                    dispatch.send_refusal(error, Some(refusal));
                }
            }
        }
        // A handler's refusal is sent before anything behind the request is processed.
        if self
            .dispatch(slot)
            .is_some_and(|dispatch| dispatch.is_ending())
        {
            self.settle(slot);
        }
    }

    /// Takes the connection's HTTP requests, created on first use.
    fn take_http(&mut self, slot: usize) -> Option<Http> {
        if let Some(http) = self.halves.get_mut(slot)?.take_http() {
            return Some(http);
        }
        let limits = self.core.shared.config.limits;
        let is_plain = self.core.shared.config.health_check.is_some();
        Some(Http::new(
            match is_plain || self.dispatch(slot)?.has::<Request>() {
                true => Reader::new(&limits),
                false => Reader::upgrades_only(&limits),
            },
        ))
    }

    /// Puts the connection's HTTP requests back, if it is still in the opening phase.
    fn keep_http(&mut self, slot: usize, http: Http) {
        if let Some((half, conn)) = self.both(slot)
            && conn.peer.phase() == Phase::Opening
        {
            half.keep_http(http);
        }
    }

    /// Records that the peer sends no more requests; returns whether the connection stays open to
    /// send the answers.
    pub(super) fn ends_http(&mut self, slot: usize) -> bool {
        let Some((half, conn)) = self.both(slot) else {
            return false;
        };
        let queued = conn.peer.backlog() > 0 || !conn.shared.out.is_empty();
        let Some(http) = half.http_mut() else {
            return false;
        };
        let idle = http.answered > 0 && http.reader.is_empty();
        http.last |= idle && queued;
        http.last
    }

    /// Ends a connection whose last plain request was answered, once the answer has been sent.
    pub(super) fn end_http(&mut self, slot: usize) {
        let Some((half, conn)) = self.both(slot) else {
            return;
        };
        if half.is_last_answer()
            && conn.peer.phase() == Phase::Opening
            && conn.peer.backlog() == 0
            && let Some(mut dispatch) = self.dispatch(slot)
        {
            dispatch.leave(Some(Ending::abnormal(Cause::Answered)));
        }
    }
}

impl Dispatch<'_> {
    /// Answers a plain request, and returns what follows: `then`, or `Close` if the answer asks for
    /// it.
    fn answer(&mut self, request: &handshake::Request, then: Then) -> Then {
        let answer = match self.is_health_check(request) {
            true => Some(self.health()),
            false => self.emit::<Request>(request).flatten(),
        };
        let response = answer.unwrap_or_else(|| Response::new(404));
        if let Err(error) = response.check()
            && !self.is_ending()
        {
            self.handler_failed(HandlerError::new(&error));
        }
        if self.is_ending() {
            self.end_request(request);
            return Then::Close;
        }
        let then = match response.closes() {
            true => Then::Close,
            false => then,
        };
        let mut conn = self.conn();
        let now = (conn.shared.wall_clock)();
        let mut bytes = Vec::with_capacity(256);
        response.encode(request, then, now, &mut bytes);
        conn.append(&bytes);
        conn.shared.stats.requests += 1;
        then
    }

    /// Returns whether a plain request is a load balancer's health check.
    fn is_health_check(&self, request: &handshake::Request) -> bool {
        let path = self.core.shared.config.health_check.as_deref();
        // HAProxy sends OPTIONS by default.
        let methods = [Method::GET, Method::HEAD, Method::OPTIONS];
        path == Some(request.path()) && methods.contains(request.method())
    }

    /// Answers a health check: with 200, or with 503 once a shutdown is announced or has begun.
    fn health(&self) -> Response {
        match self.core.shared.is_shutting_down() {
            true => Response::new(503).header("Retry-After", "5").close(),
            false => Response::new(200).body("ok\n"),
        }
        .header("Cache-Control", "no-store")
    }

    /// Answers a plain request whose handler failed, or refused it by `http_error` or `disconnect`.
    fn end_request(&mut self, request: &handshake::Request) {
        let peer = self.conn().peer;
        if peer.is_cut() {
            return;
        }
        if let Some(refusal) = peer.take_refusal() {
            let error = HandshakeError::Refused(refusal.status());
            self.refuse(error, Some(refusal.answering(request.method())));
        }
    }
}
