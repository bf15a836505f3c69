//! Plain requests, bad opening handshakes, and those that were answered later or elsewhere.

use std::rc::Rc;

use http::Method;

use super::dispatch::Dispatch;
use crate::connection::event::{Cause, Connect, Handshake, Request, Verdict};
use crate::connection::{Decision, Phase, Upgraded};
use crate::error::{HandlerError, HandshakeError};
use crate::handshake::{self, Refusal, Upgrade};
use crate::http::{Response, Then};
use crate::protocol::CloseCode;

impl Dispatch<'_> {
    /// Answers a plain request. `then` is what may become of the connection, the answer what does.
    pub(super) fn answer(&mut self, request: &handshake::Request, then: Then) -> Then {
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
        let now = (self.core.wall_clock)();
        let mut bytes = Vec::with_capacity(256);
        response.encode(request, then, now, &mut bytes);
        self.core.append(self.slot, &bytes);
        self.core.stats.requests += 1;
        then
    }

    /// Returns whether a plain request is the health check of a balancer.
    pub(super) fn is_health_check(&self, request: &handshake::Request) -> bool {
        let path = self.core.config.health_check.as_deref();
        // HAProxy asks by OPTIONS unless it is told otherwise.
        let methods = [Method::GET, Method::HEAD, Method::OPTIONS];
        path == Some(request.path()) && methods.contains(request.method())
    }

    /// Answers a health check: whether new clients are to be sent here.
    fn health(&self) -> Response {
        match self.core.is_going_down() {
            true => Response::new(503).header("Retry-After", "5").close(),
            false => Response::new(200).body("ok\n"),
        }
        .header("Cache-Control", "no-store")
    }

    /// Answers a plain request whose handler failed, or refused it by `http_error` or `disconnect`.
    fn end_request(&mut self, request: &handshake::Request) {
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        if peer.is_cut() {
            return;
        }
        if let Some(refusal) = peer.take_refusal() {
            let error = HandshakeError::Refused(refusal.status());
            self.refuse(error, Some(refusal.answering(request.method())));
        }
    }

    /// Begins a connection whose opening handshake was done by someone else.
    pub(super) fn open_adopted(&mut self, upgraded: Upgraded) {
        let Upgraded {
            request,
            subprotocol,
        } = upgraded;
        if self.core.identify(self.slot, &request).is_err() {
            // No event has told of it, and none is to tell of its end.
            if let Some(peer) = self.core.peers.get_mut(self.slot) {
                peer.unannounced = true;
            }
            self.core.set_phase(self.slot, Phase::Open);
            let code = CloseCode::TRY_AGAIN_LATER;
            return self.core.close(self.slot, code, Cause::Local);
        }
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        peer.remember(Rc::new(request));
        if let Some(name) = subprotocol {
            peer.set_subprotocol(&name);
        }
        // Before `Connect`, so that whatever ends it there ends it as a WebSocket.
        self.core.set_phase(self.slot, Phase::Open);
        if self.emit::<Connect>(()) == Some(Verdict::Refuse) {
            self.core
                .close(self.slot, CloseCode::POLICY_VIOLATION, Cause::Local);
        }
        if !self.is_ending() {
            self.ready();
        }
    }

    /// Carries out what was decided on an opening handshake after its handler had returned.
    pub(super) fn decide_late(&mut self, upgrade: Upgrade, decision: Decision) {
        match decision {
            Ok(verdict) => self.decide(upgrade, Some(verdict)),
            Err(error) => self.handler_failed(error),
        }
    }

    /// Refuses what should be an opening handshake and is none. The handler may look at it, but
    /// the answer stands.
    pub(super) fn refuse_bad(&mut self, request: handshake::Request, error: HandshakeError) {
        self.tell_refused_of(error, &request);
        let refusal = Refusal::from(error).answering(request.method());
        if self.core.config.bad_handshakes {
            let mut upgrade = Upgrade::of_bad(request, error);
            self.emit::<Handshake>(&mut upgrade);
            let Some(peer) = self.core.peers.get_mut(self.slot) else {
                return;
            };
            if peer.is_cut() {
                return;
            }
            peer.take_refusal();
        }
        self.send_refusal(error, Some(refusal));
    }
}
