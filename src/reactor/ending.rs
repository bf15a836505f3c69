//! How connections end: by a fault, by the peer, or by a cut.

use std::io;

use super::dispatch::Dispatch;
use crate::close_code::CloseCode;
use crate::connection::event::{Cause, Disconnect, Disconnected, PeerClose};
use crate::connection::{Clean, Ending, Matter, Phase, Topic, drop_guarded};
use crate::error::{Fault, HandshakeError, ProtocolError};
use crate::protocol::CloseFrame;
use crate::reasons::TlsFailure;

impl Dispatch<'_> {
    /// Fails the connection (RFC 6455, 7.1.7).
    pub(super) fn fail(&mut self, error: ProtocolError) {
        self.log_breach(error);
        // After a close has begun, only the end is reported.
        if self.peer().phase() < Phase::Closing {
            self.fault(&Fault::Protocol(error));
        }
        let (code, reason) = (error.close_code(), error.to_string());
        let ending = Ending::new(code, &reason, Cause::Protocol(error));
        // RFC 6455, 7.1.7: "an endpoint SHOULD send a Close frame with an appropriate status code
        // before proceeding to _Close the WebSocket Connection_". A handler may have sent one
        // already.
        self.send_close(code, &reason);
        self.conn().send_awaited();
        self.leave(Some(ending));
    }

    /// Closes the connection to free the memory that it holds. A peer that reads is sent a Close
    /// frame, or an answer if it `asks` for something during the opening handshake. Nothing can be
    /// sent before the TLS handshake is done.
    pub(super) fn give_up(&mut self, asks: bool) {
        let mut conn = self.conn();
        if conn.peer.phase() >= Phase::Lingering {
            // The connection has ended already: only unsent data and input to discard are left.
            conn.note_cut();
            return conn.enter(Phase::Gone, None);
        }
        let told = conn.peer.reads() && !conn.peer.transport.is_handshaking();
        self.run_out(told, asks);
        if !told {
            self.conn().peer.drop_outbox();
        }
    }

    /// Ends the connection because the server's memory budget is used up.
    fn run_out(&mut self, told: bool, asks: bool) {
        let phase = self.peer().phase();
        let conn = self.conn();
        conn.shared.stats.budget_closes += 1;
        if let Some(line) = conn.shared.admits(Topic::Other(Matter::BudgetClose)) {
            let text = format_args!("closed: memory_budget is used up");
            line.about(conn.who(), text);
        }
        if phase == Phase::Opening && told && asks {
            return self.refuse(HandshakeError::NoMemory, None);
        }
        if phase < Phase::Closing {
            self.fault(&Fault::NoMemory);
        }
        let (code, cause) = (CloseCode::TRY_AGAIN_LATER, Cause::NoMemory);
        if told && phase > Phase::Opening {
            self.send_close(code, "");
            return self.leave(Some(Ending::new(code, "", cause)));
        }
        self.conn().note_cut();
        self.leave_cut(Ending::abnormal(cause));
    }

    /// Calls the `Error` handler, once, if the slow-consumer policy closed the connection.
    pub(super) fn tell_slow_consumer(&mut self) {
        if self.conn().peer.take_too_slow() {
            self.fault(&Fault::SlowConsumer);
        }
    }

    /// Ends the connection after a network error; nothing more can be sent.
    pub(super) fn lost(&mut self, error: io::Error) {
        let mut conn = self.conn();
        if conn.peer.phase() == Phase::Open || conn.peer.backlog() > 0 {
            conn.note_cut();
        }
        // During the closing handshake, a reset is the way in which some peers end a connection.
        if conn.peer.phase() < Phase::Closing {
            match conn.peer.transport.tls_failure(&error) {
                Some(failure) => self.log_tls(failure, Some(&error)),
                None => self.log_end(format_args!("{error}")),
            }
            self.fault(&Fault::Io(error));
        }
        let is_answered = self.peer().phase() < Phase::Lingering && self.answer_plain_http();
        let ending = Ending::abnormal(Cause::Io);
        match is_answered {
            true => self.leave(Some(ending)),
            false => self.leave_cut(ending),
        }
    }

    /// Ends a connection that closed before a request, as TCP probes do; `error` is set if it was
    /// reset.
    pub(super) fn probed(&mut self, error: Option<io::Error>) {
        self.log_probe();
        let cause = match error {
            Some(_) => Cause::Io,
            None => Cause::Eof,
        };
        self.leave(Some(Ending::abnormal(cause)));
        if error.is_some() {
            self.conn().enter(Phase::Gone, None);
        }
    }

    /// Handles the peer's FIN.
    pub(super) fn eof(&mut self) {
        let peer = self.peer();
        match peer.phase() {
            Phase::Opening if peer.transport.is_shaking_hands() => {
                self.log_tls(TlsFailure::Ended, None);
            }
            Phase::Opening if peer.is_unannounced() => self.log_header_cut(),
            Phase::Open => _ = self.emit::<PeerClose>(None),
            _ => {}
        }
        self.conn().send_awaited();
        self.leave(Some(Ending::abnormal(Cause::Eof)));
    }

    /// Handles the peer's Close frame.
    pub(super) fn peer_close(&mut self, frame: CloseFrame<'_>) {
        if self.peer().phase() == Phase::Open {
            self.emit::<PeerClose>(Some(frame));
            // RFC 6455, 5.5.1: "When sending a Close frame in response, the endpoint typically
            // echos the status code it received." The reason goes with it (decision 6).
            self.send_close(frame.code, frame.reason);
            let peer = self.conn().peer;
            // The peer closed first: its frame is reported, whatever the handler answered.
            peer.take_ending();
            peer.end(Ending::new(frame.code, frame.reason, Cause::Peer));
        }
        self.conn().send_awaited();
        self.leave(None);
    }

    /// Ends the connection at once; nothing more is sent.
    pub(super) fn cut(&mut self, cause: Cause) {
        if let Cause::Handshake(error) = cause {
            self.log_overdue(error);
            self.fault(&Fault::Handshake(error));
        }
        self.leave_cut(Ending::abnormal(cause));
    }

    /// Refuses a connection that no event has announced. With TLS it is cut without an answer.
    pub(super) fn turn_away(&mut self, error: HandshakeError) {
        match self.peer().transport.is_secure() {
            true => self.leave_cut(Ending::abnormal(Cause::Handshake(error))),
            false => self.send_refusal(error, None),
        }
    }

    /// Delivers the `Disconnect`, once, of a connection to which nothing more is sent.
    fn leave_cut(&mut self, ending: Ending) {
        let conn = self.conn();
        let unsent = conn.unsent();
        if unsent > 0 {
            conn.peer.lose_close();
        }
        self.leave_with(Some(ending), unsent);
        self.conn().enter(Phase::Gone, None);
    }

    /// Delivers the `Disconnect`, once; queued data is still sent. `ending` gives the reason,
    /// unless one was recorded before.
    pub(super) fn leave(&mut self, ending: Option<Ending>) {
        self.leave_with(ending, 0);
    }

    /// Delivers the `Disconnect` as [`leave`](Self::leave) does, and reports `unsent` bytes as
    /// lost.
    fn leave_with(&mut self, ending: Option<Ending>, unsent: usize) {
        if self.peer().phase() >= Phase::Lingering {
            return;
        }
        self.tell_slow_consumer();
        let mut conn = self.conn();
        let ending = conn.peer.take_ending().or(ending);
        let ending = ending.unwrap_or_else(|| Ending::abnormal(Cause::Cut));
        conn.enter(Phase::Lingering, None);
        conn.mark_dirty();
        self.complete_all();
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
        self.log_end(format_args!("{}", Clean(disconnected)));
        if !self.peer().is_unannounced()
            && let Some(Err(error)) = self.call::<Disconnect>(disconnected)
        {
            self.log_failed("Disconnect handler", &error);
        }
        // The closures may hold values that the application wants freed.
        drop_guarded(self.own.take());
        let slot = self.slot;
        drop_guarded(self.core.shared.timers.remove_of(slot));
    }

    /// Sends a Close frame if the connection is open.
    fn send_close(&mut self, code: CloseCode, reason: &str) {
        let mut conn = self.conn();
        if conn.peer.phase() == Phase::Open {
            // Code and reason are the peer's own or short, so this cannot fail.
            let _ = conn.send_close(code, reason);
        }
    }
}
