//! The header of the PROXY protocol, which precedes everything else on a connection.

use super::Reactor;
use super::input_half::Flags;
use crate::error::HandshakeError;
use crate::proxy::Header;

impl Reactor {
    /// Takes the header, or a part of it, from `input`.
    pub(super) fn read_header(&mut self, slot: usize, input: &mut &mut [u8]) {
        let Some(half) = self.halves.get_mut(slot) else {
            return;
        };
        let mut bytes = half.take_header();
        let before = bytes.len();
        let came = input.len().min(Header::MAX_SIZE.saturating_sub(before));
        bytes.extend_from_slice(input.get(..came).unwrap_or_default());
        let used = match Header::read(&bytes) {
            Ok(None) => {
                half.keep_header(bytes);
                came
            }
            Ok(Some((header, used))) => {
                let used = used.saturating_sub(before);
                *input = std::mem::take(input).get_mut(used..).unwrap_or_default();
                return self.name(slot, &header, input);
            }
            Err(_) => {
                if let Some(mut dispatch) = self.dispatch(slot) {
                    dispatch.log_bad_header(&bytes);
                    dispatch.turn_away(HandshakeError::BadProxyHeader);
                }
                input.len()
            }
        };
        *input = std::mem::take(input).get_mut(used..).unwrap_or_default();
    }

    /// Continues with a connection whose client is known now: begins TLS, if any, and delivers
    /// `Connect`.
    fn name(&mut self, slot: usize, header: &Header, input: &mut &mut [u8]) {
        let Some((half, mut conn)) = self.both(slot) else {
            return;
        };
        if let Err(error) = conn.note_header(header) {
            *input = &mut [];
            if let Some(mut dispatch) = self.dispatch(slot) {
                dispatch.turn_away(error);
            }
            return;
        }
        if conn.peer.transport.begin(input) {
            // The TLS session has the bytes now, and no event will report them.
            *input = &mut [];
            half.flags.set(Flags::READABLE);
        }
        conn.peer.set_unannounced(false);
        self.connect(slot);
    }
}
