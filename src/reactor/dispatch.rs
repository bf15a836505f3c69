//! Calling the handlers of one connection, and ending it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::connection::event::{
    Cause, ConnectionEvent, Disconnect, Disconnected, Error, Event, Fragment, Handlers, Handshake,
    Origin, PeerClose, Ready, Verdict,
};
use crate::connection::{
    Clean, Connection, Core, Ending, Leaving, Line, Matter, Peer, Phase, Topic,
};
use crate::error::{Fault, HandlerError, HandshakeError, ProtocolError};
use crate::handshake::{Refusal, Request, Upgrade};
use crate::protocol::{CloseCode, CloseFrame};
use crate::reasons::TlsFailure;

/// One connection, its handlers and the server's: three disjoint borrows, so that a payload may
/// lie in the connection's receiver while a handler runs.
pub(super) struct Dispatch<'a> {
    pub(super) core: &'a mut Core,
    pub(super) own: &'a mut Option<Box<Handlers>>,
    pub(super) handlers: &'a mut Handlers,
    pub(super) slot: usize,
}

impl Dispatch<'_> {
    /// Calls the handler for `E`, the connection's own or else the server's. `None` if there is
    /// none, or if it failed, which closes the connection.
    pub(super) fn emit<E: ConnectionEvent>(
        &mut self,
        payload: E::Payload<'_>,
    ) -> Option<E::Output> {
        match self.call::<E>(payload)? {
            Ok(output) => Some(output),
            Err(error) => {
                self.handler_failed(error);
                None
            }
        }
    }

    /// Returns whether there is a handler for `E`.
    pub(super) fn has<E: ConnectionEvent>(&mut self) -> bool {
        if let Err(error) = self.adopt_registered() {
            self.handler_failed(error);
        }
        let own = self
            .own
            .as_deref_mut()
            .is_some_and(|own| E::slot(own).is_some());
        own || E::slot(self.handlers).is_some()
    }

    fn call<E: ConnectionEvent>(
        &mut self,
        payload: E::Payload<'_>,
    ) -> Option<Result<E::Output, HandlerError>> {
        if let Err(error) = self.adopt_registered() {
            return Some(Err(error));
        }
        let own = self
            .own
            .as_deref_mut()
            .and_then(|own| E::slot(own).as_mut());
        let handler = match own {
            Some(handler) => handler,
            None => E::slot(self.handlers).as_mut()?,
        };
        let mut conn = Connection::new(self.core, self.slot);
        // Nothing that the closure borrows is left half-changed: the reactor's state is not
        // reachable from a handler but through methods that do not panic midway.
        let result = catch_unwind(AssertUnwindSafe(|| handler(&mut conn, payload)));
        Some(result.unwrap_or_else(|panic| Err(HandlerError::from_panic(&*panic))))
    }

    /// Moves the handlers that were set since the last event into place.
    #[inline]
    fn adopt_registered(&mut self) -> Result<(), HandlerError> {
        let peer = self.core.peers.get(self.slot);
        if !peer.is_some_and(Peer::has_registered) {
            return Ok(());
        }
        self.adopt_newer()
    }

    #[cold]
    fn adopt_newer(&mut self) -> Result<(), HandlerError> {
        let peer = self.core.peers.get_mut(self.slot);
        let Some(newer) = peer.and_then(|peer| peer.take_registered()) else {
            return Ok(());
        };
        let own = self.own.get_or_insert_default();
        let replace = AssertUnwindSafe(|| own.adopt(*newer));
        catch_unwind(replace).map_err(|panic| HandlerError::from_panic(&*panic))
    }

    /// A handler's error is the Perl ancestors' `die`: it ends its connection, never the server.
    pub(super) fn handler_failed(&mut self, error: HandlerError) {
        self.tell_failed("handler", &error);
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        if peer.phase == Phase::Opening {
            peer.refuse(500);
            peer.end(Ending::new(CloseCode::ABNORMAL, "", Cause::Handler));
            self.core.mark(self.slot);
        } else {
            self.core
                .close(self.slot, CloseCode::INTERNAL_ERROR, Cause::Handler);
        }
        self.fault(&Fault::Handler(error));
    }

    /// Tells the `Error` handler. If that fails itself, it is only logged.
    fn fault(&mut self, fault: &Fault) {
        if self.is_unannounced() {
            return;
        }
        if let Some(Err(error)) = self.call::<Error>(fault) {
            self.tell_failed("Error handler", &error);
        }
    }

    /// Fails the connection (RFC 6455, 7.1.7).
    pub(super) fn fail(&mut self, error: ProtocolError) {
        self.tell_breach(error);
        // Once a close began, only its end is told.
        if self
            .core
            .peers
            .get(self.slot)
            .is_some_and(|peer| peer.phase < Phase::Closing)
        {
            self.fault(&Fault::Protocol(error));
        }
        let (code, reason) = (error.close_code(), error.to_string());
        let ending = Ending::new(code, &reason, Cause::Protocol(error));
        // RFC 6455, 7.1.7: "an endpoint SHOULD send a Close frame with an appropriate status code
        // before proceeding to _Close the WebSocket Connection_". A handler may have sent one.
        self.close(code, &reason);
        self.send_awaited();
        self.leave(Some(ending));
    }

    /// Ends the connection because the server's memory is used up; it is told so if it is to be, and
    /// if it `asks` for something during the opening handshake.
    pub(super) fn run_out(&mut self, told: bool, asks: bool) {
        let Some(peer) = self.core.peers.get(self.slot) else {
            return;
        };
        let phase = peer.phase;
        self.core.stats.budget_closes += 1;
        if let Some(line) = self.core.admits(Topic::Other(Matter::BudgetClose)) {
            let text = format_args!("closed: memory_budget is used up");
            line.about(self.who(), text);
        }
        if phase == Phase::Opening && told && asks {
            return self.refuse(HandshakeError::NoMemory, None);
        }
        if phase < Phase::Closing {
            self.fault(&Fault::NoMemory);
        }
        let (code, cause) = (CloseCode::TRY_AGAIN_LATER, Cause::NoMemory);
        if told && phase > Phase::Opening {
            self.close(code, "");
            return self.leave(Some(Ending::new(code, "", cause)));
        }
        self.core.note_cut(self.slot);
        self.leave_cut(Ending::new(CloseCode::ABNORMAL, "", cause));
    }

    /// Tells, once, of a close that the slow-consumer policy began.
    pub(super) fn tell_slow_consumer(&mut self) {
        let peer = self.core.peers.get_mut(self.slot);
        if peer.is_some_and(|peer| peer.take_too_slow()) {
            self.fault(&Fault::SlowConsumer);
        }
    }

    /// The network failed: nothing can be sent any more.
    pub(super) fn lost(&mut self, error: std::io::Error) {
        let Some(peer) = self.core.peers.get(self.slot) else {
            return;
        };
        if peer.phase == Phase::Open || peer.backlog() > 0 {
            self.core.note_cut(self.slot);
        }
        let Some(peer) = self.core.peers.get(self.slot) else {
            return;
        };
        // Once the closing handshake is under way, a reset is how some peers say goodbye.
        if peer.phase < Phase::Closing {
            match peer.transport.tls_failure(&error) {
                Some(failure) => self.tell_tls(failure, Some(&error)),
                None => self.tell_end(format_args!("{error}")),
            }
            self.fault(&Fault::Io(error));
        }
        let peer = self.core.peers.get(self.slot);
        let is_new = peer.is_some_and(|peer| peer.phase < Phase::Lingering);
        let is_answered = is_new && self.answer_plain_http();
        let ending = Ending::new(CloseCode::ABNORMAL, "", Cause::Io);
        match is_answered {
            true => self.leave(Some(ending)),
            false => self.leave_cut(ending),
        }
    }

    /// The connection ended before a request, as those of probes do; `error` if it was reset.
    pub(super) fn probed(&mut self, error: Option<std::io::Error>) {
        self.tell_probe();
        let cause = if error.is_some() {
            Cause::Io
        } else {
            Cause::Eof
        };
        self.leave(Some(Ending::new(CloseCode::ABNORMAL, "", cause)));
        if error.is_some() {
            self.core.set_phase(self.slot, Phase::Gone);
        }
    }

    /// The peer sends nothing more.
    pub(super) fn eof(&mut self) {
        let Some(peer) = self.core.peers.get(self.slot) else {
            return;
        };
        if peer.phase == Phase::Opening && peer.transport.is_shaking_hands() {
            self.tell_tls(TlsFailure::Ended, None);
        } else if peer.phase == Phase::Opening && peer.unannounced {
            self.tell_header_cut();
        }
        let peer = self.core.peers.get(self.slot);
        if peer.is_some_and(|peer| peer.phase == Phase::Open) {
            self.emit::<PeerClose>(None);
        }
        self.send_awaited();
        self.leave(Some(Ending::new(CloseCode::ABNORMAL, "", Cause::Eof)));
    }

    /// The peer's Close frame came.
    pub(super) fn peer_close(&mut self, frame: CloseFrame<'_>) {
        let Some(peer) = self.core.peers.get(self.slot) else {
            return;
        };
        if peer.phase != Phase::Open {
            self.send_awaited();
            return self.leave(None);
        }
        self.emit::<PeerClose>(Some(frame));
        // RFC 6455, 5.5.1: "When sending a Close frame in response, the endpoint typically echos
        // the status code it received." The reason goes with it (decision 6).
        self.close(frame.code, frame.reason);
        if let Some(peer) = self.core.peers.get_mut(self.slot) {
            // The peer closed first, whatever its handler answered.
            peer.take_ending();
            peer.end(Ending::new(frame.code, frame.reason, Cause::Peer));
        }
        self.send_awaited();
        self.leave(None);
    }

    /// Ends the connection at once: nothing more is sent.
    pub(super) fn cut(&mut self, cause: Cause) {
        if let Cause::Handshake(error) = cause {
            self.tell_overdue(error);
            self.fault(&Fault::Handshake(error));
        }
        self.leave_cut(Ending::new(CloseCode::ABNORMAL, "", cause));
    }

    /// Delivers the `Disconnect`, once, of a connection to which nothing more is sent.
    fn leave_cut(&mut self, ending: Ending) {
        let unsent = self.core.unsent(self.slot);
        if unsent > 0
            && let Some(peer) = self.core.peers.get_mut(self.slot)
        {
            peer.lose_close();
        }
        self.leave_with(Some(ending), unsent);
        self.core.set_phase(self.slot, Phase::Gone);
    }

    /// Returns whether no event has told of the connection, because no header of the PROXY protocol
    /// has.
    fn is_unannounced(&self) -> bool {
        let peer = self.core.peers.get(self.slot);
        peer.is_some_and(|peer| peer.unannounced)
    }

    /// Refuses a connection that no event has told of; without a word where TLS was to come.
    pub(super) fn turn_away(&mut self, error: HandshakeError) {
        let peer = self.core.peers.get(self.slot);
        if peer.is_some_and(|peer| peer.transport.is_secure()) {
            let ending = Ending::new(CloseCode::ABNORMAL, "", Cause::Handshake(error));
            return self.leave_cut(ending);
        }
        self.send_refusal(error, None);
    }

    /// Delivers the `Disconnect`, once, and begins the drain. `ending` tells why, unless that is
    /// known from before.
    pub(super) fn leave(&mut self, ending: Option<Ending>) {
        self.leave_with(ending, 0);
    }

    /// Delivers the `Disconnect` as [`leave`](Self::leave) does; `unsent` bytes are lost.
    fn leave_with(&mut self, ending: Option<Ending>, unsent: usize) {
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        if peer.phase >= Phase::Lingering {
            return;
        }
        self.tell_slow_consumer();
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        let ending = peer.take_ending().or(ending);
        let ending = ending.unwrap_or_else(|| Ending::new(CloseCode::ABNORMAL, "", Cause::Cut));
        self.core.set_phase(self.slot, Phase::Lingering);
        self.core.mark(self.slot);
        self.tell_unsent();
        let Ending {
            code,
            reason,
            cause,
        } = ending;
        let disconnected = Disconnected {
            code,
            reason: &reason,
            cause,
            unsent,
        };
        self.tell_end(format_args!("{}", Clean(disconnected)));
        if !self.is_unannounced()
            && let Some(Err(error)) = self.call::<Disconnect>(disconnected)
        {
            self.tell_failed("Disconnect handler", &error);
        }
        // Its closures may hold what the application wants freed.
        drop_caught(self.own.take());
        drop_caught(self.core.timers.remove_of(self.slot));
    }

    /// Returns whether someone wants large and fragmented messages in pieces.
    pub(super) fn takes_pieces(&mut self) -> bool {
        self.has::<Fragment>()
    }

    /// Sends a Close frame, unless one was sent.
    fn close(&mut self, code: CloseCode, reason: &str) {
        let peer = self.core.peers.get(self.slot);
        if peer.is_some_and(|peer| peer.phase == Phase::Open) {
            // Both are the peer's own or short: this cannot fail.
            let _ = self.core.send_close(self.slot, code, reason);
        }
    }

    /// Answers a request: the checks, the two handlers, the 101 and `Ready`.
    pub(super) fn open(&mut self, request: Request) {
        if let Err(error) = self.core.identify(self.slot, &request) {
            return self.send_refusal(error, None);
        }
        let accept = match request.accept_key() {
            Ok(accept) => accept,
            Err(error) => return self.refuse_bad(request, error),
        };
        let request = Rc::new(request);
        let mut upgrade = Upgrade::new(request.clone(), accept);
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        peer.remember(request.clone());
        let secure = peer.is_client_secure();
        if !self.serves(&request) {
            return self.refuse(HandshakeError::HostNotServed, None);
        }
        if let Some(origins) = &self.core.config.origins
            && let Some(peer) = self.core.peers.get(self.slot)
            && !origins.allow(request.origin(), peer.asked_host(&request), secure)
        {
            // As with the list of hosts, the application has not refused it itself.
            self.fault(&Fault::Handshake(HandshakeError::OriginRefused));
            return self.refuse(HandshakeError::OriginRefused, None);
        }
        let verdict = self.emit::<Origin>(request.origin());
        // An answer that the handler gave comes before its verdict.
        if self.is_ending() {
            return;
        }
        if verdict == Some(Verdict::Refuse) {
            return self.refuse(HandshakeError::OriginRefused, None);
        }
        upgrade.choose_subprotocol(&self.core.config.subprotocols);
        #[cfg(feature = "deflate")]
        upgrade.set_deflate(self.core.compression.negotiate(&request));
        let verdict = self.emit::<Handshake>(&mut upgrade);
        if upgrade.subprotocol().is_none() && self.core.config.subprotocols.is_empty() {
            self.hint_subprotocols(&request);
        }
        drop(request);
        self.decide(upgrade, verdict);
    }

    /// Returns whether a request names a host of this server.
    pub(super) fn serves(&self, request: &Request) -> bool {
        let hosts = self.core.config.hosts.as_ref();
        let peer = self.core.peers.get(self.slot);
        hosts.is_none_or(|hosts| hosts.serve(peer.and_then(|peer| peer.asked_host(request))))
    }

    /// Carries out what was decided on an opening handshake; `None` accepts, as its absence does.
    pub(super) fn decide(&mut self, mut upgrade: Upgrade, verdict: Option<Verdict>) {
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
        if upgrade.is_deferred() {
            if let Some(peer) = self.core.peers.get_mut(self.slot) {
                peer.defer(upgrade);
            }
            return;
        }
        let mut answer = Vec::with_capacity(256);
        upgrade.encode((self.core.wall_clock)(), &mut answer);
        self.core.append(self.slot, &answer);
        self.core.set_phase(self.slot, Phase::Open);
        if let (Some(peer), Some(name)) =
            (self.core.peers.get_mut(self.slot), upgrade.subprotocol())
        {
            peer.set_subprotocol(name);
        }
        #[cfg(feature = "deflate")]
        if let Some(agreed) = upgrade.deflate() {
            let Core {
                peers, compression, ..
            } = &mut *self.core;
            if let Some(peer) = peers.get_mut(self.slot) {
                peer.set_deflate(*agreed, compression);
            }
        }
        drop(upgrade);
        if self.core.config.separate_switch {
            self.core.release_out(self.slot);
            let drain_at = self.core.config.drain_at;
            if let Some(peer) = self.core.peers.get_mut(self.slot) {
                peer.flush_early(drain_at);
            }
        }
        self.ready();
    }

    /// Tells that the opening handshake is done, and frees what was for it.
    pub(super) fn ready(&mut self) {
        self.emit::<Ready>(());
        let keep = self.core.config.keep_requests;
        let Some(peer) = self.core.peers.get_mut(self.slot) else {
            return;
        };
        peer.tidy(keep);
        if let Some(Leaving { code, called }) = self.core.leaving
            && peer.serial <= called
        {
            // Its turn in a drain came during the opening handshake.
            self.core.close(self.slot, code, Cause::Shutdown);
        }
    }

    /// Refuses the opening handshake, by `refusal` or else as the error asks for.
    pub(super) fn refuse(&mut self, error: HandshakeError, refusal: Option<Refusal>) {
        self.tell_refused(error);
        self.send_refusal(error, refusal);
    }

    /// Refuses the opening handshake, which was counted and logged.
    pub(super) fn send_refusal(&mut self, error: HandshakeError, refusal: Option<Refusal>) {
        // What the application refused itself is no error.
        if !matches!(
            error,
            HandshakeError::Refused(_) | HandshakeError::OriginRefused
        ) {
            self.fault(&Fault::Handshake(error));
        }
        let mut answer = Vec::new();
        let now = (self.core.wall_clock)();
        let refusal = refusal.unwrap_or_else(|| error.into());
        refusal.encode(now, &mut answer);
        self.core.append(self.slot, &answer);
        let ending = Ending::new(CloseCode::ABNORMAL, "", Cause::Handshake(error));
        self.leave(Some(ending));
    }

    /// Whether a handler refused the handshake or cut the connection.
    pub(super) fn is_ending(&self) -> bool {
        let Some(peer) = self.core.peers.get(self.slot) else {
            return true;
        };
        peer.is_cut() || peer.is_refused() || peer.phase >= Phase::Closing
    }
}

/// Drops values of the application, whose own `drop` may panic.
pub(super) fn drop_caught<T>(values: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(values))) {
        let error = HandlerError::from_panic(&*panic);
        let line = Line::of(Matter::Handler);
        line.write(format_args!(
            "dropping a value of the application: {}",
            Clean(error)
        ));
    }
}

/// Calls a handler of the server. Its failure is logged; there is no connection to close.
pub(crate) fn emit_hub<E>(core: &mut Core, handlers: &mut Handlers, payload: E::Payload<'_>)
where
    E: for<'t> Event<Target<'t> = crate::connection::Hub<'t>, Output = ()>,
{
    let Some(handler) = E::slot(handlers).as_mut() else {
        return;
    };
    let mut hub = crate::connection::Hub::new(core);
    let result = catch_unwind(AssertUnwindSafe(|| handler(&mut hub, payload)));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => core.tell_failed("handler of the server", &error),
        Err(panic) => {
            let error = HandlerError::from_panic(&*panic);
            core.tell_failed("handler of the server", &error);
        }
    }
}
