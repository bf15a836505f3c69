//! The server's side of the closing handshake.

use super::PeerMut;
use crate::close_code::CloseCode;
use crate::connection::event::Cause;
use crate::connection::peer::{Ending, Phase};
use crate::error::SendError;
use crate::protocol::CloseFrame;

impl PeerMut<'_> {
    /// Starts the closing handshake (RFC 6455, 7.1.2), or refuses the opening one if it is not
    /// done.
    pub(crate) fn disconnect(
        &mut self,
        code: CloseCode,
        reason: &str,
        cause: Cause,
    ) -> Result<usize, SendError> {
        let ending = Ending::new(code, reason, cause);
        let size = match self.peer.phase() {
            Phase::Opening => {
                CloseFrame { code, reason }.encode(&mut Vec::new())?;
                self.peer.refuse(403);
                self.peer.end(ending);
                0
            }
            Phase::Open => {
                let size = self.send_close(code, reason)?;
                self.enter(Phase::Closing, Some(ending));
                size
            }
            Phase::Closing | Phase::Lingering | Phase::Gone => return Ok(0),
        };
        self.mark_dirty();
        Ok(size)
    }

    /// Starts the closing handshake on behalf of the server, without a reason.
    pub(crate) fn close(&mut self, code: CloseCode, cause: Cause) {
        let done = self.disconnect(code, "", cause);
        debug_assert!(done.is_ok(), "the server's own codes can be sent");
    }

    /// Sends a Close frame, after everything that was sent before.
    pub(crate) fn send_close(&mut self, code: CloseCode, reason: &str) -> Result<usize, SendError> {
        let mut frame = Vec::new();
        self.peer.sender.close(code, reason, &mut frame)?;
        self.append(&frame);
        Ok(frame.len())
    }

    /// Cuts the connection: nothing more is sent, not even a Close frame.
    pub(crate) fn abort(&mut self) {
        self.peer.cut();
        self.peer.end(Ending::abnormal(Cause::Cut));
        self.leave_topics();
        self.mark_dirty();
    }
}
