//! Taking in what another HTTP server of the process has accepted.

use std::io::Write;
use std::time::SystemTime;

use super::full::Full;
use super::{Server, Source, State};
use crate::connection::{Adoption, Matter, Topic};
use crate::handshake::Refusal;
use crate::protocol::{CloseCode, Sender};
use crate::reactor::{Via, connection_tag};
use crate::transport::{Socket, Transport};

impl Server {
    /// Takes in the connections that were given to [`Hub::adopt`](crate::Hub::adopt) and its kind.
    pub(super) fn adopt(&mut self) {
        for adoption in std::mem::take(&mut self.reactor.core.adoptions) {
            let config = &self.reactor.core.config;
            let nodelay = config.nodelay;
            let full = Full::of(&self.reactor.core).is_some();
            if full || self.state != State::Running {
                if let Some(line) = self.reactor.core.admits(Topic::Other(Matter::Adoption)) {
                    line.write(format_args!(
                        "an adopted connection is turned away: there is no room, or the server goes down"
                    ));
                }
                turn_away(adoption, nodelay);
                continue;
            }
            let Adoption {
                stream,
                bytes,
                upgraded,
            } = adoption;
            let (socket, addr) = match stream.into_socket(nodelay) {
                Ok(adopted) => adopted,
                Err(error) => {
                    if let Some(line) = self.reactor.core.admits(Topic::Other(Matter::Adoption)) {
                        line.write(format_args!(
                            "an adopted connection cannot be used: {error}"
                        ));
                    }
                    continue;
                }
            };
            let reactor = &mut self.reactor;
            let core = &mut reactor.core;
            let via = match core.trusts(addr.map(|addr| addr.ip())) {
                true => Via::Proxy,
                false => Via::Direct,
            };
            if via == Via::Direct
                && let Err(error) = core.addresses.admit(addr, core.now, &mut core.stats)
            {
                core.tell_over_address(error, addr);
                refuse(socket, 429, upgraded.is_some());
                continue;
            }
            let (slot, serial) = reactor.take_in(Transport::Plain(socket), addr, via);
            let Some(peer) = reactor.core.peers.get_mut(slot) else {
                continue;
            };
            let token = Source::Connection(connection_tag(slot, serial)).token();
            let socket = peer.transport.socket_mut();
            match socket.register(self.poll.registry(), token) {
                Ok(()) => reactor.welcome_adopted(slot, bytes, upgraded),
                Err(error) => {
                    reactor.core.tell_unwatched(slot, &error);
                    reactor.dismiss(slot);
                }
            }
        }
    }
}

/// Tells a client that it cannot be served now, as far as its socket takes that at once.
fn turn_away(adoption: Adoption, nodelay: bool) {
    if let Ok((socket, _)) = adoption.stream.into_socket(nodelay) {
        refuse(socket, 503, adoption.upgraded.is_some());
    }
}

/// Tells a client without a connection why, by a status or by a Close frame.
pub(super) fn refuse(mut socket: Socket, status: u16, is_upgraded: bool) {
    let mut answer = Vec::new();
    match is_upgraded {
        false => Refusal::new(status).encode(SystemTime::now(), &mut answer),
        true => {
            // RFC 6455, 7.4 and the registry it begins: 1013 is "Try Again Later".
            let code = CloseCode::TRY_AGAIN_LATER;
            let closed = Sender::default().close(code, "", &mut answer);
            debug_assert!(closed.is_ok(), "1013 may be sent");
        }
    }
    let _ = socket.write(&answer);
}
