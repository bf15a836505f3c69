//! The opening handshake: the checks, the handlers, the 101 or the refusal.

use std::rc::Rc;

use super::dispatch::Dispatch;
use crate::close_code::CloseCode;
#[cfg(feature = "deflate")]
use crate::connection::Deflate;
use crate::connection::event::{Cause, Connect, Handshake, Origin, Ready, Verdict};
use crate::connection::{Ending, Leaving, Phase, Upgraded};
use crate::error::{Fault, HandshakeError};
use crate::handshake::{Refusal, Request, Upgrade};

impl Dispatch<'_> {
    /// Answers an upgrade request: the checks, `Origin` and `Handshake`, the 101 and `Ready`.
    pub(super) fn open(&mut self, request: Request) {
        if let Err(error) = self.conn().identify(&request) {
            return self.send_refusal(error, None);
        }
        let accept = match request.accept_key() {
            Ok(accept) => accept,
            Err(error) => return self.refuse_bad(request, error),
        };
        let request = Rc::new(request);
        let mut upgrade = Upgrade::new(request.clone(), accept);
        self.conn().peer.remember(request.clone());
        if !self.serves(&request) {
            return self.refuse(HandshakeError::HostNotServed, None);
        }
        if !self.allows_origin(&request) {
            // The server itself refuses, as for a host that is not served: `Error` is called.
            self.fault(&Fault::Handshake(HandshakeError::OriginRefused));
            return self.refuse(HandshakeError::OriginRefused, None);
        }
        let verdict = self.emit::<Origin>(request.origin());
        // An HTTP answer that the handler gave takes precedence over its verdict.
        if self.is_ending() {
            return;
        }
        if verdict == Some(Verdict::Refuse) {
            return self.refuse(HandshakeError::OriginRefused, None);
        }
        let shared = &self.core.shared;
        upgrade.choose_subprotocol(&shared.config.subprotocols);
        #[cfg(feature = "deflate")]
        upgrade.set_deflate(shared.compressors.negotiate(&request));
        let verdict = self.emit::<Handshake>(&mut upgrade);
        if upgrade.subprotocol().is_none() && self.core.shared.config.subprotocols.is_empty() {
            self.hint_subprotocols(&request);
        }
        self.warn_unchecked_origin(&request);
        drop(request);
        self.decide(upgrade, verdict);
    }

    /// Returns whether the request names a host that this server serves.
    pub(super) fn serves(&self, request: &Request) -> bool {
        let hosts = self.core.shared.config.hosts.as_ref();
        hosts.is_none_or(|hosts| hosts.serve(self.peer().asked_host(request)))
    }

    /// Returns whether the list of origins allows the request's origin.
    fn allows_origin(&self, request: &Request) -> bool {
        let peer = self.peer();
        let origins = self.core.shared.config.origins.as_ref();
        origins.is_none_or(|origins| {
            let host = peer.asked_host(request);
            origins.allow(request.origin(), host, peer.is_client_secure())
        })
    }

    /// Opens a connection whose opening handshake was completed by another server.
    pub(super) fn open_adopted(&mut self, upgraded: Upgraded) {
        let Upgraded {
            request,
            subprotocol,
        } = upgraded;
        let mut conn = self.conn();
        if conn.identify(&request).is_err() {
            // No event announced the connection, so none reports its end.
            conn.peer.set_unannounced(true);
            conn.enter(Phase::Open, None);
            return conn.close(CloseCode::TRY_AGAIN_LATER, Cause::Local);
        }
        conn.peer.remember(Rc::new(request));
        if let Some(name) = subprotocol {
            conn.peer.set_subprotocol(&name);
        }
        // Before `Connect`, so that an end during its handler is that of an open WebSocket.
        conn.enter(Phase::Open, None);
        if self.emit::<Connect>(()) == Some(Verdict::Refuse) {
            let code = CloseCode::POLICY_VIOLATION;
            self.conn().close(code, Cause::Local);
        }
        if !self.is_ending() {
            self.ready();
        }
    }

    /// Sends the refusal or the postponed answer that an opening handshake was given, if there is
    /// one. A peer that is not owed an answer gets none.
    pub(super) fn answer_opening(&mut self, owes_answer: bool) {
        let peer = self.conn().peer;
        if peer.phase() != Phase::Opening || peer.is_cut() {
            return;
        }
        if let Some(refusal) = peer.take_refusal() {
            // Nothing can be sent before the TLS handshake is done.
            if peer.transport.is_handshaking() {
                peer.cut();
            }
            let error = HandshakeError::Refused(refusal.status());
            match owes_answer {
                true => self.refuse(error, Some(refusal)),
                false => self.leave(Some(Ending::abnormal(Cause::Answered))),
            }
        } else if let Some((upgrade, decision)) = peer.take_decided() {
            match decision {
                Ok(verdict) => self.decide(upgrade, Some(verdict)),
                Err(error) => self.handler_failed(error),
            }
        }
    }

    /// Carries out the verdict on an opening handshake; `None`, for lack of a handler, accepts.
    fn decide(&mut self, mut upgrade: Upgrade, verdict: Option<Verdict>) {
        if self.is_ending() {
            return;
        }
        if let Some(refusal) = upgrade.take_refusal() {
            let error = HandshakeError::Refused(refusal.status());
            return self.refuse(error, Some(refusal));
        }
        if verdict == Some(Verdict::Refuse) {
            return self.refuse(HandshakeError::Refused(http::StatusCode::FORBIDDEN), None);
        }
        let mut conn = self.conn();
        if upgrade.is_deferred() {
            return conn.peer.defer(upgrade);
        }
        let mut answer = Vec::with_capacity(256);
        upgrade.encode((conn.shared.wall_clock)(), &mut answer);
        conn.append(&answer);
        conn.enter(Phase::Open, None);
        if let Some(name) = upgrade.subprotocol() {
            conn.peer.set_subprotocol(name);
        }
        #[cfg(feature = "deflate")]
        if let Some(agreed) = upgrade.deflate() {
            let threshold = conn.shared.compressors.threshold();
            conn.peer.set_deflate(Deflate::new(*agreed), threshold);
        }
        drop(upgrade);
        if conn.shared.config.separate_switch {
            conn.release_replies();
            conn.flush_early();
        }
        self.ready();
    }

    /// Delivers `Ready`, and frees the state of the opening handshake.
    fn ready(&mut self) {
        self.emit::<Ready>(());
        let mut conn = self.conn();
        conn.peer.tidy(conn.shared.config.keep_requests);
        if let Some(Leaving { code, called }) = conn.shared.leaving
            && conn.peer.serial <= called
        {
            // The shutdown reached this connection during its opening handshake.
            conn.close(code, Cause::Shutdown);
        }
    }

    /// Refuses a request that is not a valid opening handshake. The `Handshake` handler may see it
    /// but cannot change the answer.
    pub(super) fn refuse_bad(&mut self, request: Request, error: HandshakeError) {
        self.log_refused_of(error, &request);
        let refusal = Refusal::from(error).answering(request.method());
        if self.core.shared.config.bad_handshakes {
            let mut upgrade = Upgrade::of_bad(request, error);
            self.emit::<Handshake>(&mut upgrade);
            let peer = self.conn().peer;
            if peer.is_cut() {
                return;
            }
            peer.take_refusal();
        }
        self.send_refusal(error, Some(refusal));
    }

    /// Refuses the opening handshake with `refusal`, or else with the response for `error`.
    pub(super) fn refuse(&mut self, error: HandshakeError, refusal: Option<Refusal>) {
        self.log_refused(error);
        self.send_refusal(error, refusal);
    }

    /// Sends the refusal of an opening handshake that was counted and logged already.
    pub(super) fn send_refusal(&mut self, error: HandshakeError, refusal: Option<Refusal>) {
        // A refusal by the application is not an error; `open` reports one by the list of origins.
        if !matches!(
            error,
            HandshakeError::Refused(_) | HandshakeError::OriginRefused
        ) {
            self.fault(&Fault::Handshake(error));
        }
        let mut answer = Vec::new();
        let mut conn = self.conn();
        let refusal = refusal.unwrap_or_else(|| error.into());
        refusal.encode((conn.shared.wall_clock)(), &mut answer);
        conn.append(&answer);
        self.leave(Some(Ending::abnormal(Cause::Handshake(error))));
    }
}
